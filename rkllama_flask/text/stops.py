"""Stop strings: found across token borders, and never a character of one let out."""

from collections.abc import Sequence


class StopMatcher:
    """Releases text as soon as it can't be part of a stop string any more.

    The stop string that is complete first wins, however the text is cut; of two complete at the same character it is
    the longer one.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""

    def feed(self, text: str) -> tuple[str, str | None]:
        """The text that is free now, and the stop string that was found, if one was."""
        if not self._stops:
            return text, None
        text = self._held + text
        end = len(text) + 1
        found = None
        keep = 0
        for stop in self._stops:
            start = text.find(stop, 0, end)
            if start >= 0 and (start + len(stop) < end or found is None or len(stop) > len(found)):
                found, end = stop, start + len(stop)
            elif found is None:
                keep = max(keep, overlap(text, stop))
        if found is not None:
            self._held = ""
            return text[: end - len(found)], found
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], None

    def flush(self) -> str:
        """What was held back; the text is over."""
        held, self._held = self._held, ""
        return held


def overlap(text: str, *markers: str) -> int:
    """The most characters at the end of `text` that begin one of these markers, which is not complete there."""
    return max((_overlap(text, marker) for marker in markers), default=0)


def _overlap(text: str, marker: str) -> int:
    start = text.find(marker[0], max(0, len(text) - len(marker) + 1))
    while start >= 0:
        if marker.startswith(text[start:]):
            return len(text) - start
        start = text.find(marker[0], start + 1)
    return 0
