"""The OpenAI API: chat completions, completions, models."""

from flask import Blueprint

from rkllama_flask.api.openai.errors import dialect

__all__ = ["blueprint", "dialect"]

blueprint = Blueprint("openai", __name__)
