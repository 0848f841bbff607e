"""`/openapi.json`, and `/docs`: the same for people. Everything comes from this server; nothing asks a foreign one."""

import json
from pathlib import Path

import flask_swagger_ui
from flask import Blueprint, Response, current_app, redirect, send_from_directory
from werkzeug.wrappers import Response as BaseResponse

from rkllama_flask.api.documentation.document import build
from rkllama_flask.api.openapi import examples as openapi_examples
from rkllama_flask.api.web.context import services
from rkllama_flask.api.web.pages import protect

blueprint = Blueprint("docs", __name__)

_SWAGGER_UI = Path(flask_swagger_ui.__file__).parent / "dist"
_OWN = Path(__file__).parent / "docs_page"
_OWN_FILES = frozenset({"index.html", "start.js", "page.css"})
_EXTENSION = "rkllama_openapi"


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """The OpenAPI document. Its examples name a model that is here, unless only key holders may know of those."""
    keys = bool(services().settings.api_keys)
    text = _text(keys=keys)
    if not keys and (name := _present_model()):
        text = text.replace(openapi_examples.MODEL, json.dumps(name)[1:-1])
    return Response(text, content_type="application/json")


@blueprint.get("/docs")
def docs() -> BaseResponse:
    """To the page, whose files are named from its folder on."""
    return redirect("docs/")


@blueprint.get("/docs/")
@blueprint.get("/docs/<path:name>")
def page(name: str = "index.html") -> Response:
    """The page, and Swagger UI's files."""
    folder = _OWN if name in _OWN_FILES else _SWAGGER_UI
    return protect(send_from_directory(folder, name), img_src="'self' data:")


def _text(*, keys: bool) -> str:
    """The document as JSON text, made once."""
    made: dict[bool, str] = current_app.extensions.setdefault(_EXTENSION, {})
    if keys not in made:
        made[keys] = json.dumps(build(current_app, keys=keys))
    return made[keys]


def _present_model() -> str | None:
    """The model that a request without a name would get, else any that is here."""
    loaded = services().inference.resident()
    if loaded:
        return loaded[0].model.name
    if services().settings.default_model:
        return services().settings.default_model
    return next((model.name for model in services().catalog.list()), None)
