"""A client's JSON Schema, checked before anything runs and safe to validate with.

What could take the process down or stop it for long is refused or bounded: size, depth, references that lead outside or
in a circle, regular expressions that take forever, and the number of steps that one validation takes.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import jsonschema
import referencing
import regex
from jsonschema.validators import Draft202012Validator, validator_for
from referencing.jsonschema import DRAFT202012

from rkllama_flask.errors import InvalidRequest
from rkllama_flask.generation.guided.bounded_validation import Budget, TooMuchWork, bounded_validator

MAX_DEPTH = 64
MAX_NODES = 2000
MAX_PATTERN = 1000  # characters
_REMEMBERED = 20_000  # characters of a schema
KINDS = frozenset(("object", "array", "string", "number", "integer", "boolean", "null"))

_PROBES = tuple(letter * 64 + "\0" for letter in ("a", "A", "0", " ", "-", ".", "a ", "a0", "a.", "a-"))
_IN_PLACE_LISTS = ("allOf", "anyOf", "oneOf")
_IN_PLACE = ("not", "if", "then", "else")

Node = Mapping[str, Any]


class SchemaChecker:
    """Says what is wrong with a value. Raises InvalidRequest for a schema that is none, or that can't be used here.

    `kinds` are the JSON types a value may have at the top. `budget` is what its patterns may take before anything runs.
    Where it is not `strict`, a text that only misses its pattern or format may be given; `missed` says where one was.
    """

    def __init__(self, schema: Node | bool, *, budget: Budget | None = None, strict: bool = True) -> None:
        self.strict = strict
        self.missed: list[str] = []
        self._schema = schema
        self._nodes = list(_nodes(schema))
        self._resource = DRAFT202012.create_resource(schema)
        self._registry: referencing.Registry[Any] = referencing.Registry()
        self._resolver = self._registry.resolver_with_root(self._resource)
        self._budget = budget or Budget()
        self._guard()
        self._validator = self._make_validator()
        self._loose = self._validator if strict else self._make_validator(without=("pattern",))
        self._known_kinds: dict[int, set[str]] = {}
        self.kinds = self._top_kinds()

    def problem(
        self, value: Any, part: Node | bool | None = None, *, go_on: bool = False, loose: bool = False
    ) -> str | None:
        """Why `value` is not valid by the schema, or by a part of it, in one sentence; None if it is.

        With `go_on` the check may only take what the one before has left. A `loose` one looks at no `pattern`.
        """
        if not go_on:
            self._budget = Budget()
        validator = self._loose if loose else self._validator
        try:
            errors = validator.iter_errors(value) if part is None else validator.descend(value, part)
            error = next(iter(errors), None)
        except (TooMuchWork, RecursionError):
            return "The answer can't be checked against the schema: that takes too long."
        if error is None:
            return None
        return f"The answer is not valid by the schema at {error.json_path}: {_short(error.message)}"

    # Before the run

    def _guard(self) -> None:
        if self._schema is False:
            raise refused("no value is valid by it")
        for node in self._nodes:
            for key in ("$dynamicRef", "$recursiveRef"):
                if isinstance(node.get(key), str):
                    raise refused(f"{key} is not supported")
            if isinstance(node.get("$id"), str) and node is not self._schema:
                raise refused("a $id within the schema is not supported")
            if "unevaluatedProperties" in node and "patternProperties" in node:
                raise refused("unevaluatedProperties beside patternProperties is not supported")
            reference = node.get("$ref")
            if isinstance(reference, str):
                self.target(reference)
            patterns = node.get("patternProperties")
            for pattern in (node.get("pattern"), *(patterns if isinstance(patterns, Mapping) else ())):
                if isinstance(pattern, str):
                    self._guard_pattern(pattern)
        self._guard_circles()

    def _guard_pattern(self, pattern: str) -> None:
        if len(pattern) > MAX_PATTERN:
            raise refused(f"a regular expression in it is longer than {MAX_PATTERN} characters")
        try:
            for probe in _PROBES:
                self._budget.matches(pattern, probe)
        except TooMuchWork as error:
            raise refused(f"the regular expression '{_short(pattern)}' can take forever") from error
        except (regex.error, RecursionError, OverflowError, ValueError) as error:
            raise refused(f"'{_short(pattern)}' is no regular expression: {error}") from error

    def target(self, reference: str) -> Any:
        """The part of the schema that a reference leads to."""
        if not reference.startswith("#"):
            raise refused(f"the reference '{_short(reference)}' leads outside")
        try:
            return self._resolver.lookup(reference).contents
        except referencing.exceptions.Unresolvable as error:
            raise refused(f"the reference '{_short(reference)}' leads nowhere") from error

    def _guard_circles(self) -> None:
        """Refuse references that come back to themselves without going down into the value."""
        finished: set[int] = set()
        for start in self._nodes:
            path: list[tuple[Any, Iterator[Any]]] = [(start, self._in_place(start))]
            on_path = {id(start)}
            while path:
                node, targets = path[-1]
                target = next(targets, None)
                if target is None:
                    path.pop()
                    on_path.discard(id(node))
                    finished.add(id(node))
                elif id(target) in on_path:
                    raise refused("its references go in a circle")
                elif id(target) not in finished:
                    path.append((target, self._in_place(target)))
                    on_path.add(id(target))

    def _in_place(self, node: Any) -> Iterator[Any]:
        """The schemas that are applied to the same value as this one."""
        if not isinstance(node, Mapping):
            return
        if isinstance(node.get("$ref"), str):
            yield self.target(node["$ref"])
        for key in _IN_PLACE_LISTS:
            options = node.get(key)
            yield from options if isinstance(options, list) else ()
        yield from (node[key] for key in _IN_PLACE if isinstance(node.get(key), Mapping))
        for key in ("dependentSchemas", "dependencies"):
            dependent = node.get(key)
            yield from dependent.values() if isinstance(dependent, Mapping) else ()

    def _top_kinds(self) -> frozenset[str]:
        try:
            return frozenset(self.kinds_of(self._schema) or KINDS)
        except RecursionError as error:
            raise refused("it is too deep") from error

    def kinds_of(self, schema: Any) -> set[str]:
        """The types the schema allows at the top; empty if it doesn't say. References have been found to end."""
        if not isinstance(schema, Mapping):
            return set()
        if id(schema) not in self._known_kinds:
            self._known_kinds[id(schema)] = self._find_kinds(schema)
        return self._known_kinds[id(schema)]

    def _find_kinds(self, schema: Node) -> set[str]:
        said = schema.get("type")
        if isinstance(said, str | list):
            return {said} if isinstance(said, str) else set(said)
        if isinstance(schema.get("$ref"), str):
            return self.kinds_of(self.target(schema["$ref"]))
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        if isinstance(values, list):
            return {kind_of(value) for value in values}
        for key in ("anyOf", "oneOf"):
            if isinstance(schema.get(key), list):
                options = [self.kinds_of(option) for option in schema[key]]
                return set().union(*options) if all(options) else set()
        options = [self.kinds_of(option) for option in schema.get("allOf") or ()]
        found = next((kinds for kinds in options if kinds), set())
        return found or ({"object"} if "properties" in schema else set())

    def _make_validator(self, *, without: Collection[str] = ()) -> Any:
        asked = self._schema.get("$schema") if isinstance(self._schema, Mapping) else None
        base: Any = Draft202012Validator
        if isinstance(asked, str):
            base = validator_for({"$schema": asked}, default=Draft202012Validator)
        if base is jsonschema.Draft3Validator:
            raise refused("Draft 3 is too old")
        text = json.dumps(self._schema)
        flaw = (_flaw if len(text) <= _REMEMBERED else _flaw.__wrapped__)(base, text)
        if flaw is not None:
            raise refused(flaw)
        return bounded_validator(base, self._schema, self._registry, lambda: self._budget, without=without)


