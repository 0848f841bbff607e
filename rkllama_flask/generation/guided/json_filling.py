"""A JSON value written together with the model: keys and punctuation by the server, only the values by the model.

Rules where a schema leaves a choice: required members are always written, in the schema's order, others where the model
goes on to write them. An array goes on while the model says so, to DEFAULT_MOST_ITEMS where the schema has no limit,
and not when its items only repeat each other. A string is cut at its maxLength, and where it only repeats itself. A
number outside its bounds, or with a fraction where it must be whole, is asked for again, and then becomes the nearest
that will do. A choice is decided by what the model says, and where it says none of the options it is the nearest.
"""

import json
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

from rkllama_flask.errors import AnswerUnfit
from rkllama_flask.generation.guided.json_recursion import Recursion
from rkllama_flask.generation.guided.json_schema import SchemaChecker
from rkllama_flask.generation.guided.json_shapes import (
    Array,
    Free,
    Map,
    Member,
    Number,
    Object,
    Options,
    Part,
    Shapes,
    String,
    Union,
)
from rkllama_flask.generation.guided.json_values import ATTEMPTS, Script, ValueFilling, blank
from rkllama_flask.generation.guided.repetition import only_repeats
from rkllama_flask.generation.guided.slots import ChoiceSlot, PeekSlot, Slot
from rkllama_flask.generation.guided.written import Written

DEFAULT_MOST_ITEMS = 64
MAX_DEPTH = 48

WHOLE_ATTEMPTS = 2
"""How often the model may write an object of its own keys in one."""

MAX_VALUES = 10_000
"""Of one answer: no context takes more, and a schema can ask for any number without a word of the model's."""


