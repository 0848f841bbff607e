"""What the API floor stands on, in memory: a catalog of two models and an inference that plays prepared events."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rkllama_flask.catalog.model import Model
from rkllama_flask.engine.models.residents import Loads
from rkllama_flask.errors import InvalidRequest, ModelNotFound, UnsupportedRequest
from rkllama_flask.generation.embeddings import Embeddings
from rkllama_flask.generation.events import Event, Finished, Text, Timings, Usage, Waiting
from rkllama_flask.generation.prompts import Prompts
from rkllama_flask.generation.request import GenerationRequest
from rkllama_flask.generation.turns.proof import Reading

Script = Sequence[Event | Embeddings | Exception]


def make_model(name: str, **changes: Any) -> Model:
    values: dict[str, Any] = {
        "name": name,
        "path": Path(f"/models/{name}.rkllm"),
        "format": "rkllm",
        "identity": name,
        "size": 3 * 2**20,
        "modified_at": 1_700_000_000.5,
        "digest": "ab" * 32,
        "context_length": 4096,
    }
    return Model(**values | changes)


def finished(reason: Any = "stop", *, prompt: int = 5, completion: int = 2, **usage: Any) -> Finished:
    timings = Timings(total=9_000_000, queue=1_000_000, load=0, prefill=2_000_000, decode=4_000_000)
    return Finished(reason, Usage(prompt, completion, **usage), timings)


def say(*texts: str) -> Script:
    """An answer of these pieces."""
    return (*(Text(text) for text in texts), finished(completion=len(texts)))


class StubGeneration:
    def __init__(self, script: Script, unapplied: tuple[str, ...], prompt_tokens: int | None = None) -> None:
        self._events = iter(script)
        self.prompt_tokens = prompt_tokens
        self.unapplied = unapplied
        self.closed = self.ending = False

    def __iter__(self) -> Iterator[Event | Embeddings]:
        return self

    def __next__(self) -> Event | Embeddings:
        if self.closed:
            raise StopIteration
        event = next(self._events)
        if isinstance(event, Exception):
            raise event
        return event

    def close(self) -> None:
        self.closed = True

    def finish(self) -> None:
        self.ending = True


@dataclass
class StubInference:
    """`script` plays for each request; `scripts` come first, one each. What is in `early` is raised at once."""

    catalog: "StubCatalog"
    script: Script = field(default_factory=lambda: say("Hello", " world"))
    scripts: list[Script] = field(default_factory=list)
    early: Exception | None = None
    unapplied: tuple[str, ...] = ()
    requests: list[GenerationRequest] = field(default_factory=list)
    examined: list[GenerationRequest] = field(default_factory=list)
    generations: list[StubGeneration] = field(default_factory=list)
    embedded: list[tuple[Model, Sequence[Any], dict[str, Any]]] = field(default_factory=list)
    loaded: list[Model] = field(default_factory=list)
    arriving: Model | None = None
    ready: bool = True
    draining: bool = False
    crashes: int = 0
    prompts: Prompts = field(default_factory=Prompts)
    caches: Any = field(default_factory=lambda: SimpleNamespace(used_bytes=0, max_bytes=0))

    def choose(self, name: str | None, *, writes: bool = False) -> Model:
        if name:
            return self.catalog.find(name)
        if self.loaded:
            return self.loaded[0]
        raise InvalidRequest("Name a model.", param="model")

    def capabilities(self, model: Model) -> tuple[str, ...]:
        """Everybody can do everything, but for the one that can't think."""
        return ("completion", "tools") if model.name == "plain" else ("completion", "tools", "thinking")

    def reading(self, model: Model) -> Reading:
        return self.prompts.reading(model)

    def known_reading(self, model: Model) -> Reading | None:
        return self.prompts.known_reading(model)

    def find(self, name: str) -> Model:
        return self.catalog.find(name)

    def names(self) -> dict[str, Model]:
        return {model.name: model for model in self.catalog.list()}

    def generate(self, request: GenerationRequest) -> StubGeneration:
        if self.early:
            raise self.early
        self.requests.append(request)
        script = self.scripts.pop(0) if self.scripts else self.script
        self.generations.append(StubGeneration(script, self.unapplied, self._prompt_tokens(request)))
        return self.generations[-1]

    def _prompt_tokens(self, request: GenerationRequest) -> int | None:
        return self.count_tokens(request) if request.model.tokenizer_path else None

    def examine(self, requests: Sequence[GenerationRequest]) -> None:
        self.examined += requests

    def embed(
        self, model: Model, inputs: Sequence[str | Sequence[int]], *, dimensions: int | None = None, **options: Any
    ) -> StubGeneration:
        """The vector 0.5, -0.25, 0.125 for each input, a token for each of its characters."""
        if self.early:
            raise self.early
        self.embedded.append((model, inputs, options))
        vectors = tuple(array("f", [0.5, -0.25, 0.125][:dimensions]) for _ in inputs)
        made = Embeddings(vectors, sum(map(len, inputs)), Timings(9_000_000, 1_000_000, 2_000_000, 3_000_000, 0))
        self.generations.append(StubGeneration((Waiting(0.5), made), ()))
        return self.generations[-1]

    def load(self, model: Model, *, keep_alive: float | None = None, context_length: int | None = None) -> int:
        if self.early:
            raise self.early
        self.loaded.insert(0, model)
        return 12_000_000

    def forgive_crashes(self) -> int:
        return self.crashes

    def unload(self, model: Model | None) -> list[str]:
        gone = [one for one in self.loaded if model in (None, one)]
        self.loaded = [one for one in self.loaded if one not in gone]
        return [one.name for one in gone]

    def loading(self) -> Model | None:
        return self.arriving

    def resident(self) -> list[Any]:
        return [
            SimpleNamespace(model=model, context_length=4096, size=model.size, loaded_at=1.0, expires_at=None)
            for model in self.loaded
        ]

    def count_tokens(self, request: GenerationRequest) -> int:
        """A token for each character."""
        self._need_tokenizer(request.model)
        return sum(len(message.content) for message in request.messages or ())

    def tokenize(self, model: Model, text: str, *, special: bool, beginning: bool) -> list[int]:
        self._need_tokenizer(model)
        return [*([special] if beginning else []), *map(ord, text)]

    def detokenize(self, model: Model, ids: Sequence[int], *, param: str = "tokens") -> str:
        self._need_tokenizer(model)
        return "".join(f"<{one}>" for one in ids)

    def render(self, request: GenerationRequest) -> str:
        return "".join(f"<{message.role}>{message.content}" for message in request.messages or ())

    def _need_tokenizer(self, model: Model) -> None:
        if not model.tokenizer_path:
            raise UnsupportedRequest(f"The model '{model.name}' has no tokenizer.", param="model")

    def status(self) -> Any:
        idle = {"busy": None, "waiting": 0, "expected_wait": 0.0, "resident": (), "crashes": {}, "loads": Loads()}
        return SimpleNamespace(ready=self.ready, draining=self.draining, **idle)


@dataclass
class StubCatalog:
    models: list[Model]

    def list(self) -> list[Model]:
        return self.models

    def find(self, name: str) -> Model:
        for model in self.models:
            if name.removesuffix(":latest") == model.name:
                return model
        raise ModelNotFound(name)
