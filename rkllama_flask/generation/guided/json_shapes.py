"""What a part of a JSON Schema asks for, as far as it can be written piece by piece: its shape.

Whatever has no other shape is Free: the model writes it alone, and it is checked when it is whole.
"""

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from rkllama_flask.generation.guided.json_schema import SchemaChecker, refused

MAX_MEMBERS = 20_000
"""Members of all objects together: references make many of few, and each costs a microsecond or two."""

MAX_KEY = 64
"""Characters of a key that the model chooses, where the schema says nothing of it."""

Part = Mapping[str, Any] | bool

_UNFILLABLE = frozenset(
    (
        *("not", "if", "then", "else", "patternProperties", "propertyNames", "dependentRequired", "dependentSchemas"),
        *("dependencies", "contains", "unevaluatedItems", "additionalItems"),
    )
)
_MAP = frozenset(
    (
        *("type", "properties", "required", "additionalProperties", "patternProperties", "propertyNames"),
        *("minProperties", "maxProperties"),
    )
)
_NOTES = frozenset(
    (
        *("title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly", "$comment"),
        *("$schema", "$id", "$defs", "definitions", "nullable", "discriminator"),
    )
)


@dataclass(frozen=True)
class Options:
    """One of several values, as JSON texts."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class String:
    """`checked` says that not every string will do, even after a cut at `max_length`."""

    part: Part
    max_length: int | None
    format: str | None
    checked: bool
    min_length: float = 0
    pattern: str | None = None


@dataclass(frozen=True)
class Number:
    """`lowest` and `highest` are the nearest values within the bounds."""

    part: Part
    integer: bool
    lowest: float
    highest: float
    step: float | None


@dataclass(frozen=True)
class Array:
    """`prefix` are the first items' schemas, `items` that of the others, None for no more."""

    prefix: tuple[Part, ...]
    items: Part | None
    least: int
    most: int | None
    unique: bool

    def item(self, index: int) -> Part | None:
        """The schema of the item at this place."""
        return self.prefix[index] if index < len(self.prefix) else self.items


@dataclass(frozen=True)
class Member:
    key: str
    part: Part
    required: bool


@dataclass(frozen=True)
class Object:
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Map:
    """An object of keys that the model chooses; `names` is the keys' schema, `part` that of their values.

    `whole` is the object as one value that the model writes alone.
    """

    whole: "Free"
    names: Part
    part: Part
    least: int
    most: int | None


@dataclass(frozen=True)
class Union:
    """One of several schemas."""

    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Free:
    """`any_will_do`: whatever is an object or array is valid."""

    part: Part
    kinds: frozenset[str]
    any_will_do: bool = False


Shape = Options | String | Number | Array | Object | Map | Union | Free


