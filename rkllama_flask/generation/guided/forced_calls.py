"""Tool calls that have to be made: written by the server, the name chosen and the arguments filled in by the model."""

import json
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from rkllama_flask.errors import InvalidRequest
from rkllama_flask.generation.events import Event, ToolArguments, ToolCallFinished, ToolCallStarted
from rkllama_flask.generation.guided.as_meant import as_meant
from rkllama_flask.generation.guided.bounded_validation import Budget
from rkllama_flask.generation.guided.json_filling import MAX_DEPTH, JsonFilling
from rkllama_flask.generation.guided.json_recursion import guard_ends
from rkllama_flask.generation.guided.json_schema import SchemaChecker
from rkllama_flask.generation.guided.json_shapes import Shapes
from rkllama_flask.generation.guided.json_values import Script
from rkllama_flask.generation.guided.slots import ChoiceSlot, PeekSlot
from rkllama_flask.generation.guided.tagged_arguments import TaggedArguments
from rkllama_flask.generation.guided.written import Written
from rkllama_flask.generation.output.tool_calls import ToolCallParser
from rkllama_flask.generation.output.tool_dialects.dialects import (
    HERMES,
    Dialect,
    dialect_of,
    is_written,
    offered_names,
)
from rkllama_flask.generation.output.turn_form import ID, INDEX, CallForm
from rkllama_flask.generation.request import Tool, ToolChoice

MOST_CALLS = 16
MOST_CHECKED = 256
"""Functions whose parameters are checked for one request: each takes milliseconds."""

_PATTERN_SECONDS = 1.0
"""What the regular expressions of all of them may take at the look at them."""

_MOST_NAMED = 200
"""Characters of an argument's path in a header."""

_TELLING = 3
"""Characters that tell the beginning of another call from anything else."""


class ForcedCall:
    """A call of one of the functions on offer, in the model's own way of writing them: in the form `found` in its
    template, else in its dialect if arguments are JSON there.

    Raises InvalidRequest for a function that isn't offered, or whose parameters or name can't be used.
    """

    def __init__(
        self,
        tools: Sequence[Tool],
        choice: ToolChoice,
        dialect: Dialect,
        *,
        parallel: bool = False,
        found: CallForm | None = None,
    ) -> None:
        self._found = found if found and is_written(found) else None
        self._dialect = dialect if dialect.after_name.endswith("{") else HERMES
        if self._found:
            self._dialect = dialect_of(self._found)
        self._several = parallel and choice.mode == "required" and bool(self._dialect.again or self._dialect.last)
        names = offered_names(choice, tools)
        self._schemas = {tool.name: parameters_of(tool) for tool in tools if tool.name in names}
        loose = frozenset(tool.name for tool in tools if not tool.strict)
        self.checkers = checkers_of(self._schemas, loose=loose)
        for name, schema in self._schemas.items():
            with _naming(name):
                guard_ends(Shapes(self.checkers[name]), schema, most=MAX_DEPTH)

    def script(self, written: Written) -> Script:
        """Writes the call, and further ones as long as the model begins them, if it may."""
        if not (self._found and self._found.opened):
            written.fix(_made_up(self._dialect.begin, 0), trusted=True)
        place = len(written.segments)
        yield from self._call(written, 0)
        calls = {written.since(place)}
        if self._several or self._found:
            written.fix(_made_up(self._dialect.end, 0), trusted=True)
        if self._several:
            yield from self._more(written, calls)
        if self._found:
            written.fix(self._dialect.last, trusted=True)

    def _more(self, written: Written, calls: set[str]) -> Script:
        telling = "".join(self._dialect.again.split())[:_TELLING]
        tellings = (telling,) if telling else tuple(self._written_name(name)[:_TELLING] for name in self._schemas)
        for count in range(1, MOST_CALLS):
            peek = PeekSlot(max(map(len, tellings)))
            yield peek
            if not peek.said.startswith(tellings):
                return
            held = written.hold()
            written.fix(_made_up(self._dialect.again, count), trusted=True)
            place = len(written.segments)
            yield from self._call(written, count)
            if written.since(place) in calls:  # small models repeat themselves for ever
                written.drop(held)
                return
            calls.add(written.since(place))
            written.release()
            written.fix(_made_up(self._dialect.end, count), trusted=True)

    def _call(self, written: Written, count: int) -> Script:
        texts = [self._written_name(name) for name in self._schemas]
        index = 0
        if len(texts) == 1:
            written.fix(texts[0])
        else:
            slot = ChoiceSlot(texts, quoted=True)
            yield slot
            index = slot.chosen
            written.say(texts[index])
        name = list(self._schemas)[index]
        tagged = TaggedArguments.of(self._found, written) if self._found else None
        if tagged is not None:
            yield from tagged.script(self.checkers[name], self._schemas[name])
            return
        before = _made_up(self._dialect.after_name[:-1], count)
        written.fix(before.rstrip(), trusted=True)
        blank = before[len(before.rstrip()) :]
        yield from JsonFilling(self.checkers[name], written).value(self._schemas[name], blank)

    def _written_name(self, name: str) -> str:
        return json.dumps(name, ensure_ascii=False)[1:-1] if self._dialect.begin.endswith('"') else name


