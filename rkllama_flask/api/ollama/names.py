"""Models by the names that clients send, and the names that replies show."""

import json
import re
from contextlib import suppress

from rkllama_flask.api.web.context import services
from rkllama_flask.catalog.model import Model
from rkllama_flask.errors import InvalidRequest, ModelNotFound

_REGISTRY = "registry.ollama.ai"
_LOCAL = re.compile(r":local *\Z", re.IGNORECASE)
"""Behind a name it tells Ollama to ask no server elsewhere, which is what is always done here."""


def find_model(name: str) -> Model:
    """The model of this name. Raises ModelNotFound, InvalidRequest for what can't be a name, ModelUnusable."""
    catalog, plain = services().catalog, _LOCAL.sub("", name)
    if plain != name:
        with suppress(ModelNotFound, InvalidRequest):
            return catalog.find(plain)
    try:
        return catalog.find(name)
    except ModelNotFound:
        raise
    except InvalidRequest as error:
        raise InvalidRequest("invalid model name", param="model") from error


def required(name: str | None) -> str:
    """A name that has to be there. Raises InvalidRequest."""
    if not name:
        raise InvalidRequest("model is required", param="model")
    return name


def display_name(name: str) -> str:
    """The shortest form with a tag: `tiny:latest`."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def full_name(name: str) -> str:
    """The form with everything: `registry.ollama.ai/library/tiny:latest`."""
    shown = display_name(name)
    return f"{_REGISTRY}/{shown if '/' in shown else f'library/{shown}'}"


def quoted(name: str) -> str:
    """A client's string in an error text, in double quotes."""
    return json.dumps(name, ensure_ascii=False)
