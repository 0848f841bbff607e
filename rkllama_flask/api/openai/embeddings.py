"""`POST /v1/embeddings`."""

import base64
import sys
from array import array
from typing import Any

from flask import Response

from rkllama_flask.api.openai.errors import naming
from rkllama_flask.api.openai.fields import token_ids_header
from rkllama_flask.api.openai.schemas import EmbeddingSchema
from rkllama_flask.api.openapi import examples, replies
from rkllama_flask.api.openapi.views import accepts, returns
from rkllama_flask.api.web.body import read_json
from rkllama_flask.api.web.context import client_name, services
from rkllama_flask.api.web.streaming import collect, unapplied_header
from rkllama_flask.api.web.vectors import numbers, reply_with
from rkllama_flask.errors import InvalidRequest

_schema = EmbeddingSchema()


@accepts(EmbeddingSchema, examples.EMBEDDING)
@returns(replies.EMBEDDING)
def create_embedding() -> Response:
    """A vector for each input, in order; an input that is too long is refused, or cut where `truncate` says so."""
    body = read_json(lambda _: ("input",))
    fields = _schema.read(body)
    inference = services().inference
    model = inference.choose(fields.get("model"))
    dimensions: int | None = fields.get("dimensions")
    with naming({"messages": "input"}):
        embedding = inference.embed(
            model,
            fields["input"],
            dimensions=dimensions,
            truncate=fields["truncate"],
            keep_alive=fields.get("keep_alive"),
            client=client_name(),
        )
        [made] = collect(embedding)
    length = len(made.vectors[0])
    if dimensions is not None and dimensions > length:
        raise InvalidRequest(f"'dimensions' must be at most {length}, which this model has.", param="dimensions")
    written = map(_base64, made.vectors) if fields["encoding_format"] == "base64" else numbers(made.vectors)
    data = (f'{{"object":"embedding","index":{index},"embedding":{text}}}' for index, text in enumerate(written))
    usage = {"prompt_tokens": made.prompt_tokens, "total_tokens": made.prompt_tokens}
    response = reply_with({"object": "list", "model": model.name, "usage": usage}, "data", data)
    response.headers.update(unapplied_header(_schema.unapplied(body)) | token_ids_header("input", fields["input"]))
    return response


def _base64(vector: "array[float]") -> str:
    """32-bit floats, the least significant byte first, as JSON text."""
    ordered: array[Any] = array("f", vector)
    if sys.byteorder == "big":
        ordered.byteswap()
    return f'"{base64.b64encode(ordered.tobytes()).decode()}"'