def _made_up(text: str, count: int) -> str:
    """The text with an id of its own, and with the number of calls before it."""
    return text.replace(ID, secrets.token_hex(5)[:9]).replace(INDEX, str(count))


class CheckedCalls:
    """A parser of tool calls that checks the arguments of whole ones: `problem` says what is wrong with them.

    `checkers` are those of the functions whose arguments were promised to be valid, by name.
    """

    def __init__(self, parser: ToolCallParser, checkers: Mapping[str, SchemaChecker]) -> None:
        self._parser = parser
        self._checkers = checkers
        self._calls: list[tuple[str, list[str]]] = []
        self.problem: str | None = None

    @property
    def unapplied(self) -> tuple[str, ...]:
        """Arguments that miss their pattern or format: `save.email`."""
        missed = ((name, path) for name, checker in self._checkers.items() for path in checker.missed)
        return tuple(_named(f"{name}{path.removeprefix('$')}") for name, path in missed)

    @property
    def done(self) -> bool:
        """No more calls are wanted."""
        return self._parser.done

    def feed(self, text: str) -> list[Event]:
        """What is decided now."""
        return self._noted(self._parser.feed(text))

    def finish(self, *, cut: bool = False) -> list[Event]:
        """What was undecided."""
        return self._noted(self._parser.finish(cut=cut))

    def _noted(self, events: list[Event]) -> list[Event]:
        for event in events:
            if isinstance(event, ToolCallStarted):
                self._calls.append((event.name, []))
            elif isinstance(event, ToolArguments):
                self._calls[event.index][1].append(event.text)
            elif isinstance(event, ToolCallFinished):
                self._check(*self._calls[event.index])
        return events

    def _check(self, name: str, arguments: Sequence[str]) -> None:
        checker = self._checkers.get(name)
        problem = checker.problem(json.loads("".join(arguments)), loose=not checker.strict) if checker else None
        if problem:
            self.problem = f"The call of '{name}': {problem}"


def _named(path: str) -> str:
    """The path as a header can hold it."""
    return quote(path, safe="[]. -$@/")[:_MOST_NAMED]


def parameters_of(tool: Tool) -> dict[str, Any]:
    """The schema of a function's arguments, which are an object; a function without parameters takes none."""
    parameters = {"type": "object", **as_meant(tool.parameters)}
    if not parameters.keys() & {
        "properties",
        "additionalProperties",
        "patternProperties",
        "$ref",
        "anyOf",
        "oneOf",
        "allOf",
    }:
        parameters |= {"properties": {}}
    if parameters.get("properties") == {} and "additionalProperties" not in parameters:
        parameters |= {"additionalProperties": False}
    return parameters


def checkers_of(schemas: Mapping[str, Mapping[str, Any]], *, loose: Collection[str] = ()) -> dict[str, SchemaChecker]:
    """What checks the arguments of functions, by their names; texts of `loose` ones may miss their pattern or format.

    Raises InvalidRequest for a schema that can't be used, or is of no object, and for more than MOST_CHECKED.
    """
    if len(schemas) > MOST_CHECKED:
        raise InvalidRequest(
            f"At most {MOST_CHECKED} functions can be strict, or be on offer where one has to be called.", param="tools"
        )
    budget = Budget(seconds=_PATTERN_SECONDS)
    return {name: _checker_of(name, schema, budget, strict=name not in loose) for name, schema in schemas.items()}


def _checker_of(name: str, schema: Mapping[str, Any], budget: Budget, *, strict: bool) -> SchemaChecker:
    with _naming(name):
        checker = SchemaChecker(schema, budget=budget, strict=strict)
    if "object" not in checker.kinds:
        raise InvalidRequest(f"The parameters of '{name}' describe no object.", param="tools")
    return checker


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Says of which function the parameters can't be used."""
    try:
        yield
    except InvalidRequest as error:
        raise InvalidRequest(f"The parameters of '{name}': {error.message}", param="tools") from error
