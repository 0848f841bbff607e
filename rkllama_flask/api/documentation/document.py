"""The OpenAPI document of an application: its routes, and what their views say of themselves."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from apispec import APISpec
from flask import Flask
from werkzeug.routing import Rule

import rkllama_flask
from rkllama_flask.api.documentation.openapi_fields import Plugin
from rkllama_flask.api.openapi.examples import PATHS
from rkllama_flask.api.openapi.replies import ERRORS
from rkllama_flask.api.openapi.views import Operation, operation_of
from rkllama_flask.api.web.errors import dialect_of
from rkllama_flask.api.web.security import is_open

_TAGS = {
    "openai": ("OpenAI", "What OpenAI's clients ask for."),
    "anthropic": ("Anthropic", "What Anthropic's clients ask for."),
    "ollama": ("Ollama", "What Ollama's clients ask for."),
    "models": ("Models", "Load, unload, fetch and list models."),
    "cache": ("Prompt caches", "Openings of prompts that are computed once."),
    "ops": ("Operation", "How the server stands."),
}
"""The blueprints that are API, in the order in which they are shown."""

_ABOUT = """\
Language models on Rockchip NPUs.

Fields that are not described are ignored, and null counts as not sent. What a request asks for and can't have is named
in the header `X-Unapplied-Parameters`. Paths that begin with `/v1` are there without it too (`x-also-at`). A model is
needed only where several are there and none is loaded. Names in paths may hold `/`.
"""

_KEY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer <key>`"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}


class _Place(NamedTuple):
    """An operation and the paths it is at; the first of them is shown."""

    view: Callable[..., Any]
    method: str
    rules: list[Rule]


def build(app: Flask, *, keys: bool) -> dict[str, Any]:
    """The document. `keys` says whether the server wants API keys. Raises LookupError for a view that says nothing."""
    spec = APISpec(
        title="rkllama-flask",
        version=rkllama_flask.__version__,
        openapi_version="3.1.0",
        info={"description": _ABOUT},
        tags=[{"name": name, "description": text} for name, text in _TAGS.values()],
        security=[{name: []} for name in _KEY_SCHEMES] if keys else [],
        plugins=[Plugin()],
    )
    for name, scheme in _KEY_SCHEMES.items() if keys else ():
        spec.components.security_scheme(name, scheme)
    for name, schema in ERRORS.items():
        spec.components.schema(f"{name}.Error", schema)
    for place in _places(app):
        _add(app, spec, place)
    document: dict[str, Any] = spec.to_dict()
    return document


def _places(app: Flask) -> list[_Place]:
    """Every operation of the API, grouped as the tags are."""
    found: defaultdict[tuple[Any, str], list[Rule]] = defaultdict(list)
    for rule in app.url_map.iter_rules():
        for method in _methods(rule):
            found[app.view_functions[rule.endpoint], method].append(rule)
    places = [_Place(view, method, sorted(rules, key=_shown_first)) for (view, method), rules in found.items()]
    order = [*_TAGS]
    return sorted(
        (place for place in places if _room(place) in _TAGS),
        key=lambda place: (order.index(_room(place)), len(place.rules[0].arguments), place.rules[0].rule),
    )


def _methods(rule: Rule) -> Iterator[str]:
    """What was asked for: not what every route answers by itself."""
    methods = set(rule.methods or ()) - {"OPTIONS"}
    yield from sorted(methods - {"HEAD"} if "GET" in methods else methods)


def _shown_first(rule: Rule) -> tuple[bool, str]:
    return not rule.rule.startswith("/v1/"), rule.rule


def _room(place: _Place) -> str:
    endpoint: str = place.rules[0].endpoint
    return endpoint.partition(".")[0].removesuffix("_without_prefix")


def _add(app: Flask, spec: APISpec, place: _Place) -> None:
    said = operation_of(place.view)
    if said is None:
        raise LookupError(f"{place.view.__module__}.{place.view.__name__} has no @returns.")
    rule = place.rules[0]
    operation: dict[str, Any] = {
        "tags": [_TAGS[_room(place)][0]],
        "summary": _summary(place.view),
        "operationId": f"{_room(place)}.{place.view.__name__}",
        "responses": _responses(app, place, said),
    }
    if rule.arguments:
        operation["parameters"] = [
            {"in": "path", "name": name, "required": True, "schema": {"type": "string"}, "example": PATHS[name]}
            for name in rule.arguments
        ]
    if said.accepts is not None:
        operation["requestBody"] = {
            "required": any(field.required for field in said.accepts().fields.values()),
            "content": {"application/json": {"schema": said.accepts, "example": said.example}},
        }
    if is_open(rule.rule):
        operation["security"] = []
    if place.rules[1:]:
        operation["x-also-at"] = [_path(other) for other in place.rules[1:]]
    spec.path(_path(rule), operations={place.method.lower(): operation})


def _path(rule: Rule) -> str:
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)


def _summary(view: Callable[..., Any]) -> str:
    """The docstring's first sentence, without the route that some begin with."""
    text = re.sub(r"\A`[^`]*`: ", "", " ".join((view.__doc__ or "").split("\n\n")[0].split()))
    sentence = re.split(r"(?<=[a-z)`])\. ", text)[0].rstrip(".").replace("`", "")  # summaries are plain text
    return sentence[:1].upper() + sentence[1:]


def _responses(app: Flask, place: _Place, said: Operation) -> dict[str, Any]:
    with app.test_request_context():
        room = dialect_of(place.rules[0].rule).__module__.split(".")[2]
    error = {"application/json": {"schema": {"$ref": f"#/components/schemas/{room}.Error"}}}
    content = {"content": error} if place.method != "HEAD" else {}
    wait = {"description": "Seconds, with 503.", "schema": {"type": "integer"}}
    success = {str(said.refused): {"description": "Always: the reply says why."} | content}
    return (success if said.refused else {str(said.status): _success(said)}) | {
        "4XX": {"description": "The request is refused, with a reason to act on."} | content,
        "5XX": {"description": "It failed. 503 says when to try again.", "headers": {"Retry-After": wait}} | content,
    }


def _success(said: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if said.reply is not None:
        content["application/json"] = {"schema": said.reply}
    if said.content_type is not None:
        content[said.content_type] = {"schema": {"type": "string"}}
    if said.stream is not None:
        text = {"type": "string", "description": said.stream.description}
        content[said.stream.content_type] = {"schema": text, "example": said.stream.example}
    return {"description": "Done."} | ({"content": content} if content else {})
