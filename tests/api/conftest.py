"""The real routes over a stub of everything below them."""

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from rkllama_flask.api import register
from rkllama_flask.settings import Settings
from tests.api.stub import StubCatalog, StubInference, make_model


@dataclass
class Api:
    """The application, and what stands below it."""

    app: Flask
    inference: StubInference
    settings: Settings

    @property
    def client(self) -> FlaskClient:
        return self.app.test_client()

    def post(self, path: str, body: Any, **options: Any) -> TestResponse:
        return self.client.post(path, json=body, **options)

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.client.get(path, **options)

    def configure(self, **changes: Any) -> None:
        self.settings = replace(self.settings, **changes)
        self.app.extensions["rkllama"].settings = self.settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in ("HOST", "API_KEYS", "ALLOWED_ORIGINS", "ALLOWED_HOSTS", "HEARTBEAT", "MAX_BODY_BYTES"):
        monkeypatch.delenv(name, raising=False)
    return Settings.from_environment(tmp_path)


@pytest.fixture
def api(settings: Settings) -> Api:
    catalog = StubCatalog([make_model("tiny"), make_model("org/big:7b", tokenizer_path=Path("/models/tokenizer.json"))])
    inference = StubInference(catalog)
    app = Flask("rkllama_flask", static_folder=None)
    app.extensions["rkllama"] = SimpleNamespace(
        settings=settings, catalog=catalog, inference=inference, config=SimpleNamespace(error=None)
    )
    register(app)
    return Api(app, inference, settings)
