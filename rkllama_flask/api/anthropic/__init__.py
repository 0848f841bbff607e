"""The Anthropic Messages API: messages, their token counts, and models as Anthropic's SDKs page through them."""

from flask import Blueprint

from rkllama_flask.api.anthropic.errors import dialect
from rkllama_flask.api.anthropic.messages import count_tokens, create_message

__all__ = ["blueprint", "dialect"]

blueprint = Blueprint("anthropic", __name__)
blueprint.post("/messages")(create_message)
blueprint.post("/messages/count_tokens")(count_tokens)
