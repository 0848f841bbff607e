"""The small files that models are published with, read from beside the weights."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rkllama_flask.catalog.reading.parameters import convert
from rkllama_flask.sampling import Sampling

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
CHAT_TEMPLATE = "chat_template.jinja"
CHAT_TEMPLATE_JSON = "chat_template.json"
"""As models that also see have been published with: `{"chat_template": …}`."""
TOOL_TEMPLATE = "tool_use.jinja"
MORE_TEMPLATES = "additional_chat_templates"
"""The folder beside a model in which its makers keep templates that have a name; here they may also lie beside it."""
GENERATION_CONFIG = "generation_config.json"
CONFIG = "config.json"
SIDE_FILES = (
    *(TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE, CHAT_TEMPLATE_JSON, TOOL_TEMPLATE, GENERATION_CONFIG),
    CONFIG,
)

_MAX_BYTES = 32 << 20
_SAMPLING = {"temperature": "temperature", "top_k": "top_k", "top_p": "top_p", "repetition_penalty": "repeat_penalty"}


@dataclass(frozen=True)
class SideFacts:
    """What the side files say; None or empty where they say nothing. `model_type` is Hugging Face's word."""

    tokenizer_path: Path | None = None
    chat_template: str | None = None
    tool_template: str | None = None
    bos_token: str | None = None
    eos_token: str | None = None
    eos_token_ids: tuple[int, ...] = ()
    sampling: Sampling = Sampling()
    model_type: str | None = None
    embedding_length: int | None = None
    block_count: int | None = None
    special_tokens: tuple[str, ...] = ()


def read_side_files(paths: Mapping[str, Path], warn: Callable[[str], None]) -> SideFacts:
    """Read the files given by name. One that is damaged is told to `warn` and counts as absent."""
    tokenizer = _json(paths.get(TOKENIZER_CONFIG), warn)
    generation = _json(paths.get(GENERATION_CONFIG), warn)
    config = _json(paths.get(CONFIG), warn)
    text = config.get("text_config")
    config = config | text if isinstance(text, dict) else config
    eos_token = _token(tokenizer.get("eos_token"))
    templates = named_templates(tokenizer.get("chat_template")) | _own_templates(paths, warn)
    return SideFacts(
        tokenizer_path=paths.get(TOKENIZER),
        chat_template=templates.get("default") or next(iter(templates.values()), None),
        tool_template=templates.get("tool_use"),
        bos_token=_token(tokenizer.get("bos_token")),
        eos_token=eos_token,
        eos_token_ids=_ids(generation.get("eos_token_id"))
        or _ids(config.get("eos_token_id"))
        or _id_of(eos_token, tokenizer.get("added_tokens_decoder")),
        sampling=_sampling(generation),
        model_type=_string(config.get("model_type")),
        embedding_length=_count(config.get("hidden_size")),
        block_count=_count(config.get("num_hidden_layers")),
        special_tokens=_special_tokens(tokenizer.get("added_tokens_decoder")),
    )


def _text(path: Path | None, warn: Callable[[str], None]) -> str | None:
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        warn(f"{path.parent.name}/{path.name} can't be read: {error}")
        return None


def _json(path: Path | None, warn: Callable[[str], None]) -> dict[str, Any]:
    text = _text(path, warn)
    if text is None:
        return {}
    assert path is not None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        warn(f"{path.parent.name}/{path.name} can't be read: {error}")
        return {}
    return value if isinstance(value, dict) else {}


def places_of(name: str) -> tuple[str, ...]:
    """Where a side file may lie in its model's folder, the first that is there."""
    return (name, f"{MORE_TEMPLATES}/{name}") if name == TOOL_TEMPLATE else (name,)


def named_templates(value: Any) -> dict[str, str]:
    """One template, which is `default`, or several with their names: a list of `{"name", "template"}`, or a mapping."""
    if isinstance(value, list):
        value = {item.get("name"): item.get("template") for item in value if isinstance(item, dict)}
    named = value if isinstance(value, dict) else {"default": value}
    return {name: text for name, text in named.items() if isinstance(name, str) and isinstance(text, str) and text}


def _own_templates(paths: Mapping[str, Path], warn: Callable[[str], None]) -> dict[str, str]:
    """Those in files of their own, which come before those in the tokenizer's configuration."""
    found = named_templates(_json(paths.get(CHAT_TEMPLATE_JSON), warn).get("chat_template"))
    files = {"default": _text(paths.get(CHAT_TEMPLATE), warn), "tool_use": _text(paths.get(TOOL_TEMPLATE), warn)}
    return found | {name: text for name, text in files.items() if text}


def _token(value: Any) -> str | None:
    return _string(value.get("content") if isinstance(value, dict) else value)


def _id_of(token: str | None, decoder: Any) -> tuple[int, ...]:
    """A token's id from `added_tokens_decoder`, which maps ids to tokens."""
    if token is None or not isinstance(decoder, dict):
        return ()
    found = [key for key, value in decoder.items() if _token(value) == token]
    return tuple(int(key) for key in found if str(key).isdecimal())


def _special_tokens(decoder: Any) -> tuple[str, ...]:
    found = (_token(value) for value in decoder.values()) if isinstance(decoder, dict) else ()
    return tuple(token for token in found if token)


def _ids(value: Any) -> tuple[int, ...]:
    items: Sequence[Any] = value if isinstance(value, list) else [value]
    return tuple(item for item in items if isinstance(item, int) and not isinstance(item, bool) and item >= 0)


def _sampling(generation: Mapping[str, Any]) -> Sampling:
    """Nothing where `do_sample` is false: the figures beside it are then a library's defaults, not advice."""
    if generation.get("do_sample") is False:
        return Sampling()
    found: dict[str, Any] = {}
    for theirs, ours in _SAMPLING.items():
        if generation.get(theirs) is not None:
            found |= _converted(ours, generation[theirs])
    return Sampling(**found)


def _converted(name: str, value: Any) -> dict[str, Any]:
    try:
        return dict([convert(name, value)])
    except ValueError:
        return {}


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
