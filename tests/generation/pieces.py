"""Texts cut anywhere, as tokens are."""

import itertools

from hypothesis import strategies as st

from rkllama_flask.text.utf8 import Utf8Decoder


def cut(text, places):
    """The text in pieces, cut at these places."""
    edges = [0, *sorted(places), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(edges)]


def cuts(text):
    """A strategy: the text in some pieces."""
    return st.lists(st.integers(0, len(text)), max_size=8).map(lambda places: cut(text, places))


def every_cut(text):
    """The text as it arrives when its bytes come in two pieces, cut at every place, and when they come one by one."""
    data = text.encode()
    ways = [[data[:place], data[place:]] for place in range(len(data) + 1)]
    return [arriving(way) for way in (*ways, [data[at : at + 1] for at in range(len(data))])]


def arriving(pieces):
    """What is handed on of these bytes, piece by piece: whole characters."""
    decoder = Utf8Decoder()
    return [text for text in (*map(decoder.feed, pieces), decoder.finish()) if text]