class Shapes:
    """Reads shapes out of a checked schema, each once, however many references lead there.

    Raises InvalidRequest for one that grows too deep, or beyond MAX_MEMBERS, where its references are followed.
    """

    def __init__(self, checker: SchemaChecker) -> None:
        self._checker = checker
        self._known: dict[int, tuple[Part, Shape]] = {}
        self._known_joined: dict[int, tuple[Part, dict[str, Any] | None]] = {}
        self._known_beginnings: dict[int, frozenset[str]] = {}
        self._members_left = MAX_MEMBERS

    def of(self, part: Part) -> Shape:
        """The shape of this part of the schema."""
        if id(part) not in self._known:
            try:
                self._known[id(part)] = part, self._read(part)
            except RecursionError as error:
                raise refused("its references go too deep") from error
        return self._known[id(part)][1]

    def beginnings(self, part: Part) -> frozenset[str]:
        """The characters that its values can begin with."""
        shape = self.of(part)  # keeps the part, whose id is the key
        if id(part) not in self._known_beginnings:
            try:
                self._known_beginnings[id(part)] = self._find_beginnings(shape)
            except RecursionError as error:
                raise refused("its references go too deep") from error
        return self._known_beginnings[id(part)]

    def branches(self, part: Part) -> list[Part]:
        """The schemas that a union offers in the end; of another one it is alone."""
        found: dict[int, Part] = {}
        seen: set[int] = set()
        waiting = [part]
        while waiting:
            one = waiting.pop()
            shape = self.of(one)
            if isinstance(shape, Union):
                waiting += [] if id(shape) in seen else reversed(shape.parts)
                seen.add(id(shape))
            else:
                found.setdefault(id(one), one)
        return [*found.values()]

    def _find_beginnings(self, shape: Shape) -> frozenset[str]:
        match shape:
            case Options(texts):
                return frozenset(text[0] for text in texts)
            case Union(parts):
                return frozenset().union(*(self.beginnings(one) for one in parts))
            case Free(_, kinds):
                return frozenset("".join(_BEGINNINGS[kind] for kind in kinds))
            case Map():
                return frozenset("{")
            case simple:
                return frozenset(_BEGINNINGS[type(simple).__name__.lower()])

    def _read(self, part: Part) -> Shape:
        joined = self._joined(part) if isinstance(part, Mapping) else None
        if joined is not None and (found := _map(joined, self._free(part))) is not None:
            return found
        if joined is None or _UNFILLABLE & joined.keys():
            return self._free(part)
        if "const" in joined or "enum" in joined:
            return self._options(joined)
        for key in ("anyOf", "oneOf"):
            if key in joined:
                alone = not joined.keys() - _NOTES - {key}
                return Union(tuple(one for one in joined[key] if one is not False)) if alone else self._free(part)
        said = joined.get("type")
        if isinstance(said, list):
            return Union(tuple({**joined, "type": one} for one in said))
        kind = said or ("object" if "properties" in joined else "array" if "items" in joined else "")
        return self._simple(kind, joined) or self._free(part)

    def _options(self, part: Mapping[str, Any]) -> Options:
        said = "const" if "const" in part else "enum"
        values = [part["const"]] if said == "const" else part["enum"]
        rest = {key: value for key, value in part.items() if key != said}
        if rest.keys() - _NOTES:
            checks = [self._checker.problem(value, rest, go_on=index > 0) for index, value in enumerate(values)]
            values = [value for value, problem in zip(values, checks, strict=True) if problem is None]
        return Options(tuple(dict.fromkeys(json.dumps(value, ensure_ascii=False) for value in values)))

    def _simple(self, kind: str, part: Mapping[str, Any]) -> Shape | None:
        if kind in ("null", "boolean"):
            return Options(("null",) if kind == "null" else ("true", "false"))
        if kind == "string":
            checked = any(part.get(key) for key in ("minLength", "pattern", "format"))
            longest = part.get("maxLength")
            shortest = part.get("minLength", 0)
            return String(
                part,
                None if longest is None else int(longest),
                part.get("format"),
                checked,
                shortest,
                part.get("pattern"),
            )
        if kind in ("number", "integer"):
            return _number(part, integer=kind == "integer")
        if kind == "object":
            self._members_left -= len(part.get("properties", ())) + len(part.get("required", ()))
            if self._members_left < 0:
                raise refused(f"its references make more than {MAX_MEMBERS} members of it")
            return _object(part)
        return _array(part) if kind == "array" else None

    def _free(self, part: Part) -> Free:
        kinds = frozenset(self._checker.kinds_of(part)) or frozenset(_BEGINNINGS)
        unbound = isinstance(part, Mapping) and not part.keys() - _NOTES - {"type"}
        return Free(part, kinds, unbound and kinds in ({"object"}, {"array"}))

    def _joined(self, part: Mapping[str, Any]) -> dict[str, Any] | None:
        """The schema with its references and allOf in one; None where they can't be joined."""
        if id(part) not in self._known_joined:
            self._known_joined[id(part)] = part, self._join(part)
        return self._known_joined[id(part)][1]

    def _join(self, part: Mapping[str, Any]) -> dict[str, Any] | None:
        others = list(part.get("allOf") or ())
        if isinstance(part.get("$ref"), str):
            others.append(self._checker.target(part["$ref"]))
        joined = [self._joined(other) if isinstance(other, Mapping) else None for other in others if other is not True]
        found: dict[str, Any] | None = {}
        for one in (*joined, {key: value for key, value in part.items() if key not in ("$ref", "allOf")}):
            found = None if found is None or one is None else _merged(found, one)
        return found


