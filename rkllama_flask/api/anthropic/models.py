"""`GET /v1/models` and `/v1/models/{id}` for Anthropic's clients, known by their `anthropic-version` header."""

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from flask import Response, jsonify, request

from rkllama_flask.api.web.context import services
from rkllama_flask.catalog.model import Model
from rkllama_flask.errors import InvalidRequest

MAX_PAGE = 1000
DEFAULT_PAGE = 20


def asked() -> bool:
    """Whether this request comes from one of Anthropic's clients."""
    return "anthropic-version" in request.headers


def list_models() -> Response:
    """A page of the models' names. Raises InvalidRequest for a wrong `limit` or an unknown `after_id`, `before_id`."""
    models = services().inference.names()
    names = list(models)
    page, more = _page(names)
    shown = names[page]
    return jsonify(
        data=[_render(models[name], name) for name in shown],
        has_more=more,
        first_id=shown[0] if shown else None,
        last_id=shown[-1] if shown else None,
    )


def retrieve_model(name: str) -> Response:
    """One model under the name it was asked by. Raises ModelNotFound."""
    return jsonify(_render(services().inference.find(name), name))


def _page(names: Sequence[str]) -> tuple[slice, bool]:
    """Which of the names are asked for, and whether there are more in that direction."""
    limit = _limit()
    if "before_id" in request.args:
        end = _position(names, "before_id")
        return slice(max(0, end - limit), end), end > limit
    start = _position(names, "after_id") + 1 if "after_id" in request.args else 0
    return slice(start, start + limit), start + limit < len(names)


def _limit() -> int:
    text = request.args.get("limit", str(DEFAULT_PAGE))
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_PAGE):
        raise InvalidRequest(f"'limit' must be an integer from 1 to {MAX_PAGE}.", param="limit")
    return int(text)


def _position(names: Sequence[str], param: str) -> int:
    name = request.args[param]
    if name not in names:
        raise InvalidRequest(f"'{param}' names no model: '{name}'.", param=param)
    return names.index(name)


def _render(model: Model, name: str) -> dict[str, Any]:
    changed = datetime.fromtimestamp(int(model.modified_at), timezone.utc)
    return {
        "type": "model",
        "id": name,
        "display_name": model.name,
        "created_at": changed.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
        "max_input_tokens": model.context_length,
        "max_tokens": model.context_length,
    }
