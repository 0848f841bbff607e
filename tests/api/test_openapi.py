"""The OpenAPI document: complete, valid, and true: what it shows as an example can be sent as it stands."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from rkllama_flask.api.documentation.document import build
from rkllama_flask.provision import MODEL_NAME
from tests.api.conftest import Api
from tests.catalog.gguf_files import LLAMA, gguf_bytes
from tests.hub import serve_hub
from tests.serving import Server, start_server

PAGES = {"docs", "ui"}
"""Blueprints of pages for people, which are no part of the API."""


@pytest.fixture
def document(api: Api) -> dict[str, Any]:
    response = api.get("/openapi.json")
    assert (response.status_code, response.content_type) == (200, "application/json")
    found: dict[str, Any] = response.json
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    assert [*OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_every_route_is_in_the_document(api: Api, document: dict[str, Any]) -> None:
    documented = {
        (method, at) for path, method, one in operations(document) for at in (path, *one.get("x-also-at", ()))
    }
    routes = set()
    for rule in api.app.url_map.iter_rules():
        if rule.endpoint.partition(".")[0] not in PAGES:
            path = "".join(part if literal else f"{{{part}}}" for literal, part in traced(rule))
            methods = set(rule.methods or ()) - {"OPTIONS"}
            routes |= {(method, path) for method in (methods - {"HEAD"} if "GET" in methods else methods)}
    assert documented == routes


def traced(rule: Any) -> Iterator[tuple[bool, str]]:
    for is_dynamic, part in rule._trace:
        if part != "|":
            yield not is_dynamic, part


def test_a_view_that_says_nothing_of_itself_is_found(api: Api) -> None:
    api.app.view_functions["ops.ready"] = lambda: None
    with pytest.raises(LookupError, match="no @returns"):
        build(api.app, keys=False)


def test_every_operation_says_what_it_is_for(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        assert len(operation["summary"]) > 5, (path, method)
        assert not operation["summary"].startswith("`"), (path, method)


def test_every_field_has_a_shape_or_says_why_not(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        for field, shape in schema["properties"].items():
            free = name == "openai.responses_input.Response" and field in ("conversation", "prompt")  # always refused
            assert shape or free, f"{name}.{field}"


@pytest.mark.parametrize("keys", [True, False])
def test_keys_are_said_to_be_needed_where_they_are(api: Api, keys: bool) -> None:
    api.configure(api_keys=("secret",) if keys else ())
    document = api.get("/openapi.json").json
    assert bool(document["security"]) is keys
    assert [*OpenAPIV31SpecValidator(document).iter_errors()] == []
    for path, method, operation in operations(document):
        bare = api.client.open(path, method=method)
        assert (bare.status_code == 401) is (keys and "security" not in operation), (path, method)


def test_who_has_no_key_learns_no_models_name(api: Api) -> None:
    assert '"tiny"' in api.get("/openapi.json").text
    api.configure(api_keys=("secret",))
    assert '"tiny"' not in api.get("/openapi.json").text


def test_what_a_client_sends_wrong_is_answered_in_the_shape_that_is_documented(
    api: Api, document: dict[str, Any]
) -> None:
    for path, method, operation in operations(document):
        if "requestBody" in operation:
            refused = api.client.open(path, method=method, data=b"[]")
            check_json(document, operation["responses"]["4XX"], refused.json)
            assert refused.status_code == 400, path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real model, and a hub that has what the examples pull."""
    folder = tmp_path_factory.mktemp("examples")
    with serve_hub() as hub:
        hub.repos = {"Qwen/Qwen3-0.6B-GGUF": {"Qwen3-0.6B-Q8_0.gguf": gguf_bytes(LLAMA, data=2000)}}
        env = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf"), "NO_PROXY": "127.0.0.1", "RKLLM_CPU_THREADS": "1"}
        server = start_server(folder, library=None, env=env)
        yield server
        server.stop()


def test_every_example_gets_the_reply_that_is_documented(server: Server) -> None:
    document = server.get("/openapi.json").json()
    order = ["POST", "GET", "HEAD", "DELETE"]  # what is asked for has to be made first
    for path, method, operation in sorted(operations(document), key=lambda one: order.index(one[1])):
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if body:
            validator(document, body["schema"]).validate(body["example"])
        send(server, document, path, method, operation, body["example"] if body else None)


def test_every_example_streams_with_the_type_that_is_documented(server: Server) -> None:
    document = server.get("/openapi.json").json()
    for path, _, operation in operations(document):
        content = operation["responses"].get("200", {}).get("content", {})
        if {"text/event-stream", "application/x-ndjson"} & {*content}:
            example = operation["requestBody"]["content"]["application/json"]["example"]
            response = requests.post(server.url + path, json=example | {"stream": True}, timeout=60, stream=True)
            assert (response.status_code, response.headers["Content-Type"].partition(";")[0] in content) == (200, True)
            assert next(response.iter_lines())
            response.close()


def send(
    server: Server, document: dict[str, Any], path: str, method: str, operation: dict[str, Any], body: Any
) -> None:
    places = {one["name"]: one["example"] for one in operation.get("parameters", ())}
    response = requests.request(method, server.url + path.format(**places), json=body, timeout=60)
    [(status, reply), *_] = operation["responses"].items()
    assert response.status_code == int(status), (path, response.text)
    if response.content:
        kind = response.headers["Content-Type"].partition(";")[0]
        assert kind in reply["content"], (path, kind)
        if kind == "application/json":
            check_json(document, reply, response.json())


def check_json(document: dict[str, Any], reply: dict[str, Any], value: Any) -> None:
    validator(document, reply["content"]["application/json"]["schema"]).validate(value)


def validator(document: dict[str, Any], schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    whole = Resource.from_contents(document, default_specification=DRAFT202012)
    text = json.dumps(schema).replace('"#/', '"urn:document#/')
    return jsonschema.Draft202012Validator(json.loads(text), registry=Registry().with_resource("urn:document", whole))


def test_the_page_asks_no_foreign_server(api: Api) -> None:
    response = api.get("/docs/")
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'; ")
    assert "//" not in response.text
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "start.js", "page.css", "favicon-32x32.png"):
        asset = api.get(f"/docs/{name}")
        assert (asset.status_code, name in response.text) == (200, True)
        asset.close()
    response.close()


@pytest.mark.parametrize("path", ["/docs", "/docs/", "/openapi.json"])
def test_the_documentation_needs_no_key(api: Api, path: str) -> None:
    api.configure(api_keys=("secret",))
    with api.get(path, follow_redirects=True) as response:
        assert response.status_code == 200


def test_nothing_else_is_served_from_the_pages_folder(api: Api) -> None:
    for path in ("/docs/../docs.py", "/docs/%2e%2e/docs.py", "/docs//etc/passwd", "/docs/nothing"):
        assert api.get(path, follow_redirects=True).status_code == 404


def test_the_examples_name_the_model_that_comes_with_the_installation() -> None:
    from rkllama_flask.api.openapi import examples as openapi_examples

    assert openapi_examples.MODEL == MODEL_NAME
    assert Path("/" + openapi_examples.PATHS["place"]).parent.name == MODEL_NAME
