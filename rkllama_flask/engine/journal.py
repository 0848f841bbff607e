"""What the next process must know if the runtime kills this one: its model, and what it was doing.

The engine thread writes it, atomically, before each load and run; it holds a hash of the request, never its text.
A process that crashed leaves it behind; it is read once the NPU is ours, because a reload overlaps two processes.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

from rkllama_flask.engine.jobs import ModelSpec
from rkllama_flask.runtime.sampling import Sampling

CRASHES_UNTIL_REFUSED = 2


class Journal:
    """`crashes` counts, by key, how often a load or a request has killed a process."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.crashes: dict[str, int] = {}
        self._resident: tuple[ModelSpec, float] | None = None
        self._doing: str | None = None
        self._left = False

    def recover(self) -> tuple[ModelSpec, float] | None:
        """Read what a dead process left: its model and that one's keep-alive in seconds, to be loaded again.

        What it was doing when it died counts as a crash of that load or request.
        """
        left = self._read()
        self.crashes = {str(key): int(count) for key, count in left.get("crashes", {}).items()}
        doing = left.get("doing")
        if doing:
            self.crashes[doing] = self.crashes.get(doing, 0) + 1
            self._write()
        if "model" not in left:
            return None
        keep_alive = left["keep_alive"]
        return _spec_from_json(left["model"]), math.inf if keep_alive is None else float(keep_alive)

    def refuses(self, key: str) -> bool:
        return self.crashes.get(key, 0) >= CRASHES_UNTIL_REFUSED

    def begin(self, key: str) -> None:
        """About to do what `key` names."""
        self._doing = key
        self._write()

    def end(self) -> None:
        """It is over, and this process lives."""
        if self._doing:
            self.crashes.pop(self._doing, None)
        self._doing = None
        self._write()

    def keep(self, spec: ModelSpec | None, keep_alive: float = math.inf) -> None:
        """Remember the model to load again; None when there is none."""
        self._resident = (spec, keep_alive) if spec else None
        self._write()

    def leave(self, spec: ModelSpec, keep_alive: float) -> None:
        """The last entry: this process is to be replaced, and its successor loads this model."""
        self.keep(spec, keep_alive)
        self._left = True

    def forgive(self) -> int:
        """Forget all crashes, because the operator says so; how many loads and requests had one."""
        count, self.crashes = len(self.crashes), {}
        self._write()
        return count

    def close(self) -> None:
        """This process ends in good order: nothing is to be restored."""
        if self._left:
            return
        self._resident = self._doing = None
        if self.crashes or self._path is None:
            self._write()
        else:
            self._path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        if self._path is None:
            return {}
        try:
            left = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return left if isinstance(left, dict) else {}

    def _write(self) -> None:
        if self._path is None or self._left:
            return
        state: dict[str, Any] = {"crashes": self.crashes}
        if self._doing:
            state["doing"] = self._doing
        if self._resident:
            spec, keep_alive = self._resident
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
        except OSError:
            self._path = None  # a full or read-only disk costs the restoring, not the service


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
