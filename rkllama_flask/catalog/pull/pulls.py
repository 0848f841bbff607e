"""The server's side of pulls: one child process per model, however many ask, ended when all of them have left."""

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rkllama_flask.catalog.catalog import Catalog
from rkllama_flask.catalog.model import Model
from rkllama_flask.catalog.pull.source import Source, parse_source
from rkllama_flask.catalog.reading import names
from rkllama_flask.catalog.reading.pulled import pulled_names
from rkllama_flask.errors import PullFailed, QueueFull, RkllamaError

logger = logging.getLogger(__name__)

TICK = 0.5
"""Seconds of silence after which a watcher hears that there is nothing new."""

MOST = 4
"""Pulls at once; each is a process of some 60 MB, and more would not come faster."""

Step = dict[str, Any]
"""`status`, and while bytes come `digest`, `total` and `completed`, in bytes: as Ollama streams it."""

Conclude = Callable[["_Pull", Step], "Step | PullFailed"]

BEGIN: Step = {"status": "pulling manifest"}
_SUCCESS: Step = {"status": "success"}
_ROOT = Path(__file__).resolve().parents[3]
_UNREACHABLE = 502


class Pulls:
    """Fetches models for whoever asks. May be used from several threads, or several greenlets, at once.

    `endpoint` is the hub or a mirror of it, `token` the hub's; `platform` is the NPU to choose files for, None to read
    it from the device tree.
    """

    def __init__(
        self, catalog: Catalog, *, endpoint: str, token: str | None = None, platform: str | None = None
    ) -> None:
        self._catalog = catalog
        self._command = [sys.executable, "-m", "rkllama_flask.catalog.pull", "--models-dir", str(catalog.models_dir)]
        self._command += ["--platform", platform] if platform else []
        self._environment = {"HF_ENDPOINT": endpoint} | ({"HF_TOKEN": token} if token else {})
        self._lock = threading.Lock()
        self._running: dict[str, _Pull] = {}

    def pull(self, name: str) -> "Watch":
        """Begin a pull, or join the one that runs.

        A name that isn't the hub's but a model's here is no work. Raises InvalidRequest for what can't be a name, and
        QueueFull.
        """
        source = parse_source(name)
        if self._is_local(name, source):
            return Watch(_Pull.ended(_SUCCESS))
        if source is None:
            return Watch(
                _Pull.ended(
                    PullFailed(
                        "pull model manifest: file does not exist: models come from Hugging Face, as org/repo or "
                        "hf.co/org/repo, either with :file or :quantisation",
                        status=404,
                    )
                )
            )
        with self._lock:
            running = self._running.get(source.key)
            if running is None or not running.join():
                if len(self._running) >= MOST:
                    raise QueueFull(f"{MOST} models are being pulled already: try again when one of them is here.")
                running = self._running[source.key] = _Pull(source)
                running.start([*self._command, "--", source.text], os.environ | self._environment, self._conclude)
        return Watch(running)

    def find(self, name: str) -> Model:
        """The model that was pulled by this name. Raises as `Catalog.find`."""
        source = parse_source(name)
        place = pulled_names(self._catalog.models_dir).get(source.key) if source else None
        found = (model for model in self._catalog.list() if place and model.path == self._catalog.models_dir / place)
        return next(found, None) or self._catalog.find(name)

    def _is_local(self, name: str, source: Source | None) -> bool:
        """Whether this is the name of a model that didn't come from the hub under it."""
        try:
            found = self._catalog.find(name)
        except RkllamaError:
            return False
        return source is None or found.name.lower() == names.parse(name).key

    def _conclude(self, pull: "_Pull", last: Step) -> "Step | PullFailed":
        """What the last line of a child means; afterwards the catalog knows what came."""
        assert pull.source is not None
        with self._lock:
            if self._running.get(pull.source.key) is pull:
                del self._running[pull.source.key]
        self._catalog.refresh()
        if last == _SUCCESS:
            return _SUCCESS
        failure = PullFailed(str(last.get("error")), status=int(last.get("code", 500)))
        if failure.status == _UNREACHABLE and self._is_here(pull.source):
            logger.warning("%s is here, and was not looked up again: %s", pull.source.text, failure)
            return _SUCCESS
        return failure

    def _is_here(self, source: Source) -> bool:
        try:
            self.find(source.text)
        except RkllamaError:
            return False
        return True


