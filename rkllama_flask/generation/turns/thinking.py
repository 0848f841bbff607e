"""What a template takes as a wish for thinking, told from the prompts that it makes of each."""

from collections.abc import Callable
from dataclasses import dataclass

LEVELS = ("low", "medium", "high")
Value = bool | str


@dataclass(frozen=True)
class Thinking:
    """The wishes that make a difference, and which of them the template takes where nothing is wished.

    `values` of False alone: the model does not think.
    """

    values: tuple[Value, ...]
    default: Value


def find_thinking(prompt: Callable[[Value | None], str | None], *, thinks: bool) -> Thinking:
    """`prompt` makes the prompt for a wish, or for none; None where the template refuses it.

    `thinks`: the template writes reasoning into turns.
    """
    plain, on, off = prompt(None), prompt(True), prompt(False)
    levels = {level: made for level in LEVELS if (made := prompt(level)) is not None}
    if len(levels) > 1 and len(set(levels.values())) == len(levels):
        default = next((level for level, made in levels.items() if made == plain), [*levels][len(levels) // 2])
        return Thinking((*((False,) if off not in (None, *levels.values()) else ()), *levels), default)
    if None not in (on, off) and on != off:
        return Thinking((False, True), plain != off)
    return Thinking((False, True), True) if thinks else Thinking((False,), False)
