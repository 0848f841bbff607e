"""What a conversation holds and no model here can read: a line of text stands in its place, and it is named.

Only in the last turn of a user's own is it refused: whoever sent it there can take it back. What stands further back is
in every later request too, so that refusing it would end the conversation.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from marshmallow import ValidationError

Path = tuple[str | int, ...]


class Unread(NamedTuple):
    """What can't be read, its path, and the field in it that says so. Without `what` it is left out wherever it is."""

    path: Path
    what: str = ""
    field: str = ""


class Told(NamedTuple):
    """A text, and what could not be read beside it."""

    text: str = ""
    unread: tuple[Unread, ...] = ()

    def under(self, *path: str | int) -> "Told":
        """The same, seen from further up in the body."""
        return Told(self.text, placed(self.unread, *path)) if self.unread else self


def stand_in(what: str, *path: str | int, field: str = "") -> Told:
    """The line for what can't be read."""
    return Told(f"[Here was {what}, but this model reads only text.]", (Unread(path, what, field),))


def joined(parts: Iterable[Told]) -> Told:
    """Several texts as one, each on lines of its own."""
    parts = tuple(parts)
    return Told("\n".join(part.text for part in parts), tuple(one for part in parts for one in part.unread))


def placed(unread: Iterable[Unread], *path: str | int) -> tuple[Unread, ...]:
    """The same, seen from further up in the body."""
    return tuple(one._replace(path=(*path, *one.path)) for one in unread)


def refuse(unread: Iterable[Unread]) -> None:
    """Raises ValidationError at the first that stands for something a user sent."""
    for path, what, field in unread:
        if what:
            raise at((*path, field) if field else path, f"is {what}, but the models here read only text")


def at(path: Path, sentence: str) -> ValidationError:
    """The error of a value further down."""
    found: Any = [sentence]
    for step in reversed(path):
        found = {step: found}
    return ValidationError(found)


def dotted(unread: Iterable[Unread]) -> Iterator[str]:
    """Their paths as the client is told them."""
    return (".".join(map(str, one.path)) for one in unread)


def place_of_last(body: Mapping[str, Any], field: str, is_users: Callable[[Mapping[str, Any]], bool]) -> Path:
    """The path of the last turn of a user's own in a list of the body; empty where there is none."""
    turns = body.get(field)
    index = last(turns, is_users) if isinstance(turns, list) else None
    return () if index is None else (field, index)


def last(turns: Sequence[Any], is_users: Callable[[Mapping[str, Any]], bool]) -> int | None:
    """Where the last turn of a user's own stands, in a body that nobody has looked at yet or in a checked one."""
    for index in range(len(turns) - 1, -1, -1):
        if isinstance(turns[index], Mapping) and is_users(turns[index]):
            return index
    return None