class JsonFilling:
    """Fills in values that are valid by the schema. Raises AnswerUnfit where the model can't be brought to one."""

    def __init__(self, checker: SchemaChecker, written: Written) -> None:
        self._shapes = Shapes(checker)
        self._written = written
        self._values = ValueFilling(checker, written)
        self._recursion = Recursion(self._shapes)
        self._count = 0

    def value(self, part: Part, lead: str = "", path: str = "$", depth: int = 0) -> Script:
        """One value; `lead` is the blank before it, which the model may write itself."""
        if depth > MAX_DEPTH:
            raise AnswerUnfit(f"The answer became deeper than {MAX_DEPTH} levels, at {path[:200]}.")
        self._count += 1
        if self._count > MAX_VALUES:
            raise AnswerUnfit(f"The answer would have more than {MAX_VALUES} values.")
        closing = self._recursion.is_to_close(part)
        with self._recursion.within(part, depth):
            match self._shapes.of(part):
                case Options(texts):
                    yield from self._values.options(texts, lead, path)
                case String() as string:
                    yield from self._values.string(string, lead, path)
                case Number() as number:
                    yield from self._values.number(number, lead, path)
                case Array() as array:
                    yield from self._array(array, lead, path, depth, closing=closing)
                case Object(members):
                    yield from self._object(members, lead, path, depth)
                case Map() as entries:
                    yield from self._map(entries, lead, path, depth, closing=closing)
                case Union(parts):
                    yield from self._union(parts, lead, path, depth, closing=closing)
                case Free() as free:
                    yield from self._values.free(free, lead, path)

    # Brackets

    def _array(self, array: Array, lead: str, path: str, depth: int, *, closing: bool) -> Script:
        further = array.item(array.least)
        if closing or (further is not None and self._recursion.is_to_close(further)):
            array = replace(array, most=array.least)
        most = yield from self._begin("[]", array.least, array.most, lead)
        seen: list[str] = []
        said: list[str] = []
        for count in range(most):
            if (yield from self._is_over(count, array.least, said)):
                break
            start = len(self._written.segments)
            place = self._written.hold() if array.unique else None
            part = array.item(count)
            assert part is not None
            if (yield from self._item(part, count, array.least, seen, place, path, depth)):
                break
            said.append(self._written.since(start).lstrip(", "))
        if most:
            self._written.fix("]")

    def _begin(self, brackets: str, least: int, most: int | None, lead: str) -> Generator[Slot, None, int]:
        """Write the first bracket; how many parts there may be. For none the last one is written too."""
        most = max(DEFAULT_MOST_ITEMS if most is None else most, least)
        if most and not least:
            self._written.fix(lead.rstrip())
            peek = PeekSlot(2)
            yield peek
            if peek.said.startswith(brackets) or peek.said[:1] in (brackets[1], ""):
                most = 0
            lead = blank(lead)
        self._written.fix(lead + (brackets[0] if most else brackets))
        return most

    def _map(self, entries: Map, lead: str, path: str, depth: int, *, closing: bool) -> Script:
        """Keys that the model says, each once, and their values: in one if that is valid, else key by key."""
        if not self._recursion.leads_back(entries.part):
            for attempt in range(WHOLE_ATTEMPTS):
                place = self._written.hold()
                self._written.fix(lead + "{")
                if (yield from self._values.whole(entries.whole, "{", lead, again=attempt > 0)) is None:
                    self._written.release()
                    return
                self._written.drop(place)
        if closing or self._recursion.is_to_close(entries.part) or self._recursion.is_to_close(entries.names):
            entries = replace(entries, most=entries.least)
        most = yield from self._begin("{}", entries.least, entries.most, lead)
        seen: list[str] = []
        said: list[str] = []
        for count in range(most):
            if (yield from self._is_over(count, entries.least, said)):
                break
            start, place = len(self._written.segments), self._written.hold()
            if (yield from self._item(entries.names, count, entries.least, seen, place, path, depth)):
                break
            self._written.fix(":")
            key = json.loads(seen[-1])
            yield from self.value(entries.part, " ", f"{path}.{key}", depth + 1)
            said.append(self._written.since(start).lstrip(", "))
        if most:
            self._written.fix("}")

    def _item(
        self, part: Part, count: int, least: int, seen: list[str], place: int | None, path: str, depth: int
    ) -> Generator[Slot, None, bool]:
        """Write one item, or one key. True: there are no more, because the model would only repeat itself."""
        for _ in range(ATTEMPTS):
            yield from self.value(part, ", " if count else "", f"{path}[{count}]", depth + 1)
            if place is None:
                return False
            text = json.dumps(json.loads(self._written.since(place).lstrip(", ")), sort_keys=True)
            if text not in seen:
                seen.append(text)
                self._written.release()
                return False
            self._written.drop(place)
            if count >= max(least, 1):
                return True
            place = self._written.hold()
        raise AnswerUnfit(f"The model found no {count + 1} different items for {path}.")

    def _is_over(self, count: int, least: int, said: Sequence[str]) -> Generator[Slot, None, bool]:
        """Whether so many items will do, because the model only repeats itself or wants no other one."""
        return count >= max(least, 1) and (only_repeats(said) or not (yield from self._goes_on()))

    def _goes_on(self) -> Generator[Slot, None, bool]:
        """Whether the model wants another item."""
        said = self._written.ahead.lstrip()
        if not said:
            peek = PeekSlot()
            yield peek
            said = peek.said
        return said.startswith(",")

    def _object(self, members: Sequence[Member], lead: str, path: str, depth: int, *, key: str | None = None) -> Script:
        """Its members; `key` is one that has been written already, up to its colon."""
        members = self._begun(members)
        place, open_ = 0, key is None
        if key is not None:
            place = next(index for index, member in enumerate(members) if member.key == key)
        elif members and not any(member.required for member in members) and not depth:
            # An answer that is empty helps nobody.
            place, key = yield from self._first_key(members)
            open_ = False
        elif members and not members[0].required:
            self._written.fix(lead.rstrip())
            lead = blank(lead)
        while place < len(members) or open_:
            if key is None:
                index = yield from self._next_member(members, place, begins=open_)
                if index is None:
                    break
                place, key = index, members[index].key
                self._written.fix((lead + "{" if open_ else ", ") + _key(key) + ":")
            open_ = False
            yield from self.value(members[place].part, " ", f"{path}.{key}", depth + 1)
            place, key = place + 1, None
        self._written.fix(lead + "{}" if open_ else "}")

    def _begun(self, members: Sequence[Member]) -> list[Member]:
        """The members that may be begun here: one that needs not be is left out where it would go on without end."""
        return [one for one in members if one.required or not self._recursion.is_to_close(one.part)]

    def _next_member(
        self, members: Sequence[Member], place: int, *, begins: bool = False
    ) -> Generator[Slot, None, int | None]:
        """The index of the member that is written next, None for no more. `begins`: none has been written yet."""
        before, end = ("{", "{}") if begins else (",", "}")
        return (yield from next_member(self._written, members, place, lambda key: before + _key(key), end))

    def _first_key(self, members: Sequence[Member]) -> Generator[Slot, None, tuple[int, str]]:
        """Begin an object with one of these members; its index and key, written up to the colon."""
        slot = ChoiceSlot([_key(member.key)[1:-1] for member in members], quoted=True)
        self._written.fix('{"')
        yield slot
        key = members[slot.chosen].key
        self._written.say(_key(key)[1:] + ":")
        return slot.chosen, key

    def _union(self, parts: Sequence[Part], lead: str, path: str, depth: int, *, closing: bool) -> Script:
        branches = [one for part in parts for one in self._shapes.branches(part)]
        if branches:
            begun = [one for one in branches if not closing and not self._recursion.is_to_close(one)]
            branches = begun or [self._recursion.lowest(branches)]
        parts = [one for one in branches if self._shapes.beginnings(one)]
        if not parts:
            raise AnswerUnfit(f"The schema allows no value at {path}.")
        beginnings = [self._shapes.beginnings(part) for part in parts]
        if len(frozenset().union(*beginnings)) > 1:
            self._written.fix(lead.rstrip())
            peek = PeekSlot()
            yield peek
            said = {"N": "n", "T": "t", "F": "f", "'": '"'}.get(peek.said[:1], peek.said[:1])
            fitting = [part for part, first in zip(parts, beginnings, strict=True) if said and said in first]
            lead = blank(lead)
            parts = fitting or parts[:1]
        yield from self._one_of(parts, lead, path, depth)

    def _one_of(self, parts: Sequence[Part], lead: str, path: str, depth: int) -> Script:
        """One of several schemas whose values begin alike."""
        shapes = [self._shapes.of(part) for part in parts]
        if len(parts) > 1 and all(isinstance(shape, Options) for shape in shapes):
            texts = dict.fromkeys(text for shape in shapes if isinstance(shape, Options) for text in shape.texts)
            yield from self._values.options(tuple(texts), lead, path)
            return
        objects = [shape for shape in shapes if isinstance(shape, Object)]
        if len(objects) == len(shapes) > 1:
            yield from self._one_object(objects, lead, path, depth)
            return
        best = next(
            (part for part, shape in zip(parts, shapes, strict=True) if not isinstance(shape, Options)), parts[0]
        )
        yield from self.value(best, lead, path, depth)

    def _one_object(self, objects: Sequence[Object], lead: str, path: str, depth: int) -> Script:
        """One of several objects: told apart by a member with values of its own in each, else by a key."""
        members = [{member.key: member for member in one.members} for one in objects]
        for member in objects[0].members:
            texts = [self._constants(one.get(member.key)) for one in members]
            if all(texts) and len(set().union(*texts)) == sum(map(len, texts)):
                self._written.fix(f"{lead}{{{_key(member.key)}:")
                options = [text for one in texts for text in one]
                start = len(self._written.segments)
                yield from self._values.options(options, " ", f"{path}.{member.key}")
                said = self._written.since(start).strip()
                chosen = next(one for one, found in zip(objects, texts, strict=True) if said in found)
                rest = [other for other in self._begun(chosen.members) if other.key != member.key]
                yield from self._rest(rest, path, depth)
                return
        keys = _own_keys(objects)
        if all(keys):
            self._written.fix(lead + '{"')
            slot = ChoiceSlot([_key(key)[1:-1] for key in keys if key], quoted=True)
            yield slot
            chosen, key = objects[slot.chosen], keys[slot.chosen]
            self._written.say(_key(key or "")[1:] + ":")
            ordered = sorted(chosen.members, key=lambda other: other.key != key)
            yield from self._object(ordered, lead, path, depth, key=key)
            return
        yield from self._object(objects[0].members, lead, path, depth)

    def _rest(self, members: Sequence[Member], path: str, depth: int) -> Script:
        """What comes after an object's first member."""
        place = 0
        while (index := (yield from self._next_member(members, place))) is not None:
            self._written.fix(f", {_key(members[index].key)}:")
            yield from self.value(members[index].part, " ", f"{path}.{members[index].key}", depth + 1)
            place = index + 1
        self._written.fix("}")

    def _constants(self, member: Member | None) -> tuple[str, ...]:
        """The values of a required member that has but a few strings."""
        shape = self._shapes.of(member.part) if member and member.required else None
        return shape.texts if isinstance(shape, Options) and all(text[0] == '"' for text in shape.texts) else ()


def next_member(
    written: Written, members: Sequence[Member], place: int, begun: Callable[[str], str], end: str
) -> Generator[Slot, None, int | None]:
    """The index of the member from `place` on that is written next, None for no more.

    The model says which, where the schema leaves that open: `begun` is how it begins the member of a key, `end` how it
    says that there is none.
    """
    required = next((index for index in range(place, len(members)) if members[index].required), None)
    if place == required or place >= len(members):
        return required
    indexes: list[int | None] = [*range(place, len(members) if required is None else required), required]
    texts = [begun(members[index].key) if index is not None else end for index in indexes]
    slot = ChoiceSlot(texts, otherwise=len(texts) - 1)
    slot.feed(written.ahead)
    if not slot.clear:
        slot = ChoiceSlot(texts, otherwise=len(texts) - 1)
        yield slot
    return indexes[slot.chosen if slot.clear else len(texts) - 1]


def _own_keys(objects: Sequence[Object]) -> list[str | None]:
    """Of each object a required key that none of the others has."""
    counts = Counter(member.key for one in objects for member in one.members)
    return [
        next((member.key for member in one.members if member.required and counts[member.key] == 1), None)
        for one in objects
    ]


def _key(key: str) -> str:
    return json.dumps(key, ensure_ascii=False)
