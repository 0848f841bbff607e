"""Answers that are one JSON value: what the model is told of it, who writes it, and the check at the end."""

import json

from rkllama_flask.generation.events import Event, Text
from rkllama_flask.generation.guided.as_meant import as_meant
from rkllama_flask.generation.guided.json_filling import MAX_DEPTH, JsonFilling
from rkllama_flask.generation.guided.json_outline import outline
from rkllama_flask.generation.guided.json_recursion import guard_ends
from rkllama_flask.generation.guided.json_schema import SchemaChecker
from rkllama_flask.generation.guided.json_shapes import Part, Shapes
from rkllama_flask.generation.guided.json_values import Script
from rkllama_flask.generation.guided.written import Written
from rkllama_flask.generation.request import JsonFormat

_ANY_OBJECT = {"type": "object"}


class JsonOutput:
    """The answer to a request with a JsonFormat. Raises InvalidRequest for a schema that can't be used.

    `instruction` belongs into the system prompt; `script` writes the value together with the model. Of the text that
    comes of it, which is fed here, `problem` says after `finish` why it is not what was asked for, None if it is, or
    where it was cut: then it is no value, and nothing is done to make it look like one.
    """

    done = False
    unapplied = ()

    def __init__(self, format: JsonFormat) -> None:
        schema = _ANY_OBJECT if format.schema is None else as_meant(format.schema)
        self._schema = schema
        self._checker = SchemaChecker(schema)
        self._checker.problem({})  # what a first check imports is not to be imported on the engine's thread
        shapes = Shapes(self._checker)
        guard_ends(shapes, schema, most=MAX_DEPTH)
        self._pieces: list[str] = []
        self.instruction = _instruction(None if format.schema is None else schema, shapes)
        self.problem: str | None = None

    def script(self, written: Written) -> Script:
        """Writes the value."""
        return JsonFilling(self._checker, written).value(self._schema)

    def feed(self, text: str) -> list[Event]:
        """The text is the value and nothing else."""
        self._pieces.append(text)
        return [Text(text)]

    def finish(self, *, cut: bool = False) -> list[Event]:
        """Sets `problem`."""
        if cut:
            return []
        try:
            self.problem = self._checker.problem(json.loads("".join(self._pieces)))
        except (ValueError, RecursionError):
            self.problem = "The answer is not whole."
        return []


def _instruction(schema: Part | None, shapes: Shapes) -> str:
    only = "Write nothing before or after it, and no code fence."
    if schema is None:
        return f"Answer with one JSON object. {only}"
    if isinstance(schema, bool) or not schema:
        return f"Answer with one JSON value. {only}"
    return f"Answer in JSON of this form:\n{outline(schema, shapes)}\n{only}"
