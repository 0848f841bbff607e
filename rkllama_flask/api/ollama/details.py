"""What is known about a model, under the names that Ollama gives it. What isn't known is empty or left out."""

import json
import math
from typing import Any

from rkllama_flask.api.ollama.names import display_name
from rkllama_flask.catalog.model import Model
from rkllama_flask.catalog.reading.parameters import parameter_lines

_LEFT_OUT = ("general.name", "tokenizer.chat_template")


def identity(model: Model) -> dict[str, Any]:
    """How a model is told from others. `size` in bytes."""
    name = display_name(model.name)
    return {"name": name, "model": name, "size": model.size, "digest": model.digest}


def details(model: Model) -> dict[str, Any]:
    """The short description that lists carry. Lengths are in tokens and in numbers of a vector."""
    known: dict[str, Any] = {
        "parent_model": "",
        "format": model.format,
        "family": model.family or "",
        "families": [model.family] if model.family else [],
        "parameter_size": model.parameter_size or "",
        "quantization_level": model.quantization or "",
        "context_length": model.context_length,
    }
    return known | ({"embedding_length": model.embedding_length} if model.embedding_length else {})


def largest_context(model: Model) -> int:
    """The most tokens that a context of this model can have: its trained length, which a Modelfile may stay below."""
    trained = model.metadata.get(f"{model.family}.context_length")
    return max(trained, model.context_length) if isinstance(trained, int) else model.context_length


def within_context(model: Model, wanted: int | None) -> int | None:
    """As many of the wanted tokens as a context of this model can have; None where nothing is wanted."""
    return None if wanted is None else min(wanted, largest_context(model))


def model_info(model: Model) -> dict[str, Any]:
    """What a GGUF file says of itself, without what is long; for other files what is known, under the same names."""
    prefix = model.family or model.format
    known = {
        "general.architecture": model.family,
        "general.parameter_count": model.parameter_count,
        f"{prefix}.context_length": largest_context(model),
        f"{prefix}.embedding_length": model.embedding_length,
        f"{prefix}.block_count": model.block_count,
    }
    said = {key: _sayable(value) for key, value in model.metadata.items() if key not in _LEFT_OUT}
    return {key: value for key, value in known.items() if value is not None} | said


def parameters_text(model: Model) -> str:
    """The Modelfile's parameters, one to a line."""
    lines = parameter_lines(model.modelfile.parameters)
    return "\n".join(f"{name:<30} {json.dumps(value, ensure_ascii=False)}" for name, value in lines)


def _sayable(value: Any) -> Any:
    """Long lists arrive empty, and stand as null, like what JSON has no word for."""
    if value == [] or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value
