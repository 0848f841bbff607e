"""Which models stay loaded, for how long, and which one makes room."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rkllama_flask.engine.jobs import ModelSpec
from rkllama_flask.engine.models.speeds import Speed
from rkllama_flask.promptcache.prefix import Content
from rkllama_flask.runtime.context import Context

Running = Callable[[Context, float], AbstractContextManager[None]]
"""Stands around each run of a context, so that others may abort it meanwhile; with the seconds its prompt may take."""


@dataclass(eq=False)
class Loaded:
    """A model in memory. Monotonic seconds; `keep_alive` infinite means until it is unloaded by name.

    `held` is what its KV cache is known to begin with, `cache_file` the prompt cache that was loaded last.
    """

    spec: ModelSpec
    context: Context
    keep_alive: float
    loaded_at: float = field(default_factory=time.monotonic)
    last_used: float = field(default_factory=time.monotonic)
    held: Content | None = None
    cache_file: Path | None = None
    speed: Speed = field(default_factory=Speed)

    @property
    def expires(self) -> float:
        return self.last_used + self.keep_alive

    def serves(self, spec: ModelSpec, least_context: int) -> bool:
        """Whether it holds these weights and a context of so many tokens; more is no reason to load it again."""
        return self.spec.same_weights(spec) and least_context <= self.spec.context_length


class ResidentModel(NamedTuple):
    """A loaded model as others may see it. Monotonic seconds; `expires` is None for one that stays.

    `context_length` in tokens is the handle's, which may be a little less than what the spec asked for.
    """

    spec: ModelSpec
    context_length: int
    loaded_at: float
    expires: float | None


def snapshot(models: Sequence[Loaded]) -> tuple[ResidentModel, ...]:
    return tuple(
        ResidentModel(m.spec, m.context.context_length, m.loaded_at, None if math.isinf(m.keep_alive) else m.expires)
        for m in sorted(models, key=lambda m: -m.last_used)
    )


def choose_evictions(models: Sequence[Loaded], *, needed: int, available: int, limit: int) -> list[Loaded]:
    """The models to unload, least recently used first, so that one more of `needed` bytes fits.

    `available` is the free memory in bytes. An unloaded model gives back about its file's size.
    """
    evicted: list[Loaded] = []
    by_age = sorted(models, key=lambda m: m.last_used)
    while by_age and (len(by_age) >= limit or available < needed):
        oldest = by_age.pop(0)
        available += oldest.spec.size
        evicted.append(oldest)
    return evicted


def available_memory() -> int:
    """Free memory in bytes by the kernel's own estimate (MemAvailable); a very large number where there is none."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123 — runs on the native thread, kept plain
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 1 << 62
