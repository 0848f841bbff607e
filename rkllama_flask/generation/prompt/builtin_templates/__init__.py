"""Chat templates for models whose files bring none, one per family, written from the published formats."""

import re
from functools import lru_cache
from importlib.resources import files

from rkllama_flask.catalog.model import Model

_FAMILIES = (
    # The first that matches the model's name or family decides: the name says more than the architecture.
    (r"deepseek-?r1|deepseek-?v[23]|r1-distill", "deepseek-r1"),
    (r"qwen-?3|qwq", "qwen3"),
    (r"qwen", "qwen2"),
    (r"llama-?3|llama-?4", "llama3"),
    (r"gemma", "gemma"),
    (r"mistral|mixtral|ministral", "mistral"),
    (r"phi-?4-mini", "phi4-mini"),
    (r"phi-?4", "phi4"),
    (r"phi-?3", "phi3"),
    (r"minicpm-?[345]", "chatml"),
    (r"minicpm", "minicpm"),
    (r"internlm", "internlm2"),
    (r"tinyllama|zephyr", "zephyr"),
)


def builtin_template(model: Model) -> str:
    """The template of the model's family; ChatML where that isn't known."""
    return template_text(template_name(model))


def template_name(model: Model) -> str:
    """Which built-in template fits: told by the model's name, then by its family."""
    return _told_by(model.name, model.family or "")


@lru_cache(maxsize=256)
def _told_by(*words: str) -> str:
    for said in words:
        for pattern, name in _FAMILIES:
            if re.search(pattern, said, re.IGNORECASE):
                return name
    return "chatml"


@lru_cache
def template_text(name: str) -> str:
    """The Jinja text of a built-in template."""
    return files(__package__).joinpath(f"{name}.jinja").read_text(encoding="utf-8")
