"""Tool calls found in an answer while it arrives.

Text is passed on at once, but for what may be the beginning of a call. A call is one only if an offered function is
called; anything else is text, unchanged. Every known way of writing calls is understood from every model: behind a
marker (`<tool_call>`, `[TOOL_CALLS]` …) in any form, and without one as JSON at the beginning of a line.
"""

# ruff: noqa: RUF001 - DeepSeek's markers are written with a full-width bar

import re
import secrets
from collections.abc import Sequence
from typing import NamedTuple

from rkllama_flask.generation.events import Event, Text, ToolArguments, ToolCallStarted
from rkllama_flask.generation.output.arriving import ArrivingText, Reading
from rkllama_flask.generation.output.lenient_json import BLANK
from rkllama_flask.generation.output.tool_dialects.calls import CallReader, NotACall
from rkllama_flask.generation.output.tool_dialects.dialects import offered_names
from rkllama_flask.generation.request import Tool, ToolChoice
from rkllama_flask.text.stops import overlap

_MARKERS: dict[str, tuple[str, ...]] = {
    # What begins calls, and what ends them.
    "<tool_call>": ("</tool_call>",),  # Hermes, Qwen, SmolLM and many others
    "<function=": ("</tool_call>",),  # Qwen3-Coder and Llama 3.1 without the tag around
    "<|python_tag|>": ("<|eom_id|>", "<|eot_id|>"),  # Llama 3
    "[TOOL_CALLS]": ("</s>",),  # Mistral
    "<|tool_call>": ("<tool_call|>",),  # Gemma 4
    "<start_function_call>": ("<end_function_call>",),  # FunctionGemma
    "<｜tool▁calls▁begin｜>": ("<｜tool▁calls▁end｜>",),  # DeepSeek
    "<｜tool▁call▁begin｜>": ("<｜tool▁calls▁end｜>",),
    "<|tool_call|>": ("<|/tool_call|>", "</tool_call>"),  # Phi-4-mini, Granite
    "functools[": (),  # Phi
    "<|action_start|><|plugin|>": ("<|action_end|>",),  # InternLM2
    "<|tool_call_start|>": ("<|tool_call_end|>",),  # MiniCPM, LFM2
}
_BARE = ("```", "{", "[")
_AT_LINE_START = frozenset((*_BARE, "functools["))
_OPENERS = re.compile("|".join(map(re.escape, (*_MARKERS, *_BARE))))

_CLOSING, _CLOSING_MARKS = BLANK + "]})", ("```", "</function>", "<｜tool▁call▁end｜>")
_OPENING, _OPENING_MARKS = BLANK + ",;[", ("```json", "```python", "```", "<｜tool▁call▁begin｜>")
_LANGUAGES = ("json", "tool_code", "tool_call", "tool_calls", "function_call")


class _Opener(NamedTuple):
    start: int
    marker: str


