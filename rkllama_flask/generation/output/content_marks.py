"""Text of an answer without what some models write around it."""

from typing import Protocol

from rkllama_flask.generation.events import Reasoning, Text
from rkllama_flask.generation.output.turn_form import Marks
from rkllama_flask.text.stops import overlap


class Splitter(Protocol):
    """What tells thoughts from text in an answer that is arriving."""

    def feed(self, text: str) -> list[Text | Reasoning]: ...

    def finish(self, *, cut: bool = False) -> list[Text | Reasoning]: ...


class ContentMarks:
    """Takes `open` from the beginning of the text and the first `close` behind it; other text passes unchanged."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._waits_for = marks.open
        self._held = ""

    def feed(self, text: str) -> str:
        """The text that is decided now."""
        if not self._waits_for:
            return text
        self._held += text
        if self._waits_for == self._marks.open:
            bare = self._held.lstrip()
            if not bare.startswith(self._marks.open):
                if not self._marks.open.startswith(bare):
                    self._waits_for = ""
                    return self.finish()
                return ""
            self._held, self._waits_for = bare[len(self._marks.open) :].lstrip("\n"), self._marks.close
            if not self._waits_for:
                return self.finish()
        before, found, behind = self._held.partition(self._marks.close)
        if found:
            self._waits_for, self._held = "", ""
            return before + behind
        keep = overlap(self._held, self._marks.close)
        decided, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return decided

    def finish(self) -> str:
        """The text that stayed back."""
        held, self._held = self._held, ""
        return held


class UnwrappingSplitter:
    """A splitter whose text leaves without its marks."""

    def __init__(self, splitter: Splitter, marks: Marks) -> None:
        self._splitter = splitter
        self._marks = ContentMarks(marks)

    def feed(self, text: str) -> list[Text | Reasoning]:
        """What is decided now."""
        return self._unwrapped(self._splitter.feed(text))

    def finish(self, *, cut: bool = False) -> list[Text | Reasoning]:
        """What stayed back."""
        events = self._unwrapped(self._splitter.finish(cut=cut))
        rest = self._marks.finish()
        return [*events, Text(rest)] if rest else events

    def _unwrapped(self, events: list[Text | Reasoning]) -> list[Text | Reasoning]:
        found: list[Text | Reasoning] = []
        for event in events:
            text = self._marks.feed(event.text) if isinstance(event, Text) else event.text
            if text:
                found.append(event._replace(text=text))
        return found
