"""Prompt caches by name: `/v1/cache`, `/v1/cache/MODEL`, `/v1/cache/MODEL/NAME`.

These paths and the keys of their answers are this server's own; scripts written for its forerunner read them.
"""

import time
from typing import Any

from flask import Blueprint, Response, jsonify
from marshmallow.validate import Length

from rkllama_flask.api.openai.neutral import messages_of
from rkllama_flask.api.openai.schemas import MessageSchema
from rkllama_flask.api.openapi import examples, replies
from rkllama_flask.api.openapi.views import accepts, returns
from rkllama_flask.api.web.body import read_json
from rkllama_flask.api.web.context import services
from rkllama_flask.api.web.schema import List, Nested, RequestSchema, String
from rkllama_flask.catalog.reading.names import parse
from rkllama_flask.errors import InvalidRequest, ModelNotFound
from rkllama_flask.generation.caches import CacheFacts, Caches
from rkllama_flask.generation.request import Message
from rkllama_flask.promptcache.entry import CacheEntry

blueprint = Blueprint("cache", __name__)

_NOT_EMPTY = Length(min=1, error="must not be empty")


class CacheSchema(RequestSchema):
    """`prompt` is a system prompt; `messages` an opening of several messages."""

    cache_name = String(required=True)
    prompt = String(validate=_NOT_EMPTY)
    messages = List(Nested(MessageSchema), validate=_NOT_EMPTY)


_schema = CacheSchema()


@blueprint.post("/cache/<path:model_name>")
@accepts(CacheSchema, examples.CACHE)
@returns(replies.CACHE_CREATED)
def create_cache(model_name: str) -> Response:
    """Compute an opening once and keep it; a cache of the same name is made anew."""
    fields = _schema.read(read_json())
    if ("prompt" in fields) == ("messages" in fields):
        raise InvalidRequest("Send either 'prompt' or 'messages'.", param="prompt")
    messages = messages_of(fields["messages"]) if "messages" in fields else (Message("system", fields["prompt"]),)
    model = services().catalog.find(model_name)
    entry = _caches().create(model, fields["cache_name"], messages)
    return jsonify(
        object="cache.created",
        model=entry.model_name,
        cache_name=entry.name,
        size_mb=_mb(entry.size),
        ttft_ms=round(entry.ttft_ms, 2),
        prompt_length=entry.prompt_length,
        prompt_tokens=entry.tokens,
        load_ms=None if entry.load_ms is None else round(entry.load_ms, 2),
        timestamp=_now(),
        message=f'Cache {entry.name} is made. Name it in requests: "use_cache": "{entry.name}".',
    )


@blueprint.get("/cache")
@returns(replies.CACHES)
def list_all_caches() -> Response:
    """The caches of all models, and the room they take."""
    return _listed(None)


@blueprint.get("/cache/<path:place>")
@returns(replies.CACHE)
def look_at_caches(place: str) -> Response:
    """The caches of a model, or one of them: a model's name may hold a slash, so models go first."""
    model, name = _resolve(place)
    if name is None:
        return _listed(model)
    return jsonify(object="cache", model=model, **_described(_caches().find(model, name)), timestamp=_now())


@blueprint.delete("/cache/<path:place>")
@returns(replies.CACHE_DELETED)
def delete_cache(place: str) -> Response:
    """Remove one cache, named or automatic."""
    model, name = _resolve(place)
    if name is None:
        raise InvalidRequest(f"Name the cache: DELETE /v1/cache/{model}/NAME.", param="cache_name")
    entry = _caches().delete(model, name)
    return jsonify(object="cache.deleted", model=model, cache_name=entry.name, deleted=True, timestamp=_now())


def _listed(model: str | None) -> Response:
    caches = _caches()
    found = caches.list(model)
    head: dict[str, Any] = {"object": "list"} | ({"model": model} if model is not None else {})
    return jsonify(
        **head,
        data=[_described(facts) for facts in found],
        count=len(found),
        size_mb=_mb(sum(facts.entry.size for facts in found)),
        max_mb=_mb(caches.max_bytes),
        timestamp=_now(),
    )


def _described(facts: CacheFacts) -> dict[str, Any]:
    entry: CacheEntry = facts.entry
    return {
        "cache_name": entry.name,
        "model_name": entry.model_name,
        "size_mb": _mb(entry.size),
        "created_at": entry.created_at,
        "modified_at": entry.modified_at,
        "last_used_at": facts.last_used,
        "prompt_length": entry.prompt_length,
        "prompt_tokens": entry.tokens,
        "source": entry.source,
        "ttft_ms": round(entry.ttft_ms, 2),
        "load_ms": None if entry.load_ms is None else round(entry.load_ms, 2),
        "stale": facts.stale is not None,
        "stale_reason": facts.stale,
    }


def _resolve(place: str) -> tuple[str, str | None]:
    """A model's name, and a cache's where the path goes on behind that of the model. Raises ModelNotFound."""
    folder, _, last = place.rpartition("/")
    try:
        return _model_name(place), None
    except (ModelNotFound, InvalidRequest):
        if not folder:
            raise
    return _model_name(folder), last


def _model_name(name: str) -> str:
    """As the catalog writes it; a model that is gone may have left caches."""
    try:
        return services().catalog.find(name).name
    except ModelNotFound:
        known = parse(name).text
        if not _caches().list(known):
            raise
        return known


def _caches() -> Caches:
    return services().inference.caches


def _mb(size: int) -> float:
    return round(size / 2**20, 2)


def _now() -> int:
    return int(time.time())
