"""A name that can be none is refused wherever one can be given, and nothing outside the server's folders is touched.

The routes and their fields are found, not listed: one that is added later is tried as well.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient

from rkllama_flask.api.openapi.examples import MODEL
from rkllama_flask.api.openapi.views import operation_of
from rkllama_flask.app import create_app

IMPOSSIBLE = [
    "../x",
    "../../outside/canary",
    "..",
    ".",
    "/etc/passwd",
    "//x",
    "a/../../x",
    "a//b",
    "a\\..\\x",
    "nul\0",
    "x" * 300,
    f"{MODEL}\n",
    f"{MODEL}:",
    MODEL.replace("o", "\u043e"),  # a Cyrillic letter
    MODEL.replace("-", "\u2010"),  # a hyphen
    "\uff4d" + MODEL[1:],  # a wide letter
    "\u202e" + MODEL,  # what turns the direction of writing
    ":latest",
    "a b",
    "~",
    "%2e%2e/x",
    "$HOME/x",
]
NAMES = {"model", "name", "source", "destination", "from", "cache_name", "use_cache"}
DIGEST = "sha256:" + "0" * 64

Request = tuple[str, str, dict[str, Any] | None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, caches, and beside them a tree that nobody may touch."""
    folder = tmp_path_factory.mktemp("names")
    for place in ("models", "cache", "outside"):
        (folder / place).mkdir()
    (folder / "models" / f"{MODEL}.rkllm").write_bytes(b"weights")
    for name in ("x", "x.gguf", "x.rkllm", "outside/canary", "outside/canary.json", "outside/Modelfile"):
        (folder / name).write_text(f"canary {name}")
    return folder


@pytest.fixture(scope="module")
def app(folder: Path) -> Iterator[Flask]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"MODELS_DIR": "models", "CACHE_DIR": "cache", "NPU_LOCK": "lock"}.items():
            patch.setenv(name, str(folder / value))
        patch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        yield create_app()


def requests_with(app: Flask, name: str) -> Iterator[Request]:
    """Every way to give this name: in each field of each body, and in each path."""
    for rule in app.url_map.iter_rules():
        said = operation_of(app.view_functions[rule.endpoint])
        if said is None:
            continue
        body = None if said.example is None else {**said.example, "stream": False}
        methods = (rule.methods or set()) - {"OPTIONS"}
        for argument in rule.arguments:
            for written in {quote(name, safe=""), quote(name)}:
                for around in ("{}", "{}/system", f"{MODEL}/{{}}"):
                    path = re.sub(rf"<(?:\w+:)?{argument}>", "{}", rule.rule)
                    yield from ((method, path.format(around.format(written)), body) for method in methods)
        if said.accepts is not None and body is not None and not rule.arguments:
            fields = {field.data_key or key for key, field in said.accepts().fields.items()}
            for field in fields & NAMES:
                rest = {key: value for key, value in body.items() if (key, field) != ("model", "name")}  # two for one
                yield from ((method, rule.rule, rest | {field: name}) for method in methods)
            for field in fields & {"files", "adapters"}:
                yield from ((method, rule.rule, body | {field: {name: DIGEST}}) for method in methods)
                yield from ((method, rule.rule, body | {field: {"x.gguf": name}}) for method in methods)
            if "modelfile" in fields:
                for text in (f'FROM """{name}"""', f'FROM {MODEL}\nADAPTER "{name}"'):
                    yield from ((method, rule.rule, {"model": "new", "modelfile": text}) for method in methods)


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("name", IMPOSSIBLE, ids=ascii)
def test_a_name_that_can_be_none_is_refused_everywhere(app: Flask, folder: Path, name: str) -> None:
    client, before, asked = app.test_client(), tree(folder), 0
    for method, path, body in requests_with(app, name):
        asked += 1
        status = refusal(client, method, path, body)
        assert status in (400, 404, 405), (method, path, body, status)
    assert asked > 100
    assert tree(folder) == before


def refusal(client: FlaskClient, method: str, path: str, body: dict[str, Any] | None) -> int:
    """The status, behind the redirections by which slashes are tidied."""
    response = client.open(path, method=method, json=body, follow_redirects=True)
    response.close()
    return response.status_code


def test_every_api_has_fields_and_paths_that_are_tried(app: Flask) -> None:
    tried = {path.partition("?")[0] for _, path, _ in requests_with(app, "NAME")}
    assert {"/v1/chat/completions", "/v1/messages", "/api/chat", "/v1/models/load", "/v1/cache/NAME"} <= tried
    assert {"/api/blobs/NAME", "/v1/models/NAME", "/api/create", "/api/delete", "/v1/responses"} <= tried
