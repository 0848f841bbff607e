"""Tool calls found in an answer while it arrives.

Text is passed on at once, but for what may be the beginning of a call. A call is one only if an offered function is
called; anything else is text, unchanged. Every known way of writing calls is understood from every model: behind a
marker (`<tool_call>`, `[TOOL_CALLS]` …) in any form, and without one as JSON at the beginning of a line, or as Python's
call alone on its line.

A call is mended where the model ended its turn within it. Where the answer was cut there is no call of what was not
finished: its text is told instead.
"""

# ruff: noqa: RUF001 - DeepSeek's markers are written with a full-width bar

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from rkllama_flask.generation.events import Event, Text, ToolCallCut
from rkllama_flask.generation.output.arriving import ArrivingText, CutOff, Reading
from rkllama_flask.generation.output.form_reader import FormReader, opener_of
from rkllama_flask.generation.output.found_calls import FoundCalls
from rkllama_flask.generation.output.lenient_json import BLANK
from rkllama_flask.generation.output.tool_dialects.calls import CallReader, NotACall
from rkllama_flask.generation.output.tool_dialects.dialects import offered_names
from rkllama_flask.generation.output.turn_form import CallForm
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
CALL_MARKS = tuple(_MARKERS)
"""What calls begin with that no text and no thought does."""

_FENCE = "```"
_BARE = (_FENCE, "{", "[")
_AT_LINE_START = frozenset((*_BARE, "functools["))
_LINE = r"[^\W\d][\w.-]{0,127}\("

_CLOSING, _CLOSING_MARKS = BLANK + "]})", (_FENCE, "</function>", "<｜tool▁call▁end｜>")
_OPENING, _OPENING_MARKS = BLANK + ",;[", ("```json", "```python", "```", "<｜tool▁call▁begin｜>")
_LANGUAGES = ("json", "tool_code", "tool_call", "tool_calls", "function_call")


class _Opener(NamedTuple):
    start: int
    marker: str