class ToolCallParser:
    """`done` says that no more calls are wanted: the answer can end here."""

    problem = None
    """Whatever is read, the calls are valid JSON."""

    def __init__(self, tools: Sequence[Tool], *, only_one: bool = False) -> None:
        self._tools = tuple(tools)
        self._only_one = only_one
        self._text = ArrivingText()
        self._events: list[Event] = []
        self._calls = 0
        self._blank_line = True  # nothing but blanks stands on this line so far
        self._blank: str | None = ""  # what was held at the beginning or after a call; None within text
        self._reader = self._read()
        self.done = False

    @classmethod
    def for_request(cls, tools: Sequence[Tool], choice: ToolChoice, *, parallel: bool = True) -> "ToolCallParser":
        """A parser for the answer to this request. Raises InvalidRequest for a function that isn't offered."""
        names = [] if choice.mode == "none" else offered_names(choice, tools)
        return cls(
            [tool for tool in tools if tool.name in names],
            only_one=not parallel or choice.mode == "named",
        )

    def feed(self, text: str) -> list[Event]:
        """What is decided now."""
        self._advance(text)
        return self._taken()

    def finish(self) -> list[Event]:
        """What was undecided; a call that has begun is completed to valid JSON."""
        self._text.ended = True
        self._advance("")
        return self._taken()

    # Where calls go (CallOutput)

    def start(self, name: str) -> None:
        self._events.append(ToolCallStarted(self._calls, f"call_{secrets.token_urlsafe(18)}", name))
        self._calls += 1
        self._blank = ""

    def write(self, piece: str) -> None:
        if piece:
            self._events.append(ToolArguments(self._calls - 1, piece))

    # Within

    def _advance(self, text: str) -> None:
        if not self.done:
            self._text.add(text)
            next(self._reader, None)

    def _taken(self) -> list[Event]:
        """The events so far, neighbouring pieces joined."""
        joined: list[Event] = []
        for event in self._events:
            last = joined[-1] if joined else None
            if isinstance(event, ToolArguments) and isinstance(last, ToolArguments) and event.index == last.index:
                joined[-1] = ToolArguments(event.index, last.text + event.text)
            elif isinstance(event, Text) and isinstance(last, Text):
                joined[-1] = Text(last.text + event.text)
            else:
                joined.append(event)
        self._events = []
        return joined

    def _read(self) -> Reading[None]:
        while True:
            opener = yield from self._next_opener()
            if opener is None:
                if self._blank and not self._calls:
                    self._events.append(Text(self._blank))
                return
            calls = self._calls
            try:
                if opener.marker in _MARKERS:
                    yield from self._marked(opener)
                else:
                    yield from self._bare(opener)
            except NotACall:
                self._text.position = opener.start
                self._release(opener.start + 1)
            if self._calls > calls:
                self._blank_line = False
                if self._only_one:
                    self.done = True
                    return

    def _next_opener(self) -> Reading[_Opener | None]:
        """Pass text on until something may begin a call."""
        text = self._text
        while True:
            text.forget()
            end = len(text.text) - (0 if text.ended or not self._tools else self._undecided())
            for match in _OPENERS.finditer(text.text) if self._tools else ():
                marker = match.group()
                if self._may_open(marker, match.start()) and (marker in _MARKERS or match.start() < end):
                    self._release(match.start())
                    text.position = match.end()
                    return _Opener(match.start(), marker)
            self._release(end)
            if text.ended:
                return None
            yield

    def _undecided(self) -> int:
        """How many characters at the end of the text may be the beginning of a marker."""
        text = self._text.text
        lengths = ((marker, overlap(text, marker)) for marker in (*_MARKERS, "```"))
        return max(length for marker, length in lengths if not length or self._may_open(marker, len(text) - length))

    def _may_open(self, marker: str, place: int) -> bool:
        if marker not in _AT_LINE_START:
            return True
        _, newline, line = self._text.text[:place].rpartition("\n")
        return not line.strip() and (bool(newline) or self._blank_line)

    def _release(self, end: int) -> None:
        """Pass on the text up to here; blanks around calls are nobody's."""
        text = self._text.text[self._text.position : end]
        self._text.position = end
        _, newline, line = text.rpartition("\n")
        self._blank_line = not line.strip() and (bool(newline) or self._blank_line)
        if self._blank is not None:
            self._blank += text
            if not self._blank.strip():
                return
            text, self._blank = self._blank, None
        if text:
            self._events.append(Text(text))

    def _marked(self, opener: _Opener) -> Reading[None]:
        """Calls behind a marker, in whatever form, until their end."""
        text, ends, first = self._text, _MARKERS[opener.marker], self._calls
        reader = CallReader(text, self._tools, self, ends=(*ends, *_CLOSING_MARKS, opener.marker))
        if opener.marker == "<function=":
            yield from reader.xml()
        while not (self._only_one and self._calls > first):
            if self._calls > first:
                yield from _skip(text, _CLOSING, _CLOSING_MARKS)
                if ends and (yield from text.literal(*ends)):
                    return
            start = text.position
            yield from _skip(text, _OPENING, _OPENING_MARKS)
            try:
                yield from reader.call()
            except NotACall:
                if self._calls == first:
                    raise
                text.position = start
                return

    def _bare(self, opener: _Opener) -> Reading[None]:
        """JSON calls in the text as they are, in a list or in a fence; Python's in a list or in a fence for tools."""
        text, first = self._text, self._calls
        fenced, listed, python = opener.marker == "```", opener.marker == "[", False
        if fenced:
            python = (yield from text.literal(*_LANGUAGES)) not in ("", "json")
            yield from text.skip(BLANK)
            listed = bool((yield from text.literal("[")))
        elif opener.marker == "{":
            text.position = opener.start
        reader = CallReader(text, self._tools, self, ends=("```",) if fenced else ())
        while True:
            start = text.position
            yield from text.skip(BLANK + ",;" if self._calls > first else BLANK)
            try:
                yield from reader.call(bare=not python, python=python or (listed and not fenced))
            except NotACall:
                if self._calls == first:
                    raise
                text.position = start
                return
            if self._only_one:
                return
            end = text.position
            yield from text.skip(BLANK + ")" if python else BLANK)
            if listed and (yield from text.literal("]")):
                listed, end = False, text.position
                yield from text.skip(BLANK)
            if fenced and (yield from text.literal("```")):
                return
            text.position = end


def _skip(text: ArrivingText, characters: str, marks: tuple[str, ...]) -> Reading[None]:
    """Take these characters and marks as long as there are any."""
    while (yield from text.skip(characters)) or (yield from text.literal(*marks)):
        pass
