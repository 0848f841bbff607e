"""Prompts of a wanted length that no cache can know, because they begin with words in an order of their own."""

import random

_VOCABULARY = (
    "about after again air also answer around away back because before between big boat book boy build by call can "
    "change city close come country day different does down each earth end even every eye far father find first "
    "follow form found from give go good great group grow hand hard head help here high home house important keep "
    "know land large last learn leave letter life light line little live long look make man many may men might mile"
)
"""Plain words, about a token each."""


class Words:
    """Texts of about so many tokens; `seed` makes them the same again."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def text(self, tokens: int) -> str:
        return " ".join(self._random.choices(_VOCABULARY.split(), k=max(1, tokens)))


def conversation(text: str, question: str = "Tell me a story.") -> list[dict[str, str]]:
    """The text as system prompt, so that what differs stands in front."""
    return [{"role": "system", "content": text}, {"role": "user", "content": question}]