@lru_cache(maxsize=256)
def _flaw(base: Any, text: str) -> str | None:
    """Why a schema is none. That takes milliseconds, and agents send the same tools each time."""
    try:
        base.check_schema(json.loads(text), format_checker=jsonschema.FormatChecker(formats=()))
    except jsonschema.SchemaError as error:
        return f"{_short(error.message)} (at {error.json_path})"
    except RecursionError:
        return "it is too deep"
    return None


def kind_of(value: Any) -> str:
    """The JSON type of a value as Python's json module gives it."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    kinds = {int: "number", float: "number", str: "string", list: "array"}
    return kinds.get(type(value), "object")


def _nodes(schema: Any) -> Iterator[Node]:
    """Every object in the schema. Raises InvalidRequest where there are too many or they stand too deep."""
    if not isinstance(schema, Mapping | bool):
        raise refused("it must be an object")
    level: list[Any] = [schema]
    count = 0
    for _ in range(MAX_DEPTH):
        count += len(level)
        if count > MAX_NODES:
            raise refused(f"it has more than {MAX_NODES} parts")
        yield from (node for node in level if isinstance(node, Mapping))
        level = [part for node in level for part in _parts(node)]
        if not level:
            return
    raise refused(f"it is nested more than {MAX_DEPTH} deep")


def _parts(node: Any) -> Iterable[Any]:
    if isinstance(node, Mapping):
        return node.values()
    return node if isinstance(node, list) else ()


def refused(reason: str) -> InvalidRequest:
    """The error for a schema that can't be used; `reason` ends its sentence."""
    return InvalidRequest(f"The JSON Schema can't be used: {reason}.", param="response_format")


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"
