"""Answers in channels, as gpt-oss writes them: analysis, final, and commentary that calls functions.

The format is OpenAI's "harmony"; its template tells less of it than the model writes, so that it is read by name.
"""

import re
from collections.abc import Sequence

from rkllama_flask.generation.events import Reasoning, Text
from rkllama_flask.generation.output.arriving import ArrivingText, Reading
from rkllama_flask.generation.output.turn_form import CallForm, NamedCall
from rkllama_flask.text.stops import overlap

MARKS = ("<|channel|>", "<|message|>")
"""What stands in the template of every model that writes so."""

_CALL = "<|channel|>commentary to=functions."
FINAL = "<|channel|>final<|message|>"
"""What an answer's text begins with."""
CALLS = CallForm(begin=_CALL, call=NamedCall(("<|message|>",)), between="<|call|>", end="<|call|>")
"""How a call leaves here, however the model has put its header."""

_LONGEST_HEADER = 400
"""Characters."""
_BEGINNINGS = ("<|start|>", "<|channel|>", "assistant", " to=", "to=")
_TO = re.compile(r"to=(?:functions\.)?([^\s<]+)")
_ENDS = ("<|end|>", "<|return|>", "<|call|>", "<|start|>")


class ChannelSplitter:
    """Tells thoughts from text, as ReasoningSplitter does; a call passes as text, for the parser of calls."""

    def __init__(self) -> None:
        self._text = ArrivingText()
        self._events: list[Text | Reasoning] = []
        self._reader = self._read()

    def feed(self, text: str) -> list[Text | Reasoning]:
        """What is decided now."""
        self._text.add(text)
        next(self._reader, None)
        return self._taken()

    def finish(self, *, cut: bool = False) -> list[Text | Reasoning]:  # noqa: ARG002 - a call is the parser's to judge
        """What stayed back."""
        self._text.ended = True
        next(self._reader, None)
        return self._taken()

    def _taken(self) -> list[Text | Reasoning]:
        events, self._events = self._events, []
        return events

    def _read(self) -> Reading[None]:
        while (yield from self._text.peek()):
            header = yield from self._header()
            if header is None:
                yield from self._body(Text, ())
                return
            recipient = _TO.search(header)
            if recipient:
                self._events.append(Text(f"{_CALL}{recipient[1]}<|message|>"))
                if (yield from self._body(Text, _ENDS)):
                    self._events.append(Text("<|call|>"))
            else:
                yield from self._body(Reasoning if "analysis" in header else Text, _ENDS)

    def _header(self) -> Reading[str | None]:
        """What stands before the next message; None where text stands that has no header."""
        text = self._text
        start = text.position
        while True:
            held = text.text[start:]
            place = held.find("<|message|>")
            if place >= 0 or text.ended or len(held) > _LONGEST_HEADER or not _may_begin(held):
                break
            yield
        if place < 0 or not held.lstrip("\n").startswith(_BEGINNINGS):
            return None
        text.position = start + place + len("<|message|>")
        return held[:place]

    def _body(self, kind: type[Text] | type[Reasoning], ends: Sequence[str]) -> Reading[bool]:
        """Pass a message on, up to the mark that ends it; whether one has."""
        text = self._text
        while True:
            rest = text.text[text.position :]
            found = min(((at, end) for end in ends if (at := rest.find(end)) >= 0), default=None)
            upto = found[0] if found else len(rest) - (0 if text.ended else overlap(rest, *ends))
            if upto:
                self._events.append(kind(rest[:upto]))
            text.position += upto
            text.forget()
            if found:
                text.position = 0 if found[1] == "<|start|>" else len(found[1])
                return True
            if text.ended:
                return False
            yield


def _may_begin(held: str) -> bool:
    bare = held.lstrip("\n")
    return any(bare.startswith(mark) or mark.startswith(bare) for mark in _BEGINNINGS)
