"""`conf/inference_config.json`: sampling and hardware values that an operator may edit while the server runs."""

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rkllama_flask.sampling import Sampling

_STRING = r'("(?:\\.|[^"\\])*")'
_COMMENT = re.compile(_STRING + r"|//[^\n]*")
_LAST_COMMA = re.compile(_STRING + r"|,(?=\s*[}\]])")
_LOOK_EVERY = 1.0
"""Seconds between two looks at the file's time of change."""

DEFAULT_MAX_NEW_TOKENS = 4096
"""Small models like to repeat themselves without end, and meanwhile nobody else is answered."""

_RANGES: dict[str, tuple[float, float]] = {
    "top_k": (0, 1_000_000),
    "top_p": (0, 1),
    "temperature": (0, 100),
    "repeat_penalty": (0, 100),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
    "mirostat": (0, 2),
    "mirostat_tau": (0, 100),
    "mirostat_eta": (0, 1),
    "max_new_tokens": (0, 1 << 20),
    "num_npu_cores": (1, 3),
    "enabled_cpus_mask": (1, 0xFF),
    "num_threads": (1, 8),
}
_INTEGERS = {"top_k", "mirostat", "max_new_tokens", "num_npu_cores", "enabled_cpus_mask", "num_threads"}
_SAMPLING = {field.name for field in fields(Sampling)}
_SECTIONS = {
    "inference_params": _SAMPLING | {"max_new_tokens"},
    "hardware": {"num_npu_cores", "enabled_cpus_mask", "num_threads"},
}


@dataclass(frozen=True)
class InferenceConfig:
    """What the file says; None where it says nothing, which leaves the runtime's own value.

    `max_new_tokens` is the limit of answers for which none was asked, 0: only the context's.
    `cpus` are the core numbers of `enabled_cpus_mask`. `npu_cores` is only compared with the model, which fixes them.
    """

    sampling: Sampling = Sampling()
    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    cpus: tuple[int, ...] | None = None
    npu_cores: int | None = None


def parse(text: str) -> InferenceConfig:
    """Read the file's text: JSON that may have `//` comments and a comma after the last value.

    Raises ValueError, naming the key at fault.
    """
    for extra in (_COMMENT, _LAST_COMMA):
        text = extra.sub(lambda match: match.group(1) or "", text)
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError("the file must hold one JSON object")  # noqa: TRY004 — one error type for the reader
    for section in values:
        if section not in _SECTIONS:
            raise ValueError(f"'{section}' is not a section; there are {', '.join(_SECTIONS)}")
    inference = _section(values, "inference_params")
    hardware = _section(values, "hardware")
    mask = hardware.get("enabled_cpus_mask")
    cpus = None if mask is None else tuple(cpu for cpu in range(8) if mask >> cpu & 1)
    threads = hardware.get("num_threads")
    if threads is not None and cpus is None:
        cpus = tuple(range(8 - threads, 8))  # big cores have the high numbers on RK3588 and RK3576
    if threads is not None and cpus is not None and len(cpus) != threads:
        raise ValueError(f"num_threads is {threads}, but enabled_cpus_mask enables {len(cpus)} CPUs")
    return InferenceConfig(
        sampling=Sampling(**{name: inference[name] for name in _SAMPLING if name in inference}),
        max_new_tokens=inference.get("max_new_tokens", DEFAULT_MAX_NEW_TOKENS),
        cpus=cpus,
        npu_cores=hardware.get("num_npu_cores"),
    )


def _section(values: dict[str, Any], name: str) -> dict[str, Any]:
    section = values.get(name, {})
    if not isinstance(section, dict):
        raise ValueError(f"'{name}' must be an object")  # noqa: TRY004
    said = {key: value for key, value in section.items() if value is not None}
    for key, value in said.items():
        if key not in _SECTIONS[name]:
            raise ValueError(f"'{key}' is not known in {name}; there are {', '.join(sorted(_SECTIONS[name]))}")
        low, high = _RANGES[key]
        kind = int if key in _INTEGERS else (int, float)
        if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
            what = "a whole number" if key in _INTEGERS else "a number"
            raise ValueError(f"{key} must be {what} from {low:g} to {high:g}, not {json.dumps(value)}")
    return said


class LiveConfig:
    """The file as it is now. A broken edit keeps the last good values and is told to `on_warning` once.

    For greenlets and threads that serve requests, never for the engine thread: `on_warning` may log.
    """

    def __init__(self, path: Path, *, on_warning: Callable[[str], None] | None = None) -> None:
        self._path = path
        self._on_warning = on_warning
        self._config = InferenceConfig()
        self._error: str | None = None
        self._changed: tuple[int, int] | None = None
        self._looked = -_LOOK_EVERY
        self._looking = threading.Lock()

    @property
    def error(self) -> str | None:
        """What is wrong with the file as it is now; None if nothing is."""
        self.current()
        return self._error

    def current(self) -> InferenceConfig:
        """The values in force. The file is looked at once a second at most."""
        if time.monotonic() - self._looked >= _LOOK_EVERY and self._looking.acquire(blocking=False):
            try:
                self._looked = time.monotonic()
                self._look()
            finally:
                self._looking.release()
        return self._config

    def _look(self) -> None:
        try:
            stat = self._path.stat()
            changed = (stat.st_mtime_ns, stat.st_size)
            if changed == self._changed:
                return
            self._changed = changed
            self._config = parse(self._path.read_text(encoding="utf-8"))
            self._error = None
        except FileNotFoundError:
            self._config, self._changed, self._error = InferenceConfig(), None, None
        except (OSError, ValueError, RecursionError) as error:
            self._complain(f"{self._path.name} is not used, the last good values are: {error}")

    def _complain(self, error: str) -> None:
        if error != self._error and self._on_warning is not None:
            self._on_warning(error)
        self._error = error
