"""Replies with many vectors.

A thousand numbers take a millisecond to write, on a board some more, and a request may ask for a million: others are
served between one vector and the next.
"""

import json
import time
from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flask import Response

_HOLE = "\0list\0"


def numbers(vectors: Iterable["array[float]"]) -> Iterator[str]:
    """Each vector as JSON text."""
    for index, vector in enumerate(vectors):
        if index:
            time.sleep(0)
        yield json.dumps(vector.tolist())


def reply_with(body: Mapping[str, Any], name: str, items: Iterable[str]) -> Response:
    """The body as JSON, and in it under this name the list of `items`, which are JSON texts already."""
    before, after = json.dumps({**body, name: _HOLE}).split(json.dumps(_HOLE))
    return Response(f"{before}[{','.join(items)}]{after}\n", content_type="application/json")
