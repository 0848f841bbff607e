"""Halves of surrogate pairs: clients that cut texts by the count of UTF-16 units send half an emoji at times.

JSON can hold one and UTF-8 can't. In texts U+FFFD takes its place. One in a name or a key is refused, since another
name would be meant, and so is one in what is asked, where its sender can still mend it.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from rkllama_flask.api.web.unread import Path
from rkllama_flask.errors import InvalidRequest

_HALF = re.compile("[\ud800-\udfff]")
_NAMES = frozenset({"model", "name", "tool_name", "namespace", "use_cache", "from", "source", "destination"})
_FREE = frozenset({"arguments", "input", "parameters", "input_schema", "schema", "format", "metadata"})
"""Below these, at least one level down in the body, keys are a client's own: a `name` there is a text like others."""


def has_halves(value: Any) -> bool:
    """Whether any text or key in a JSON value has half of a pair."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def whole(value: Any, asked: Path = ()) -> Any:
    """The value with U+FFFD for each half. Raises InvalidRequest for one in a name, in a key, or below `asked`."""
    return _whole(value, (), asked)


def whole_json(text: str) -> str:
    """The same for JSON that stands in a text; what is no JSON stays as it is."""
    if "\\ud" not in text and "\\uD" not in text:
        return text
    try:
        written = json.dumps(json.loads(text), ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
    return _HALF.sub("\ufffd", written) if _HALF.search(written) else text


def _whole(value: Any, path: Path, asked: Path) -> Any:
    if isinstance(value, str):
        return _text(value, path, asked) if _HALF.search(value) else value
    if isinstance(value, list):
        return [_whole(one, (*path, index), asked) for index, one in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    if any(_HALF.search(key) for key in value):
        raise _refused(path, "has a key with")
    return {key: _whole(one, (*path, key), asked) for key, one in value.items()}


def _text(text: str, path: Path, asked: Path) -> str:
    if (asked and path[: len(asked)] == asked) or (path[-1] in _NAMES and _FREE.isdisjoint(path[1:])):
        raise _refused(path, "holds")
    return _HALF.sub("\ufffd", text)


def _refused(path: Path, verb: str) -> InvalidRequest:
    place = ".".join(map(str, path)) or None
    subject = f"'{place}'" if place else "The request body"
    return InvalidRequest(f"{subject} {verb} half of a surrogate pair (\\ud800 to \\udfff).", param=place)
