"""What two prompts have in common, and when so little is missing that it counts as nothing."""

from collections.abc import Sequence

Content = str | tuple[int, ...]
"""A prompt as the runtime is fed with it: text, or token ids."""

MOST_RESIDUE = 16
"""Tokens of a reused prefix that a runtime may compute again, because it works in blocks or keeps a few back."""


def content(prompt: str | Sequence[int]) -> Content:
    """A prompt in the form that is compared and stored."""
    return prompt if isinstance(prompt, str) else tuple(prompt)


def common_prefix(one: Content | None, other: Content | None) -> int:
    """How many characters or tokens both begin with; 0 where one is text and the other is not."""
    if one is None or other is None or type(one) is not type(other):
        return 0
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while low < high - 1:  # the slices are compared in C: quicker than a loop over thousands of tokens
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low


def residue(tokens: int) -> int:
    """How many of a prefix's `tokens` may be computed again while it still counts as reused."""
    return min(MOST_RESIDUE, tokens // 2)
