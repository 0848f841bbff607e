"""Tells a model's thoughts from its answer while both stream."""

from rkllama_flask.generation.events import Reasoning, Text

TAGS: tuple[tuple[str, str], ...] = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("[THINK]", "[/THINK]"),
    ("<|channel>thought", "<channel|>"),
)
"""How model families enclose their thoughts: Qwen, DeepSeek and most others; some fine-tunes; Mistral; Gemma 4."""


class ReasoningSplitter:
    """Splits text wherever its tags fall over tokens, holding back no more than an undecided tag.

    Thoughts come first or not at all: an opening tag after other text is text. `open` says that the prompt already ended
    with an opening tag. The newlines that models put around thoughts belong to neither part.
    """

    def __init__(self, *, open: bool) -> None:  # noqa: A002 — the word for it
        self._closing: tuple[str, ...] = tuple(close for _, close in TAGS) if open else ()
        self._thinking = open
        self._answering = False
        self._held = ""
        self._strip = open

    def feed(self, text: str) -> list[Text | Reasoning]:
        """The parts that are decided now."""
        if self._answering and not self._strip:
            return [Text(text)] if text else []
        self._held += text
        parts: list[Text | Reasoning] = []
        if not self._thinking and not self._answering:
            self._begin()
        if self._thinking:
            self._think(parts)
        if self._answering:
            self._answer(parts)
        return parts

    def finish(self) -> list[Text | Reasoning]:
        """What was held back; thoughts without an end stay thoughts."""
        held, self._held = self._held, ""
        if not held or (self._strip and not held.strip("\n")):
            return []
        return [Reasoning(held)] if self._thinking else [Text(held)]

    def _begin(self) -> None:
        start = self._held.lstrip()
        for opening, closing in TAGS:
            if start.startswith(opening):
                self._thinking, self._closing, self._strip = True, (closing,), True
                self._held = start[len(opening) :]
                return
        if start and not any(opening.startswith(start) for opening, _ in TAGS):
            self._answering = True

    def _think(self, parts: list[Text | Reasoning]) -> None:
        if self._strip:
            self._held = self._held.lstrip("\n")
            self._strip = not self._held
        found = [(self._held.find(tag), tag) for tag in self._closing if tag in self._held]
        if found:
            position, tag = min(found)
            thought, self._held = self._held[:position].rstrip("\n"), self._held[position + len(tag) :]
            self._thinking, self._answering, self._strip = False, True, True
        else:
            keep = max((_undecided(self._held, tag) for tag in self._closing), default=0)
            thought = self._held[: len(self._held) - keep]
            thought = thought[: len(thought.rstrip("\n"))]  # newlines before the closing tag go with it
            self._held = self._held[len(thought) :]
        if thought:
            parts.append(Reasoning(thought))

    def _answer(self, parts: list[Text | Reasoning]) -> None:
        if self._strip:
            self._held = self._held.lstrip("\n")
            self._strip = not self._held
        if self._held:
            parts.append(Text(self._held))
            self._held = ""


def _undecided(text: str, tag: str) -> int:
    """How many characters at the end of `text` may be the beginning of `tag`."""
    return next((n for n in range(min(len(text), len(tag) - 1), 0, -1) if text.endswith(tag[:n])), 0)
