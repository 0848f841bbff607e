"""The runtime library without a server: same model, prompt and sampling, through our binding, in its own process."""

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from scripts.benchmarks.client import Answer


class Unavailable(Exception):
    """The runtime can't be asked directly; the sentence says why."""


@dataclass(frozen=True)
class Subject:
    """A model on this machine as a server of ours would load it."""

    model: Any
    library: Path
    context_length: int

    def prompt(self, messages: Sequence[dict[str, str]]) -> str | list[int]:
        """What our server hands to the runtime for these messages."""
        from rkllama_flask.generation.prompts import Prompts
        from rkllama_flask.generation.request import GenerationRequest, Message

        asked = tuple(Message(one["role"], one["content"]) for one in messages)  # type: ignore[arg-type]
        content = Prompts().build(GenerationRequest(model=self.model, messages=asked)).content
        return content if isinstance(content, str) else list(content)


def find(name: str, *, context_length: int | None) -> Subject:
    """The model of that name in this installation's folder. Raises Unavailable."""
    from rkllama_flask.catalog.catalog import Catalog
    from rkllama_flask.errors import RkllamaError
    from rkllama_flask.settings import Settings, SettingsError

    try:
        settings = Settings.from_environment()
        model = Catalog(settings.models_dir).find(name)
    except (SettingsError, RkllamaError, OSError) as error:
        raise Unavailable(f"The model's file is not on this machine: {error}") from error
    library = settings.rkllm_lib_path if model.format == "rkllm" else settings.cpu_runtime_path
    if library is None:
        raise Unavailable(f"There is no runtime library for .{model.format} models on this machine.")
    own = model.modelfile.context_length or min(model.context_length, settings.max_context_length)
    return Subject(model, library, context_length or own)


class BareRuntime:
    """One loaded model in a process of its own; `load_seconds` is how long that took."""

    def __init__(self, subject: Subject) -> None:
        """Load it. Raises Unavailable with the library's reason."""
        ours, theirs = multiprocessing.Pipe()
        spawn = multiprocessing.get_context("spawn")  # nothing of this process: no threads, no open sockets
        self._process = spawn.Process(target=_serve, args=(theirs, subject), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe = ours
        self.load_seconds: float = self._receive()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def run(self, prompt: str | Sequence[int], *, max_tokens: int) -> Answer:
        """One greedy answer. Raises Unavailable."""
        self._pipe.send((prompt, max_tokens))
        answer = self._receive()
        assert isinstance(answer, Answer)
        return answer

    def close(self) -> None:
        self._pipe.close()
        self._process.join(30)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _receive(self) -> Any:
        try:
            answer = self._pipe.recv()
        except EOFError:
            raise Unavailable("The runtime's process died.") from None
        if isinstance(answer, str):
            raise Unavailable(answer)
        return answer


def _serve(pipe: Connection, subject: Subject) -> None:
    """The child: load, say how long it took, then answer prompts until the pipe is closed."""
    from rkllama_flask.errors import RkllamaError
    from rkllama_flask.runtime.context import Context, ContextParameters
    from rkllama_flask.runtime.cpu_engine import announce_cpu_engine
    from rkllama_flask.runtime.library import Library
    from rkllama_flask.runtime.log import RuntimeLog

    announce_cpu_engine()
    RuntimeLog.capture()
    try:
        library = Library.open(subject.library)
        sampling = _sampling(subject.model)
        parameters = ContextParameters(
            subject.model.path, subject.context_length, sampling=sampling, adapters=subject.model.modelfile.adapters
        )
        begun = time.monotonic()
        context = Context.open(library, parameters)
        pipe.send(time.monotonic() - begun)
        while True:
            prompt, max_tokens = pipe.recv()
            pipe.send(_answer(context, prompt, max_tokens))
    except RkllamaError as error:
        pipe.send(str(error))
    except EOFError:
        context.close()
    finally:
        pipe.close()


def _answer(context: Any, prompt: str | list[int], max_tokens: int) -> Answer:
    texts, times = [], []

    def on_token(text: bytes, _token_id: int) -> None:
        times.append(time.monotonic_ns())
        texts.append(text)
        if len(times) >= max_tokens and not context.library.per_run_sampling:
            context.abort()

    limit = max_tokens if context.library.per_run_sampling else None
    begun = time.monotonic_ns()
    statistics = context.run(prompt, on_token, sampling=context.sampling, max_new_tokens=limit)
    ended = time.monotonic_ns()
    total = len(prompt) if not isinstance(prompt, str) else statistics.prompt_tokens or statistics.prefill_tokens or 0
    computed = total if statistics.prefill_tokens is None else statistics.prefill_tokens
    usage = {
        "prompt_tokens": total,
        "completion_tokens": len(times),
        "prompt_tokens_details": {"cached_tokens": total - computed},
    }
    return Answer(b"".join(texts).decode(errors="replace"), begun, ended, tuple(times), usage)


def _sampling(model: Any) -> Any:
    """As the server has it for a request that says `temperature` 0."""
    from rkllama_flask.inference_config import LiveConfig
    from rkllama_flask.sampling import Sampling
    from rkllama_flask.settings import Settings

    config = LiveConfig(Settings.from_environment().config_path).current()
    base = model.modelfile.sampling.over(config.sampling.over(model.recommended_sampling))
    return Sampling(temperature=0.0).over(base)
