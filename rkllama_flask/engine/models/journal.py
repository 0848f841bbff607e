"""What the next process must know if the runtime kills this one: its model, and what it was doing.

The engine thread writes it; it holds a hash of the request, never its text. A process that crashed leaves it behind; it
is read once the NPU is ours, because a reload overlaps two processes.

Models come and go seldom: they stand in a file that is replaced as a whole. What is being done changes twice a run, and
replacing a file would be the dearest part of it: it stands on the first line of a second file, in place. One small
write is whole whenever the process dies.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

from rkllama_flask.engine.jobs import ModelSpec
from rkllama_flask.sampling import Sampling

CRASHES_UNTIL_REFUSED = 2
MOST_LIMITS = 64
"""Models whose largest context is remembered; the oldest goes first."""


class Journal:
    """`crashes` counts, by key, how often a load or a request has killed a process; `resident` is the model to load
    again, with its keep-alive in seconds, None where there is none; `context_limits` are in tokens, by identity.

    `supervisor` names who replaces this process, empty if nobody does: a successor under the same one goes on with the
    model also where this process ends in good order, as for a reload.
    """

    def __init__(self, path: Path | None) -> None:
        self.supervisor = ""
        self._path = path
        self._doing_path = path and path.with_suffix(".doing")
        self._doing_file: int | None = None
        self.crashes: dict[str, int] = {}
        self.context_limits: dict[str, int] = {}
        self.resident: tuple[ModelSpec, float] | None = None
        self._doing: str | None = None
        self._left = False

    @property
    def found(self) -> bool:
        """Whether a process has left something, or is at work."""
        return self._path is not None and self._path.exists()

    def recover(self) -> tuple[ModelSpec, float] | None:
        """Read what a process left that has ended: its model and that one's keep-alive, to be loaded again.

        What it was doing if it died counts as a crash of that load or request. What another version has left may be
        written otherwise, and is nothing then.
        """
        left = self._read()
        try:
            self.crashes = {str(key): int(count) for key, count in left.get("crashes", {}).items()}
            self.context_limits |= {str(key): int(limit) for key, limit in left.get("context_limits", {}).items()}
            resident = self._resident_in(left)
        except (AttributeError, KeyError, TypeError, ValueError):
            self.crashes, resident = {}, None
        doing = self._read_doing()
        if doing:
            self.crashes[doing] = self.crashes.get(doing, 0) + 1
            self._write()
            self._write_doing("")
        return resident

    def refuses(self, key: str) -> bool:
        return self.crashes.get(key, 0) >= CRASHES_UNTIL_REFUSED

    def begin(self, key: str) -> None:
        """About to do what `key` names."""
        self._doing = key
        self._write_doing(key)

    def end(self) -> None:
        """It is over, and this process lives."""
        if self._doing and self.crashes.pop(self._doing, None):
            self._write()
        self._doing = None
        self._write_doing("")

    def keep(self, spec: ModelSpec | None, keep_alive: float = math.inf) -> None:
        """Remember the model to load again; None when there is none."""
        self.resident = (spec, keep_alive) if spec else None
        self._write()

    def leave(self, spec: ModelSpec, keep_alive: float) -> None:
        """The last entry: this process is to be replaced, and its successor loads this model."""
        self.keep(spec, keep_alive)
        self._left = True

    def limit(self, identity: str, tokens: int) -> None:
        """Remember the largest context that a model takes, for the next process too."""
        self.context_limits.pop(identity, None)
        self.context_limits[identity] = tokens
        while len(self.context_limits) > MOST_LIMITS:
            del self.context_limits[next(iter(self.context_limits))]
        self._write()

    def forgive(self) -> int:
        """Forget all crashes, because the operator says so; how many loads and requests had one."""
        count, self.crashes = len(self.crashes), {}
        if count:
            self._write()
        return count

    def close(self, resident: tuple[ModelSpec, float] | None) -> None:
        """This process ends in good order; `resident` is for a successor under the same supervisor."""
        if self._left:
            return
        self.resident = resident if self.supervisor else None
        self._doing = None
        if self._doing_file is not None:
            os.close(self._doing_file)
            self._doing_file = None
        if self._doing_path is not None:
            self._doing_path.unlink(missing_ok=True)
        if self.crashes or self.context_limits or self.resident or self._path is None:
            self._write(ended=True)
        else:
            self._path.unlink(missing_ok=True)

    def _resident_in(self, left: dict[str, Any]) -> tuple[ModelSpec, float] | None:
        if "model" not in left or left.get("ended", self.supervisor) != self.supervisor:
            return None
        keep_alive = left["keep_alive"]
        return _spec_from_json(left["model"]), math.inf if keep_alive is None else float(keep_alive)

    def _read(self) -> dict[str, Any]:
        if self._path is None:
            return {}
        try:
            left = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return left if isinstance(left, dict) else {}

    def _read_doing(self) -> str:
        try:
            return self._doing_path.read_text(encoding="utf-8").partition("\n")[0] if self._doing_path else ""
        except (OSError, ValueError):
            return ""

    def _write_doing(self, key: str) -> None:
        if self._doing_path is None or self._left:
            return
        try:
            if self._doing_file is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
                self._doing_file = os.open(self._doing_path, flags, 0o600)
            os.pwrite(self._doing_file, f"{key}\n".encode(), 0)
        except OSError as error:
            self._give_up(error)

    def _write(self, *, ended: bool = False) -> None:
        if self._path is None or self._left:
            return
        state: dict[str, Any] = {"crashes": self.crashes, "context_limits": self.context_limits}
        if ended:
            state["ended"] = self.supervisor
        if self.resident:
            spec, keep_alive = self.resident
            state["model"] = _spec_to_json(spec)
            state["keep_alive"] = None if math.isinf(keep_alive) else keep_alive
        partial = f"{self._path}.{os.getpid()}"
        try:
            file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.write(file, json.dumps(state).encode())
            finally:
                os.close(file)
            os.replace(partial, self._path)  # noqa: PTH105 — plain calls on the native thread
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """A full or read-only disk costs the restoring, not the service."""
        self._path = self._doing_path = None
        told = f"{error.filename or 'The journal'} can't be written: {error.strerror}."
        os.write(2, f"rkllama-flask: {told} After a crash no model is loaded again.\n".encode())


def _spec_to_json(spec: ModelSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "path": str(spec.path),
        "format": spec.format,
        "identity": spec.identity,
        "context_length": spec.context_length,
        "size": spec.size,
        "sampling": spec.sampling.said(),
        "eos_token_ids": sorted(spec.eos_token_ids),
        "adapters": [[str(path), scale] for path, scale in spec.adapters],
        "cpus": spec.cpus,
    }


def _spec_from_json(values: dict[str, Any]) -> ModelSpec:
    return ModelSpec(
        name=values["name"],
        path=Path(values["path"]),
        format=values["format"],
        identity=values["identity"],
        context_length=values["context_length"],
        size=values["size"],
        sampling=Sampling(**values["sampling"]),
        eos_token_ids=frozenset(values["eos_token_ids"]),
        adapters=tuple((Path(path), scale) for path, scale in values["adapters"]),
        cpus=tuple(values["cpus"]) if values["cpus"] else None,
    )