_BEGINNINGS = {
    "object": "{",
    "array": "[",
    "string": '"',
    "number": "-0123456789",
    "integer": "-0123456789",
    "boolean": "tf",
    "null": "n",
}


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any] | None:
    """Both schemas in one; None where they say different things about the same."""
    merged = {**one, **other}
    for key in (one.keys() & other.keys()) - _NOTES:
        if key == "properties" and not one[key].keys() & other[key].keys():
            merged[key] = {**one[key], **other[key]}
        elif key == "required":
            merged[key] = list(dict.fromkeys([*one[key], *other[key]]))
        elif json.dumps(one[key]) != json.dumps(other[key]):
            return None
    return merged


def _number(part: Mapping[str, Any], *, integer: bool) -> Number:
    lowest = part.get("minimum", -math.inf)
    highest = part.get("maximum", math.inf)
    above, below = part.get("exclusiveMinimum", -math.inf), part.get("exclusiveMaximum", math.inf)
    step = part.get("multipleOf")
    if integer:
        lowest = max(lowest, above if math.isinf(above) else math.floor(above) + 1)
        highest = min(highest, below if math.isinf(below) else math.ceil(below) - 1)
        lowest = lowest if math.isinf(lowest) else math.ceil(lowest)
        highest = highest if math.isinf(highest) else math.floor(highest)
    else:  # a number's own next one is none that anybody writes: the nearest is a hundredth of the way in
        inside = step or min(1, (min(highest, below) - max(lowest, above)) / 100)
        lowest = max(lowest, above + inside)
        highest = min(highest, below - inside)
    return Number(part, integer, lowest, highest, step)


def _array(part: Mapping[str, Any]) -> Array | Options | None:
    items, prefix = part.get("items"), part.get("prefixItems", [])
    if isinstance(items, list):  # as prefixItems was called before 2020-12
        items, prefix = None, items
    elif items is None and not prefix:
        return None
    items = None if items is False else items
    least, most = math.ceil(part.get("minItems", 0)), part.get("maxItems")
    if items is None:
        most = len(prefix) if most is None else min(most, len(prefix))
    if most is not None and least > most:
        return Options(())
    return Array(tuple(prefix), items, least, None if most is None else int(most), bool(part.get("uniqueItems")))


def _map(part: Mapping[str, Any], whole: Free) -> Map | None:
    """An object whose keys are the model's to choose, where their values have a schema of their own."""
    if part.get("type", "object") != "object" or part.keys() - _NOTES - _MAP or part.get("properties"):
        return None
    patterns = part.get("patternProperties") or {}
    names, value = part.get("propertyNames", {}), part.get("additionalProperties", True)
    if patterns and (len(patterns) > 1 or names or not isinstance(value, bool)):
        return None
    for pattern, one in patterns.items():
        names, value = {"pattern": pattern}, one
    least, most = math.ceil(part.get("minProperties", 0)), part.get("maxProperties")
    if part.get("required") or not isinstance(names, Mapping) or not isinstance(value, Mapping):
        return None
    if not value.keys() - _NOTES or (most is not None and least > most):
        return None
    names = {"type": "string", **(names or {"minLength": 1, "maxLength": MAX_KEY})}
    return Map(whole, names, value, least, None if most is None else int(most))


def _object(part: Mapping[str, Any]) -> Object | None:
    properties: Mapping[str, Part] = part.get("properties", {})
    required: Collection[str] = dict.fromkeys(part.get("required", ()))
    additional: Part = part.get("additionalProperties", part.get("unevaluatedProperties", True))
    closed = additional is False
    members = [Member(key, one, key in required) for key, one in properties.items() if one is not False]
    members += [Member(key, additional, True) for key in required if key not in properties]
    if (not members and not closed) or any(member.part is False for member in members):
        return None
    certain = sum(member.required for member in members)
    if part.get("minProperties", 0) > certain or part.get("maxProperties", math.inf) < len(members):
        return None
    return Object(tuple(members))
