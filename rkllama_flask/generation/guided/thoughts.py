"""Thoughts before an answer that the server writes together with the model."""

from collections.abc import Sequence

from rkllama_flask.generation.guided.slots import Slot
from rkllama_flask.generation.guided.written import Written
from rkllama_flask.generation.output.reasoning import marks_with, prompt_marks_with
from rkllama_flask.generation.output.turn_form import Marks
from rkllama_flask.text.stops import overlap


class ThoughtsSlot(Slot):
    """The model's thoughts, with their tags, if it begins with them; anything else that it says first is dropped.

    `open` says that the prompt ends inside the thoughts; `found` are the model's own marks.
    """

    def __init__(self, written: Written, *, open: bool, found: Marks | None = None) -> None:
        self._written = written
        self._marks = marks_with(found)
        self._closes: Sequence[str] = tuple(marks.close for marks in prompt_marks_with(found)) if open else ()
        self._held = ""

    def feed(self, text: str) -> None:
        self._held += text
        if not self._closes and not self._opened():
            return
        found = [(place, close) for close in self._closes if (place := self._held.find(close)) >= 0]
        if found:
            place, close = min(found)
            self._written.say(self._held[:place])
            self._close(close)
            return
        keep = overlap(self._held, *self._closes)
        self._written.say(self._held[: len(self._held) - keep])
        self._held = self._held[len(self._held) - keep :]

    def end(self) -> None:
        if not self.done and self._closes:
            self._written.say(self._held)
            self._close(self._closes[0])
        self.done = True

    def _opened(self) -> bool:
        """Whether thoughts have begun; the run is over where none can."""
        said = self._held.lstrip()
        for tags in self._marks:
            if said.startswith(tags.open):
                self._closes, self._held = (tags.close,), said[len(tags.open) :]
                self._written.fix(tags.open, trusted=True)
                return True
        self.done = bool(said) and not any(tags.open.startswith(said) for tags in self._marks)
        return False

    def _close(self, tag: str) -> None:
        self._written.fix(tag, trusted=True)
        self._written.fix("\n\n")
        self.done = True