class ToolCallParser:
    """`done` says that no more calls are wanted: the answer can end here. `form` is how the model's template writes
    calls, which is tried first.
    """

    problem = None
    """Whatever is read, the calls are valid JSON."""

    unapplied = ()

    def __init__(self, tools: Sequence[Tool], *, only_one: bool = False, form: CallForm | None = None) -> None:
        self._tools = tuple(tools)
        self._form = form
        self._mark = opener_of(form) if form else None
        self._markers = (*_MARKERS, self._mark) if self._mark else CALL_MARKS
        self._openers = _openers(self._markers)
        self._lines = tuple(f"{tool.name}(" for tool in tools)  # how a call alone on its line begins
        self._only_one = only_one
        self._text = ArrivingText()
        self._found = FoundCalls()
        self._begun = 0  # where that begins of which a call is to be made
        self._finished = 0  # calls that were finished before it
        self._line = ""  # how this line begins, but for blanks
        self._fenced = False
        self._reader = self._read()
        self.done = False

    @classmethod
    def for_request(
        cls, tools: Sequence[Tool], choice: ToolChoice, *, parallel: bool = True, form: CallForm | None = None
    ) -> "ToolCallParser":
        """A parser for the answer to this request. Raises InvalidRequest for a function that isn't offered."""
        names = [] if choice.mode == "none" else offered_names(choice, tools)
        return cls(
            [tool for tool in tools if tool.name in names],
            only_one=not parallel or choice.mode == "named",
            form=form,
        )

    def feed(self, text: str) -> list[Event]:
        """What is decided now."""
        self._advance(text)
        return self._found.take()

    def finish(self, *, cut: bool = False) -> list[Event]:
        """What was undecided. A call that has begun is completed to valid JSON, unless the answer was `cut` there."""
        self._text.cut, self._text.ended = cut, not cut
        self._advance("")
        return self._found.take()

    # Within

    def _advance(self, text: str) -> None:
        if not self.done:
            self._text.add(text)
            next(self._reader, None)

    def _read(self) -> Reading[None]:
        opened = self._form is not None and self._form.opened and bool(self._tools)
        while True:
            opener: _Opener | None = _Opener(0, "") if opened else (yield from self._next_opener())
            if opener is None:
                self._found.close()
                return
            calls = self._found.count
            self._begin(opener.start)
            try:
                yield from self._calls_at(opener, opened=opened)
            except NotACall:
                if opened:
                    self._text.position, opened = 0, False
                    continue
                self._text.position = opener.start
                self._release(opener.start + 1)
            except CutOff:
                if self._found.finished == self._finished:  # else it is what closes a call
                    self._found.break_off(self._text.text[self._begun :])
                self._text.position = len(self._text.text)
            opened = False
            if self._found.count > calls:
                self._line = "("  # no more calls without a marker begin on this one
                if self._only_one:
                    self.done = True
                    return

    def _calls_at(self, opener: _Opener, *, opened: bool) -> Reading[None]:
        """The calls that begin here, read as the model's template writes them, else in any known way."""
        if self._form is not None and (opened or opener.marker == self._mark):
            self._text.position = opener.start
            reader = FormReader(self._form, self._text, self._tools, self._found, begins=self._begin)
            try:
                yield from reader.calls(only_one=self._only_one, opened=opened)
            except NotACall:
                if opened or opener.marker not in (*_MARKERS, *_BARE):
                    raise
                self._text.position = opener.start + len(opener.marker)
            else:
                return
        if opener.marker in _MARKERS:
            yield from self._marked(opener)
        elif opener.marker in _BARE:
            yield from self._bare(opener)
        else:
            self._text.position = opener.start
            yield from CallReader(self._text, self._tools, self._found, ends=()).line()

    def _begin(self, place: int) -> None:
        self._begun, self._finished = place, self._found.finished

    def _next_opener(self) -> Reading[_Opener | None]:
        """Pass text on until something may begin a call."""
        text = self._text
        while True:
            text.forget()
            over = text.ended or text.cut
            end = len(text.text) - (0 if over or not self._tools else self._undecided())
            for match in self._openers.finditer(text.text) if self._tools else ():
                marker = match.group()
                if self._may_open(marker, match.start()) and (marker in self._markers or match.start() < end):
                    self._release(match.start())
                    text.position = match.end()
                    return _Opener(match.start(), marker)
            self._release(end)
            if over:
                return None
            yield

    def _undecided(self) -> int:
        """How many characters at the end of the text may be the beginning of a marker."""
        text = self._text.text
        lengths = ((marker, overlap(text, marker)) for marker in (*self._markers, _FENCE))
        longest = max(length for marker, length in lengths if not length or self._may_open(marker, len(text) - length))
        if self._line and "\n" not in text:
            return longest
        line = text.rpartition("\n")[2].lstrip()
        whole = next((one for one in self._lines if line and one.startswith(line)), None)
        return max(longest, len(line)) if whole and self._may_open(whole, len(text) - len(line)) else longest

    def _may_open(self, marker: str, place: int) -> bool:
        if marker in self._markers and not self._has_own_line(marker):
            return True
        line, fenced = self._line_at(place)
        return not line and (marker in _BARE or marker in self._markers or (marker in self._lines and not fenced))

    def _has_own_line(self, marker: str) -> bool:
        """Whether a marker is one only where a line begins: the found one if it is a word."""
        return marker.strip(":").isalnum() if marker == self._mark else marker in _AT_LINE_START

    def _line_at(self, place: int) -> tuple[str, bool]:
        """How the line of this place begins, and whether a fence is open there."""
        text = self._line + self._text.text[self._text.position : place]
        if "\n" not in text:
            return text.lstrip()[: len(_FENCE)], self._fenced
        *lines, last = text.split("\n")
        fences = sum(line.lstrip().startswith(_FENCE) for line in lines)
        return last.lstrip()[: len(_FENCE)], self._fenced ^ bool(fences % 2)

    def _release(self, end: int) -> None:
        """Pass on the text up to here; blanks around calls are nobody's."""
        self._line, self._fenced = self._line_at(end)
        text = self._text.text[self._text.position : end]
        self._text.position = end
        self._found.say(text)

    def _marked(self, opener: _Opener) -> Reading[None]:
        """Calls behind a marker, in whatever form, until their end."""
        text, ends, first = self._text, _MARKERS[opener.marker], self._found.count
        reader = CallReader(text, self._tools, self._found, ends=(*ends, *_CLOSING_MARKS, opener.marker))
        if opener.marker == "<function=":
            yield from reader.xml()
        while not (self._only_one and self._found.count > first):
            if self._found.count > first:
                yield from _skip(text, _CLOSING, _CLOSING_MARKS)
                if ends and (yield from text.literal(*ends)):
                    return
                self._begin(text.position)
            start = text.position
            yield from _skip(text, _OPENING, _OPENING_MARKS)
            try:
                yield from reader.call()
            except NotACall:
                if self._found.count == first:
                    raise
                text.position = start
                return

    def _bare(self, opener: _Opener) -> Reading[None]:
        """JSON calls in the text as they are, in a list or in a fence; Python's in a list or in a fence for tools."""
        text, first = self._text, self._found.count
        fenced, listed, python = opener.marker == _FENCE, opener.marker == "[", False
        if fenced:
            python = (yield from text.literal(*_LANGUAGES)) not in ("", "json")
            yield from text.skip(BLANK)
            listed = bool((yield from text.literal("[")))
        elif opener.marker == "{":
            text.position = opener.start
        reader = CallReader(text, self._tools, self._found, ends=(_FENCE,) if fenced else ())
        while True:
            start = text.position
            if self._found.count > first:
                self._begin(start)
            yield from text.skip(BLANK + ",;" if self._found.count > first else BLANK)
            try:
                yield from reader.call(bare=not python, python=python or (listed and not fenced))
            except NotACall:
                if self._found.count == first:
                    raise
                text.position = start
                return
            if self._only_one:
                return
            if python:
                yield from text.skip(")")  # of a print around it
            end = text.position
            yield from text.skip(BLANK)
            if listed and (yield from text.literal("]")):
                listed, end = False, text.position
                yield from text.skip(BLANK)
            if fenced and (yield from text.literal(_FENCE)):
                return
            text.position = end


class OnlyCalls:
    """Whether a text is nothing but whole calls, told while it arrives."""

    def __init__(self, parser: ToolCallParser) -> None:
        self._parser = parser

    def feed(self, text: str) -> bool:
        """Whether it still may be."""
        return not _says_something(self._parser.feed(text))

    def finish(self) -> bool:
        """Whether it is."""
        return not _says_something(self._parser.finish(cut=True))


@lru_cache(maxsize=64)
def _openers(markers: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted((*markers, *_BARE), key=len, reverse=True)
    return re.compile("|".join((*map(re.escape, longest_first), _LINE)))


def _says_something(events: Sequence[Event]) -> bool:
    return any(isinstance(event, ToolCallCut) or (isinstance(event, Text) and event.text.strip()) for event in events)


def _skip(text: ArrivingText, characters: str, marks: tuple[str, ...]) -> Reading[None]:
    """Take these characters and marks as long as there are any."""
    while (yield from text.skip(characters)) or (yield from text.literal(*marks)):
        pass