class Watch(Iterator["Step | None"]):
    """The steps of a pull as one of its askers sees them; None after each half second of silence.

    Progress that came while nobody looked is told once, as it is then. Ends after success; raises PullFailed.
    """

    def __init__(self, pull: "_Pull") -> None:
        self._pull = pull
        self._seen = 0
        self._pending: list[Step] = []
        self._closed = False

    def __next__(self) -> Step | None:
        if self._closed:
            raise StopIteration
        if not self._pending:
            self._seen, self._pending = self._pull.since(self._seen)
        if self._pending:
            return self._pending.pop(0)
        end = self._pull.end
        if end is None:
            return None
        self.close()
        if isinstance(end, PullFailed):
            raise end
        return end

    def close(self) -> None:
        """Leave. A pull that everybody has left is ended; what it fetched stays for the next."""
        if not self._closed:
            self._closed = True
            self._pull.leave()


class _Pull:
    """One child process, and what it has told."""

    def __init__(self, source: Source | None = None) -> None:
        self.source = source
        self.end: Step | PullFailed | None = None
        self._changed = threading.Condition()
        self._steps: dict[str, tuple[int, Step]] = {"": (1, BEGIN)}
        self._told = 1
        self._askers = 1
        self._process: subprocess.Popen[str] | None = None

    @classmethod
    def ended(cls, end: "Step | PullFailed") -> "_Pull":
        pull = cls()
        pull.end = end
        return pull

    def start(self, command: list[str], environment: dict[str, str], conclude: Conclude) -> None:
        """Start the child; `conclude` turns its last line into the end."""
        threading.Thread(target=self._run, args=(command, environment, conclude), daemon=True).start()

    def join(self) -> bool:
        """Be one more asker; False if everybody had left already."""
        with self._changed:
            self._askers += self._askers > 0
            return self._askers > 0

    def leave(self) -> None:
        with self._changed:
            self._askers -= 1
            if self._askers == 0 and self._process is not None and self.end is None:
                self._process.kill()

    def since(self, seen: int) -> tuple[int, list[Step]]:
        """What was told since then, and a number for now. Waits for TICK at most."""
        with self._changed:
            if seen == self._told and self.end is None:
                self._changed.wait(TICK)
            news = sorted(self._steps.values(), key=lambda told: told[0])
            return self._told, [step for number, step in news if number > seen]

    def _run(self, command: list[str], environment: dict[str, str], conclude: Conclude) -> None:
        try:
            last = self._follow(command, environment)
        except OSError as error:
            last = {"error": f"The pull can't be started: {error.strerror or error}."}
        try:
            end = conclude(self, last)
        except Exception as error:
            logger.exception("unexpected error at the end of a pull")
            end = PullFailed(f"The models folder can't be read: {error}")
        with self._changed:
            self.end = end
            self._changed.notify_all()

    def _follow(self, command: list[str], environment: dict[str, str]) -> Step:
        """Read the child to its end; its last step."""
        with subprocess.Popen(
            command,
            env=environment,
            cwd=_ROOT,
            stdin=subprocess.PIPE,  # the child ends with it, and so with this process
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        ) as process:
            with self._changed:
                self._process = process
                if self._askers == 0:
                    process.kill()
            last: Step = {"error": "The pull ended before it was done."}
            assert process.stdout is not None
            for line in process.stdout:
                try:
                    step = json.loads(line)
                except ValueError:
                    step = None
                if not isinstance(step, dict):
                    logger.warning("pull: %s", line.rstrip())
                    continue
                last = step
                if "error" not in step and step != _SUCCESS:
                    self._tell(step)
                    last = {"error": "The pull ended before it was done; pull again: it goes on where it stopped."}
        return last

    def _tell(self, step: Step) -> None:
        with self._changed:
            self._told += 1
            self._steps[step["status"]] = (self._told, step)
            self._changed.notify_all()
