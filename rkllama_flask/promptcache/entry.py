"""One saved prompt cache: what it holds, and everything it was made with."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rkllama_flask.errors import InvalidRequest
from rkllama_flask.promptcache.prefix import Content

Source = Literal["named", "automatic"]

AUTOMATIC_PREFIX = "auto-"
"""How the names of automatic caches begin; clients can't give such a name."""

_FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")


def check_name(name: str, *, param: str = "cache_name") -> str:
    """`name`, if a client may give it to a cache. Raises InvalidRequest naming `param`."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"'{param}' must be 1 to 80 of the characters A-Z a-z 0-9 _ - . and not begin with a dot or a dash.",
            param=param,
        )
    if name.startswith(AUTOMATIC_PREFIX):
        raise InvalidRequest(
            f"'{param}' must not begin with '{AUTOMATIC_PREFIX}': such names are given by the server.", param=param
        )
    return name


@dataclass(frozen=True)
class Binding:
    """What a KV state is bound to: with any of it changed, the state would be a wrong one.

    `model` is the identity of the weights and adapters, `runtime` the library's version, `template` a digest of the
    chat template, `context_length` in tokens, `adapters` LoRA files by name and scale. A `runtime` or `family` of ""
    is not known, and fits any.
    """

    model: str
    runtime: str
    family: str
    template: str
    context_length: int
    adapters: tuple[tuple[str, float], ...] = ()

    def difference(self, now: "Binding") -> str | None:
        """Why a cache made with this can't be used where `now` holds, as a sentence; None where it can."""
        if self.model != now.model:
            return "The model's file has changed since the cache was made."
        if self.adapters != now.adapters:
            return "The LoRA adapters have changed since the cache was made."
        if now.family and (self.runtime, self.family) != (now.runtime, now.family):
            return f"The cache was made with runtime {self.runtime}, not {now.runtime}."
        if self.template != now.template:
            return "The chat template has changed since the cache was made."
        if self.context_length != now.context_length:
            return f"The cache was made for a context of {self.context_length} tokens, not {now.context_length}."
        return None


class Draft(NamedTuple):
    """A cache to be made: `content` is to be in the KV cache, the rest as in CacheEntry. `template` is a digest."""

    model_name: str
    name: str
    source: Source
    content: Content
    template: str
    prompt_length: int
    messages: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class CacheEntry:
    """A cache as its side file describes it.

    `content` is what the KV cache holds, `tokens` its length. `messages` are what a request without a system message
    gets put in front. `prompt_length` is in characters, `size` in bytes, times are Unix seconds; `ttft_ms` is what
    making it took to the first token, `load_ms` what loading it takes, None where that is not measured.
    """

    name: str
    model_name: str
    source: Source
    binding: Binding
    content: Content
    tokens: int
    prompt_length: int
    ttft_ms: float
    created_at: float
    modified_at: float
    messages: tuple[Mapping[str, Any], ...] = ()
    load_ms: float | None = None
    file: str = ""
    size: int = 0
    sha256: str = ""
    folder: Path = Path()

    @property
    def path(self) -> Path:
        """Where the KV state lies."""
        return self.folder / self.file


def to_json(entry: CacheEntry) -> bytes:
    """The side file's bytes."""
    values = {field.name: getattr(entry, field.name) for field in fields(entry) if field.name != "folder"}
    values["binding"] = {field.name: getattr(entry.binding, field.name) for field in fields(Binding)}
    return json.dumps({"format": _FORMAT, **values}).encode()


def from_json(data: bytes, folder: Path) -> CacheEntry:
    """Read a side file that lies in `folder`. Raises ValueError for what is none, or is damaged."""
    try:
        values = dict(json.loads(data))
        if values.pop("format") != _FORMAT:
            raise ValueError("another format")
        bound = dict(values.pop("binding"))
        bound["adapters"] = tuple((str(name), float(scale)) for name, scale in bound["adapters"])
        held = values.pop("content")
        values["content"] = held if isinstance(held, str) else tuple(map(int, held))
        values["messages"] = tuple(values["messages"])
        if Path(values["file"]).name != values["file"] or not values["content"]:
            raise ValueError("no file of this folder")
        return CacheEntry(binding=Binding(**bound), folder=folder, **values)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("no side file of a prompt cache") from error
