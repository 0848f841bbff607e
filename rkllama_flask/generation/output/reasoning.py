"""The model's thoughts told apart from its answer, while both are still arriving."""

import re
from collections.abc import Callable
from enum import Enum

from rkllama_flask.generation.events import Reasoning, Text
from rkllama_flask.generation.output.tool_calls import CALL_MARKS, OnlyCalls
from rkllama_flask.generation.output.turn_form import Marks
from rkllama_flask.text.stops import overlap

TAGS = (
    Marks("<think>", "</think>"),  # Qwen3, DeepSeek-R1 and most others
    Marks("[THINK]", "[/THINK]"),  # Magistral, Ministral
    Marks("<|channel>thought", "<channel|>"),  # Gemma 4
    Marks("<|thought_start|>", "<|thought_end|>"),  # MiniCPM3
    Marks("<thought>", "</thought>"),  # EXAONE Deep
    Marks("<thinking>", "</thinking>"),
    Marks("◁think▷", "◁/think▷"),  # Kimi
)
_PROMPT_TAGS = TAGS[:2]
"""Those that chat templates open at the end of the prompt."""


def marks_with(found: Marks | None) -> tuple[Marks, ...]:
    """What may stand around thoughts, the model's own marks first, where it opens them itself."""
    return (found, *TAGS) if found and found.open else TAGS


def prompt_marks_with(found: Marks | None) -> tuple[Marks, ...]:
    """What may stand around thoughts that the prompt has opened, the model's own marks first."""
    return (found, *_PROMPT_TAGS) if found else _PROMPT_TAGS


_BLANK_LINES = re.compile(r"\A\s*\n")


class _Place(Enum):
    BEFORE = "nothing said yet, or only thoughts"
    THOUGHTS = "between the tags"
    ANSWER = "after the first text"


class ReasoningSplitter:
    """Thoughts come before the answer: once text has begun, tags in it are text.

    `open` says that the prompt already ends inside the thoughts, `found` are the model's own marks, beside the known
    ones. Blank lines around thoughts are not passed on. Where thoughts that were never closed end with calls, these are
    the answer; `calls` makes what tells them, behind one of `call_marks`; None where no functions are on offer.
    """

    def __init__(
        self,
        *,
        open: bool = False,
        found: Marks | None = None,
        calls: Callable[[], OnlyCalls] | None = None,
        call_marks: tuple[str, ...] = CALL_MARKS,
    ) -> None:
        self._marks = marks_with(found)
        prompt_marks = prompt_marks_with(found)
        self._place = _Place.THOUGHTS if open else _Place.BEFORE
        self._closes = tuple(dict.fromkeys(marks.close for marks in prompt_marks))
        self._repeated = tuple(marks.open for marks in prompt_marks if marks.open) if open else ()
        self._thought = False
        self._held = ""
        self._calls = calls
        self._call_marks = call_marks
        self._call_mark = re.compile("|".join(map(re.escape, call_marks)))
        self._tried: OnlyCalls | None = None  # what is held, and may be calls
        self._tried_length = 0

    def feed(self, text: str) -> list[Text | Reasoning]:
        """What is decided now; at most an undecided tag and the blank space before it stay back."""
        if self._place is _Place.ANSWER:
            return [Text(text)] if text else []
        self._held += text
        events: list[Text | Reasoning] = []
        while self._step(events):
            pass
        return events

    def finish(self, *, cut: bool = False) -> list[Text | Reasoning]:
        """What stayed back. Thoughts that were never closed are thoughts, whole calls at their end aside: those too
        where the answer was `cut`, for the model may have gone on to think.
        """
        held, self._held = self._held, ""
        if self._place is _Place.THOUGHTS:
            if self._tried and not cut and self._tried.finish():
                return [Text(held.lstrip())]
            return [Reasoning(held)] if held.strip() else []
        if self._thought:
            held = _BLANK_LINES.sub("", held, count=1)
        return [Text(held)] if held else []

    def _step(self, events: list[Text | Reasoning]) -> bool:
        """Take one part off the front of what is held; False when more text is needed."""
        if self._place is _Place.BEFORE:
            return self._before(events)
        if self._place is _Place.THOUGHTS:
            return self._thoughts(events)
        return False

    def _before(self, events: list[Text | Reasoning]) -> bool:
        text = self._held.lstrip()
        for tags in self._marks:
            if text.startswith(tags.open):
                self._held = text[len(tags.open) :]
                self._place, self._closes = _Place.THOUGHTS, (tags.close,)
                return True
            if text.startswith(tags.close) and not self._thought:  # opened by a template that no one told about
                self._held = text[len(tags.close) :]
                self._thought = True
                return True
            if tags.open.startswith(text) or (tags.close.startswith(text) and not self._thought):
                return False
        events.extend(self.finish())
        self._place = _Place.ANSWER
        return False

    def _thoughts(self, events: list[Text | Reasoning]) -> bool:
        if not self._thought:
            self._held = self._held.lstrip()
            for tag in self._repeated:
                if self._held.startswith(tag):
                    self._held, self._repeated = self._held[len(tag) :], ()
                    return True
                if tag.startswith(self._held):
                    return False
        text = self._held
        found = [(place, close) for close in self._closes if (place := text.find(close)) >= 0]
        end, close = min(found, default=(len(text) - overlap(text, *self._closes), ""))
        if not close and self._calls:
            end = min(end, self._where_calls_begin(self._calls))
        thought = text[:end].rstrip()
        if thought:
            events.append(Reasoning(thought))
            self._thought = True
        if not close:
            self._held = text[len(thought) :]
            return False
        self._held = text[end + len(close) :]
        self._place, self._thought, self._tried = _Place.BEFORE, True, None
        return True

    def _where_calls_begin(self, calls: Callable[[], OnlyCalls]) -> int:
        """The place in what is held from which there may be nothing but calls."""
        text = self._held
        start = len(text) - len(text.lstrip())  # what is tried stands at the front
        while True:
            if self._tried is None:
                mark = self._call_mark.search(text, start)
                if mark is None:
                    return len(text) - overlap(text, *self._call_marks)
                start, self._tried, self._tried_length = mark.start(), calls(), 0
            if self._tried.feed(text[start + self._tried_length :]):
                self._tried_length = len(text) - start
                return start
            self._tried, start = None, start + 1
