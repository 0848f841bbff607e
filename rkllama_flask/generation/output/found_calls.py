"""What readers of an answer find in it, as events: text, and calls that are finished, unfinished or cut.

It is the same for every way of writing calls: a reader only says where a call starts, what its arguments are and where
they end.
"""

import secrets

from rkllama_flask.generation.events import (
    Event,
    Text,
    ToolArguments,
    ToolCallCut,
    ToolCallFinished,
    ToolCallStarted,
)


class FoundCalls:
    """Where readers put text and calls (a CallOutput); `take` gives the events.

    A call is told with the first of its arguments. Blanks at the beginning of an answer and around calls are nobody's.
    """

    def __init__(self) -> None:
        self.count = 0
        """Calls that have been told of."""
        self.finished = 0
        """Those of them that are whole."""
        self._events: list[Event] = []
        self._name: str | None = None  # of a call that nothing has been told of yet
        self._open = False
        self._blank: str | None = ""  # what is held at the beginning or after a call; None within text
        self._before = ""  # what was held before the call that is open

    def start(self, name: str) -> None:
        """A call of this function begins."""
        self._name = name

    def write(self, piece: str) -> None:
        """The next piece of its arguments."""
        if self._name is not None:
            self._events.append(ToolCallStarted(self.count, f"call_{secrets.token_urlsafe(18)}", self._name))
            self._before = "" if self.count else self._blank or ""
            self.count += 1
            self._blank, self._name, self._open = "", None, True
        if piece:
            self._events.append(ToolArguments(self.count - 1, piece))

    def end(self) -> None:
        """Its arguments can't go on."""
        self._events.append(ToolCallFinished(self.count - 1))
        self.finished = self.count
        self._open = False

    def say(self, text: str) -> None:
        """Text that is no call."""
        if self._blank is not None:
            self._blank += text
            if not self._blank.strip():
                return
            text, self._blank = self._blank, None
        if text:
            self._events.append(Text(text))

    def break_off(self, text: str) -> None:
        """The answer was cut behind this text, of which no call has been made."""
        if self._open:
            self._events.append(ToolCallCut(self.count - 1, self._before + text))
            self._open = False
        else:
            self.say(text)

    def close(self) -> None:
        """The answer is over: if there was nothing but blanks, they are its text."""
        if self._blank and not self.count:
            self._events.append(Text(self._blank))
            self._blank = None

    def take(self) -> list[Event]:
        """The events since the last time, neighbouring pieces joined."""
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
