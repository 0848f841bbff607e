"""Conversations, renderings and small models for the tests of templates and tokens."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from rkllama_flask.catalog.model import Model
from rkllama_flask.generation.prompt.builtin_templates import template_text
from rkllama_flask.generation.prompt.special_text import WELL_KNOWN
from rkllama_flask.generation.prompt.templates import ChatTemplate
from rkllama_flask.generation.request import Message, Tool, ToolCall

HERE = Path(__file__).parent
FAMILIES = sorted(path.stem for path in (HERE / "renderings").glob("*.txt"))
BOS = {
    "llama3": "<|begin_of_text|>",
    "gemma": "<bos>",
    "mistral": "<s>",
    "internlm2": "<s>",
    "deepseek-r1": "<\uff5cbegin\u2581of\u2581sentence\uff5c>",
}


def make_model(**facts: Any) -> Model:
    """A model on paper; its weights don't exist."""
    given = {
        "name": "paper",
        "path": Path("/nowhere/paper.rkllm"),
        "format": "rkllm",
        "identity": "1",
        "size": 1,
        "modified_at": 0.0,
        "digest": "0" * 64,
        "context_length": 4096,
    }
    return Model(**{**given, **facts})


def family_template(family: str) -> ChatTemplate:
    return ChatTemplate(template_text(family), family, BOS.get(family, ""))


@cache
def conversations() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((HERE / "conversations.json").read_text(encoding="utf-8"))
    return found


def messages_of(conversation: dict[str, Any]) -> list[Message]:
    return [
        Message(**{**turn, "tool_calls": tuple(ToolCall(**call) for call in turn.get("tool_calls", ()))})
        for turn in conversation["messages"]
    ]


def tools_of(conversation: dict[str, Any]) -> list[Tool]:
    return [Tool(**tool) for tool in conversation.get("tools", ())]


@cache
def renderings(family: str) -> dict[str, str]:
    text = (HERE / "renderings" / f"{family}.txt").read_text(encoding="utf-8")
    records = (record.partition("\n") for record in text.removeprefix("##### ").split("\n##### "))
    found = {name: prompt for name, _, prompt in records}
    last = list(found)[-1]
    return {**found, last: found[last].removesuffix("\n")}


def byte_tokenizer(**added: AddedToken) -> Tokenizer:
    """One token per byte, and every special string of every family."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    library = Tokenizer(BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    library.decoder = decoders.ByteLevel()
    library.add_tokens([AddedToken(string, special=True, normalized=False) for string in WELL_KNOWN])
    library.add_tokens(list(added.values()))
    return library
