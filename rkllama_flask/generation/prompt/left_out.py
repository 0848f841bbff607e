"""Whether a prompt says all that its conversation says.

A template may trim a text, write it as JSON, and leave out old thoughts. It gathers system text where it likes, and
orders a call's turn as it likes; turns it leaves in order.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from rkllama_flask.generation.prompt.template_messages import Turn, strings

_FORM = re.compile(r"\\+[nrtbf]?|[\s\"']+")
"""What a text may lose or gain when it is written as JSON or by Python, or indented."""


def left_out(conversation: Sequence[Turn], rendered: str) -> list[int]:
    """The places of the turns of which a text does not stand in `rendered`, or not in order."""
    found = _missing(conversation, rendered, bare=False)
    return _missing(conversation, _FORM.sub("", rendered), bare=True) if found else found


def _missing(conversation: Sequence[Turn], rendered: str, *, bare: bool) -> list[int]:
    reader = _Reader(rendered, bare=bare)
    found, in_call = [], False
    for place, turn in enumerate(conversation):
        if turn["role"] == "system":
            if not reader.stands_anywhere(turn["content"]):
                found.append(place)
            continue
        if not (in_call and turn["role"] == "tool"):
            in_call = bool(turn.get("tool_calls"))
            reader.begin_turn()
        if [said for said in _said(turn) if not _stands(reader, said, turn["role"])]:
            found.append(place)
    return found


def _said(turn: Turn) -> Iterator[Any]:
    """The texts of a turn, and what is JSON in it: each has to stand in the prompt."""
    content = turn["content"] or ""
    yield content.rpartition("</think>")[2] if turn["role"] == "assistant" else content
    for call in turn.get("tool_calls", ()):
        yield call["function"]["name"]
        yield call["function"]["arguments"]


def _stands(reader: "_Reader", said: Any, writer: str) -> bool:
    if not isinstance(said, str):
        return not [text for text in strings(said) if not reader.stands(text, "JSON")]
    if reader.stands(said, writer):
        return True
    try:
        value = json.loads(said)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict | list) and _stands(reader, value, writer)


class _Reader:
    """Goes through a rendered prompt once, turn by turn; `bare` is one without `_FORM`."""

    def __init__(self, rendered: str, *, bare: bool) -> None:
        self._rendered = rendered
        self._bare = bare
        self._begin = self._end = 0
        self._escaped: dict[str, bool] = {}

    def begin_turn(self) -> None:
        self._begin = self._end

    def stands(self, text: str, writer: str) -> bool:
        """Whether the text stands behind the turns before; the earliest place is taken, so none is missed.

        The form in which the last text of the same writer stood is tried first: a miss costs a look at all the rest.
        """
        likely = self._escaped.get(writer, False)
        for escaped in (likely, not likely):
            form = self._form(text, escaped=escaped)
            at = self._rendered.find(form, self._begin)
            if at >= 0:
                self._end = max(self._end, at + len(form))
                self._escaped[writer] = escaped
                return True
        return False

    def stands_anywhere(self, text: str) -> bool:
        return any(self._form(text, escaped=escaped) in self._rendered for escaped in (False, True))

    def _form(self, text: str, *, escaped: bool) -> str:
        text = text.strip()
        text = json.dumps(text, ensure_ascii=self._bare)[1:-1] if escaped else text
        return _FORM.sub("", text) if self._bare else text
