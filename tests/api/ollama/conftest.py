"""The real routes and a real models folder, over an inference that plays prepared events."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask

from rkllama_flask.api import register
from rkllama_flask.catalog.catalog import Catalog
from rkllama_flask.catalog.changing.blobs import Blobs
from rkllama_flask.catalog.model import Model
from rkllama_flask.generation.request import GenerationRequest
from rkllama_flask.settings import Settings
from tests.api.conftest import Api
from tests.api.stub import StubInference


@dataclass
class StubCaches:
    """`emptied` are the models whose caches were all removed."""

    emptied: list[str] = field(default_factory=list)

    def delete_all(self, model_name: str) -> None:
        self.emptied.append(model_name)


@dataclass
class OllamaInference(StubInference):
    """What models can do is `abilities`; what was loaded and unloaded stands in `moves`."""

    abilities: tuple[str, ...] = ("completion", "tools", "thinking")
    moves: list[tuple[Any, ...]] = field(default_factory=list)
    expires: dict[str, float | None] = field(default_factory=dict)
    context: list[int] | None = None
    caches: StubCaches = field(default_factory=StubCaches)

    def capabilities(self, model: Model) -> tuple[str, ...]:
        return self.abilities

    def context_after(self, request: GenerationRequest, answer: str) -> list[int] | None:
        return None if self.context is None else [*request.context, *self.context, len(answer)]

    def load(self, model: Model, *, keep_alive: float | None = None, context_length: int | None = None) -> int:
        self.moves.append(("load", model.name, keep_alive, context_length))
        return super().load(model)

    def unload(self, model: Model | None) -> list[str]:
        self.moves.append(("unload", model.name if model else None))
        return super().unload(model)

    def resident(self) -> list[Any]:
        found = super().resident()
        for one in found:
            one.expires_at = self.expires.get(one.model.name)
        return found


@dataclass
class OllamaApi(Api):
    inference: OllamaInference
    catalog: Catalog
    models_dir: Path


@pytest.fixture
def api(settings: Settings) -> OllamaApi:
    """Two models: `tiny`, an NPU's, and `tuned`, a name for the same weights with a Modelfile of its own."""
    folder = settings.models_dir
    folder.mkdir()
    (folder / "tiny.rkllm").write_bytes(b"weights")
    (folder / "tuned").mkdir()
    (folder / "tuned" / "Modelfile").write_text(
        'FROM tiny.rkllm\nSYSTEM Be brief.\nPARAMETER num_predict 7\nPARAMETER stop "<end>"\nPARAMETER stop "x y"\n'
        "PARAMETER temperature 0.5\nLICENSE MIT\nMESSAGE user Hi\nMESSAGE assistant Hello\n"
    )
    catalog = Catalog(folder)
    inference = OllamaInference(catalog)  # type: ignore[arg-type]
    app = Flask("rkllama_flask", static_folder=None)
    app.extensions["rkllama"] = SimpleNamespace(
        settings=settings,
        catalog=catalog,
        inference=inference,
        config=SimpleNamespace(error=None),
        blobs=Blobs(folder),
    )
    register(app)
    return OllamaApi(app, inference, settings, catalog, folder)
