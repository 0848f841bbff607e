"""What prompts begin with before anything of their user's: the part that different conversations share."""

import hashlib
from collections.abc import Callable, Sequence
from itertools import dropwhile

from rkllama_flask.errors import TemplateFailed
from rkllama_flask.generation.request import Message
from rkllama_flask.promptcache.prefix import Content, common_prefix, content

Write = Callable[[Sequence[Message]], str | Sequence[int]]
"""Makes a conversation into what the runtime is fed with."""

_PROBES = ("A", "\u4e2d")
"""User texts that have nothing in common, whatever a tokenizer makes of them."""

_REMEMBERED = 32


def opening(leading: Sequence[Message], write: Write) -> Content:
    """All that a prompt has after `leading` messages whatever its user says next: up to where a user's turn begins."""
    first, second = (content(write((*leading, Message("user", probe)))) for probe in _PROBES)
    return first[: common_prefix(first, second)]


def hash_of(value: object) -> str:
    """Stands for a value whose text says all of it."""
    return hashlib.sha256(repr(value).encode("utf-8", "replace")).hexdigest()[:32]


class Openings:
    """Finds the opening of each prompt from `at_least` tokens on, 0: of none. It is rendered once for each of them."""

    def __init__(self, at_least: int) -> None:
        self._at_least = at_least
        self._known: dict[str, Content] = {}

    def find(self, prompt: Content, leading: Sequence[Message], write: Write, key: object) -> Content | None:
        """The opening of a prompt that `write` made of `leading` messages and more; `key` is all that it depends on."""
        if not self._at_least or len(prompt) < self._at_least:
            return None
        place = hash_of(key)
        found = self._known.get(place)
        if found is None:
            try:
                found = opening(leading, write)
            except TemplateFailed:
                found = ""
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[place] = found
        return found[: common_prefix(found, prompt)] or None


def after_system(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages behind the system's at the beginning."""
    return tuple(dropwhile(lambda message: message.role == "system", messages))
