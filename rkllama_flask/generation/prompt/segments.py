"""A rendered prompt that remembers who wrote which part."""

from dataclasses import dataclass
from typing import NamedTuple


class Segment(NamedTuple):
    """A piece of a prompt. In trusted text a special token's string is that token; in untrusted text it stays text."""

    text: str
    trusted: bool


@dataclass(frozen=True)
class Prompt:
    """The whole prompt in order. Client text that could not be mistaken for anything may stand in trusted segments.

    `left_out` are the places of the messages of which the template does not write every text, or not in order.
    """

    segments: tuple[Segment, ...]
    left_out: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """What the model would read, were all of it one string."""
        return "".join(segment.text for segment in self.segments)
