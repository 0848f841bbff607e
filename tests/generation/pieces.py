"""Texts cut anywhere, as tokens are."""

import itertools

from hypothesis import strategies as st


def cut(text, places):
    """The text in pieces, cut at these places."""
    edges = [0, *sorted(places), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(edges)]


def cuts(text):
    """A strategy: the text in some pieces."""
    return st.lists(st.integers(0, len(text)), max_size=8).map(lambda places: cut(text, places))


def every_cut(text):
    """The text in two pieces, at every place, and letter by letter."""
    return [*(cut(text, [place]) for place in range(len(text) + 1)), list(text)]
