"""The OpenAI API: chat completions, completions, embeddings, responses, models."""

from flask import Blueprint

from rkllama_flask.api.openai.chat import count_chat_tokens, create_chat_completion
from rkllama_flask.api.openai.completions import create_completion
from rkllama_flask.api.openai.embeddings import create_embedding
from rkllama_flask.api.openai.errors import dialect
from rkllama_flask.api.openai.models import list_models, retrieve_model
from rkllama_flask.api.openai.responses import count_input_tokens, create_response
from rkllama_flask.api.openai.tokens import apply_template, detokenize, tokenize

__all__ = ["blueprint", "dialect"]

blueprint = Blueprint("openai", __name__)
blueprint.post("/chat/completions")(create_chat_completion)
blueprint.post("/chat/completions/input_tokens")(count_chat_tokens)
blueprint.post("/completions")(create_completion)
blueprint.post("/embeddings")(create_embedding)
blueprint.post("/responses")(create_response)
blueprint.post("/responses/input_tokens")(count_input_tokens)
blueprint.post("/tokenize")(tokenize)
blueprint.post("/detokenize")(detokenize)
blueprint.post("/apply-template")(apply_template)
blueprint.get("/models")(list_models)
blueprint.get("/models/<model:name>")(retrieve_model)
