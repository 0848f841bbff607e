"""`POST /api/pull`: models from Hugging Face, told in the steps that Ollama's clients draw."""

from flask import Response, jsonify

from rkllama_flask.api.ollama.schemas import NamedSchema, model_name
from rkllama_flask.api.openapi import examples, replies
from rkllama_flask.api.openapi.views import accepts, returns
from rkllama_flask.api.pulling import PullEvents, PullLines
from rkllama_flask.api.web.schema import Boolean
from rkllama_flask.api.web.streaming import collect, stream
from rkllama_flask.errors import InvalidRequest, PullFailed


class PullSchema(NamedSchema):
    """`insecure`, `username` and `password` change nothing here."""

    stream = Boolean(load_default=True)


_pull = PullSchema()


@accepts(PullSchema, examples.OLLAMA_PULL)
@returns(replies.OLLAMA_STATUS, stream=replies.PULL_LINES)
def pull_model() -> Response:
    """Fetch a model; one that is here already is looked up again, and ends in success as well."""
    fields = _pull.read_body()
    name = model_name(fields)
    if not name:
        raise InvalidRequest("invalid model name", param="model")
    events = PullEvents(name)
    if fields["stream"]:
        return stream(events, PullLines())
    try:
        return jsonify(collect(events)[-1])
    except PullFailed as error:  # Ollama has one status for whatever went wrong here
        raise PullFailed(error.message) from error
