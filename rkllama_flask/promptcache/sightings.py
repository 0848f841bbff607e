"""Which openings are worth keeping: those that a second conversation begins with."""

from collections import OrderedDict
from typing import NamedTuple

from rkllama_flask.promptcache.prefix import Content

_REMEMBERED = 64
"""Openings that wait for a second conversation; the oldest are forgotten."""


class Opening(NamedTuple):
    """What a model's prompt begins with before anything of its user's.

    `model` is its name, `identity` that of its weights, `template` a digest. `prompt_length` is in characters.
    """

    model: str
    identity: str
    template: str
    content: Content
    prompt_length: int


class Sightings:
    """Remembers openings, each with the first conversation that had it."""

    def __init__(self) -> None:
        self._first: OrderedDict[Opening, str] = OrderedDict()
        self._wanted: dict[Opening, None] = {}
        self._given_up: set[Opening] = set()

    def saw(self, opening: Opening, conversation: str) -> None:
        """A conversation, known by its beginning, had this opening."""
        if opening in self._given_up:
            return
        first = self._first.setdefault(opening, conversation)
        self._first.move_to_end(opening)
        if len(self._first) > _REMEMBERED:
            self._first.popitem(last=False)
        if first != conversation:
            self._wanted[opening] = None

    @property
    def wanted(self) -> list[Opening]:
        """The openings that should be saved, in the order in which that was found."""
        return list(self._wanted)

    def saved(self, opening: Opening) -> None:
        """It is saved; should the cache be deleted, it has to be seen twice again."""
        self._wanted.pop(opening, None)
        self._first.pop(opening, None)

    def give_up(self, opening: Opening) -> None:
        """It can't be saved, and is not to be tried again."""
        self.saved(opening)
        self._given_up.add(opening)
