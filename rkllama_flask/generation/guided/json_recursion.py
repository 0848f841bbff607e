"""Schemas that lead back to themselves: whether their values can end, and where one that is being written has to."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rkllama_flask.generation.guided.json_schema import refused
from rkllama_flask.generation.guided.json_shapes import Array, Map, Object, Options, Part, Shape, Shapes, Union

MOST_WITHIN_ITSELF = 8
"""How often a part may stand within itself before it is closed where it can be."""

MOST_REPEATED = 128
"""Such parts in one answer: from there on each is closed as soon as it can be, or a tree would grow in breadth."""

DEEP = 24
"""Levels from which on no part is begun within itself that need not be."""


class Heights:
    """How many levels the lowest value of a part has; infinite where no value has an end, or none is valid."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes
        self._known: dict[int, float] = {}
        self._found: dict[int, Part] = {}

    def of(self, part: Part) -> float:
        """The levels below the value itself."""
        if id(part) not in self._found:
            self._explore(part)
        return self._known.get(id(part), math.inf)

    def leads_back(self, part: Part) -> bool:
        """Whether values of this part may hold others of it."""
        seen: set[int] = set()
        waiting = _all_parts(self._shapes.of(part))
        while waiting:
            one = waiting.pop()
            if one is part:
                return True
            if id(one) not in seen:
                seen.add(id(one))
                waiting += _all_parts(self._shapes.of(one))
        return False

    def endless(self, part: Part) -> str:
        """Where the first part stands that makes this one's height infinite."""
        path, seen = "$", set[int]()
        while id(part) not in seen:
            seen.add(id(part))
            shape = self._shapes.of(part)
            steps = [("", one) for one in shape.parts] if isinstance(shape, Union) else _needed(shape)
            where, part = next(((where, one) for where, one in steps if math.isinf(self.of(one))), ("", part))
            path += where
        return path[:200]

    def _explore(self, root: Part) -> None:
        above: dict[int, list[Part]] = {}
        new: dict[int, Part] = {}
        waiting = [root]
        while waiting:
            part = waiting.pop()
            if id(part) in self._found:
                continue
            self._found[id(part)] = new[id(part)] = part
            for one in _all_parts(self._shapes.of(part)):
                above.setdefault(id(one), []).append(part)
                waiting.append(one)
        while new:
            found = {key: self._find(part) for key, part in new.items()}
            lower = {key: height for key, height in found.items() if height < self._known.get(key, math.inf)}
            self._known |= lower
            new = {id(part): part for key in lower for part in above.get(key, ())}

    def _find(self, part: Part) -> float:
        shape = self._shapes.of(part)
        match shape:
            case Options(texts):
                return 0 if texts else math.inf
            case Union(parts):
                return min((self._known.get(id(one), math.inf) for one in parts), default=math.inf)
            case _:
                below = (self._known.get(id(one), math.inf) + 1 for _, one in _needed(shape))
                return max(below, default=0)


def guard_ends(shapes: Shapes, root: Part, *, most: int) -> None:
    """Raises InvalidRequest for a schema whose every value would have no end, or more than so many levels."""
    heights = Heights(shapes)
    height = heights.of(root)
    if math.isinf(height):
        raise refused(f"no value that has an end is valid by it, at {heights.endless(root)}")
    if height > most:
        raise refused(f"its values are more than {most} levels deep")


class Recursion:
    """What is being written, part within part."""

    def __init__(self, shapes: Shapes) -> None:
        self._heights = Heights(shapes)
        self._open: dict[int, int] = {}
        self._depth = 0
        self._repeated = 0

    @contextmanager
    def within(self, part: Part, depth: int) -> Iterator[None]:
        """While a value of this part is written."""
        before, outer = self._open.get(id(part), 0), self._depth
        self._repeated += before > 0
        self._open[id(part)], self._depth = before + 1, depth
        try:
            yield
        finally:
            self._open[id(part)], self._depth = before, outer

    def is_to_close(self, part: Part) -> bool:
        """Whether no value of this part is to be begun where it need not be."""
        patient = self._depth < DEEP and self._repeated < MOST_REPEATED
        return self._open.get(id(part), 0) >= (MOST_WITHIN_ITSELF if patient else 1) or math.isinf(
            self._heights.of(part)
        )

    def leads_back(self, part: Part) -> bool:
        """Whether a value of this part may hold another."""
        return self._heights.leads_back(part)

    def lowest(self, parts: Sequence[Part]) -> Part:
        """The one of these parts whose values can end first."""
        return min(parts, key=self._heights.of)


def _needed(shape: Shape) -> list[tuple[str, Part]]:
    """The parts without which there is no value of this shape, and where they stand in it."""
    match shape:
        case Array(least=least) as array:
            items = [array.item(index) for index in range(min(least, len(array.prefix) + 1))]
            return [(f"[{index}]", item) for index, item in enumerate(items) if item is not None]
        case Object(members):
            return [(f".{member.key}", member.part) for member in members if member.required]
        case Map(_, names, part, least):
            return [("", names), (".*", part)] if least else []
    return []


def _all_parts(shape: Shape) -> list[Part]:
    match shape:
        case Array(prefix, items):
            return [*prefix, *(() if items is None else (items,))]
        case Object(members):
            return [member.part for member in members]
        case Map(_, names, part):
            return [names, part]
        case Union(parts):
            return [*parts]
    return []
