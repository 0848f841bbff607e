"""Answers that are one JSON value, as far as a runtime allows that lets no one choose its tokens.

The model is told what is wanted, its answer is freed of what stands around the value and mended where it is not strict
JSON, it ends where the value ends, and then the value is checked.
"""

import json
import re

from rkllama_flask.generation.arriving import ArrivingText, Reading
from rkllama_flask.generation.events import Event, Text
from rkllama_flask.generation.json_schema import SchemaChecker
from rkllama_flask.generation.lenient_json import LenientJson
from rkllama_flask.generation.request import JsonFormat

_FIRST = {"object": "{", "array": "[", "string": '"'}
_SCALARS = {
    "number": r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?!\w|\.\d)",
    "boolean": r"\b(?:true|false)\b",
    "null": r"\bnull\b",
}


class JsonOutput:
    """Reads the answer to a request with a JsonFormat. Raises InvalidRequest for a schema that can't be used.

    `instruction` belongs into the system prompt. `prefill` is how the answer has to begin, empty if that is open: where
    the prompt can end with it, say `prefilled`. `done` says that the value is complete; after `finish`, `problem` says
    why the answer is not what was asked for, None if it is.
    """

    def __init__(self, format: JsonFormat, *, prefilled: bool = False) -> None:
        self._checker = None if format.schema is None else SchemaChecker(format.schema)
        self._kinds = self._checker.kinds if self._checker else frozenset(("object",))
        first = {_FIRST[kind] for kind in self._kinds if kind in _FIRST}
        self.instruction = _instruction(format)
        self.prefill = next(iter(first)) if len(self._kinds) == 1 and first else ""
        self.problem: str | None = None
        self.done = False
        self._begins = re.compile(f"[{re.escape(''.join(sorted(first)))}]" if first else "(?!)")
        self._text = ArrivingText()
        self._prefilled = self.prefill if prefilled else ""
        self._written: list[str] = []
        self._sent = 0
        self._reader = self._read()

    def feed(self, text: str) -> list[Event]:
        """What of the value is decided now."""
        self._text.add(self._after_prefill(text))
        return self._advance()

    def finish(self) -> list[Event]:
        """The rest of the value, which is completed if the answer broke off; sets `problem`."""
        self._text.add(self._prefilled)
        self._text.ended = True
        events = self._advance()
        self.problem = self._check()
        return events

    def _after_prefill(self, text: str) -> str:
        """The text with what the prompt ended with in front, unless the model began all over again."""
        if not self._prefilled or not text.strip():
            return text
        prefilled, self._prefilled = self._prefilled, ""
        afresh = {"{": "{`", "[": "`"}.get(prefilled, "")
        return text if text.lstrip()[0] in afresh else prefilled + text

    def _advance(self) -> list[Event]:
        next(self._reader, None)
        new = "".join(self._written[self._sent :])
        self._sent = len(self._written)
        return [Text(new)] if new else []

    def _read(self) -> Reading[None]:
        text, seen = self._text, 0
        while not (match := self._begins.search(text.text, seen)):
            if text.ended:
                self._written.extend(self._scalar(text.text))
                return
            seen = len(text.text)
            yield
        text.position = match.start()
        yield from LenientJson(text, self._written.append).value()
        self.done = True

    def _scalar(self, text: str) -> list[str]:
        """A number, boolean or null that stands somewhere in the answer; where a string is wanted, all of it."""
        kinds = self._kinds | ({"number"} if "integer" in self._kinds else set())
        patterns = [pattern for kind, pattern in _SCALARS.items() if kind in kinds]
        match = re.search("|".join(patterns), text) if patterns else None
        if match:
            return [match.group()]
        return [json.dumps(text.strip(), ensure_ascii=False)] if self._kinds == {"string"} and text.strip() else []

    def _check(self) -> str | None:
        if not self._written:
            return "The answer holds no JSON value of the kind that was asked for."
        return self._checker.problem(json.loads("".join(self._written))) if self._checker else None


def _instruction(format: JsonFormat) -> str:
    only = "Write nothing before or after it, and no code fence."
    if format.schema is None:
        return f"Answer with one JSON object. {only}"
    if isinstance(format.schema, bool) or not format.schema:
        return f"Answer with one JSON value. {only}"
    schema = json.dumps(format.schema, ensure_ascii=False)
    return f"Answer with one JSON value that is valid by this JSON Schema:\n{schema}\n{only}"
