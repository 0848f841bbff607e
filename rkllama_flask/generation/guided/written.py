"""What there is of an answer that the server and the model write together."""

from rkllama_flask.generation.output.lenient_json import BLANK
from rkllama_flask.generation.prompt.segments import Segment


class Written:
    """The answer so far, in segments that say who may write special tokens: the server, not the model.

    `ahead` is what the model said beyond the place where it was stopped: it often tells what it would write next.
    """

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.ahead = ""
        self._sent = 0
        self._held = 0

    def fix(self, text: str, *, trusted: bool = False) -> None:
        """Add what the server writes, which the model may have said already."""
        ahead, text_alone = self.ahead.lstrip(BLANK), text.strip(BLANK)
        said = bool(text_alone) and ahead.startswith(text_alone)
        if text_alone:
            self.ahead = ahead[len(text_alone) :] if said else ""
        self._add(Segment(text, trusted))

    def say(self, text: str, *, ahead: str = "") -> None:
        """Add what the model said."""
        self.ahead = ahead
        self._add(Segment(text, False))

    def hold(self) -> int:
        """Keep from the client what is added from here on; the place, for `release` or `drop`."""
        self._held += 1
        return len(self.segments)

    def release(self) -> None:
        """What was held is meant."""
        self._held -= 1

    def drop(self, place: int) -> None:
        """Take back what was held."""
        self._held -= 1
        del self.segments[place:]
        self.ahead = ""

    def since(self, place: int) -> str:
        """The text that was added after this place."""
        return "".join(segment.text for segment in self.segments[place:])

    def take(self) -> str:
        """What the client may see and has not seen yet."""
        if self._held:
            return ""
        new = self.since(self._sent)
        self._sent = len(self.segments)
        return new

    def _add(self, segment: Segment) -> None:
        if segment.text:
            self.segments.append(segment)
