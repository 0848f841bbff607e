"""JSON Schema validation that can't take long, whatever the schema and the value are."""

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import jsonschema
import regex
from jsonschema.validators import extend

MAX_STEPS = 20_000
"""Keywords that are applied in one validation; less than half a second on a board."""

PATTERN_SECONDS = 0.2
"""What all the regular expressions of one validation may take together."""


class TooMuchWork(Exception):
    """The budget is spent."""


class Budget:
    """What one validation may spend, or the look at the patterns of several schemas: `seconds` on matching."""

    def __init__(self, *, seconds: float = PATTERN_SECONDS) -> None:
        self._steps = MAX_STEPS
        self._seconds = seconds

    def step(self) -> None:
        """Spend one step. Raises TooMuchWork."""
        self._steps -= 1
        if self._steps < 0:
            raise TooMuchWork

    def matches(self, pattern: str, text: str) -> bool:
        """Whether the pattern is found in the text. Raises TooMuchWork, and what `regex` raises for a bad pattern."""
        return self._timed(lambda seconds: regex.search(pattern, text, timeout=seconds))

    def begins(self, pattern: str, text: str) -> bool:
        """Whether a text that the pattern matches from its beginning can begin so. Raises as `matches` does."""
        return self._timed(lambda seconds: regex.match(pattern, text, partial=True, timeout=seconds), whole=len(text))

    def _timed(self, match: Callable[[float], Any], *, whole: int | None = None) -> bool:
        """Whether it is a match, and one up to the end of so many characters."""
        if self._seconds <= 0:
            raise TooMuchWork
        began = time.monotonic()
        try:
            found = match(self._seconds)
            return found is not None and (whole is None or found.end() == whole)
        except TimeoutError as error:
            raise TooMuchWork from error
        finally:
            self._seconds -= time.monotonic() - began


def bounded_validator(
    base: Any, schema: Any, registry: Any, budget: Callable[[], Budget], *, without: Collection[str] = ()
) -> Any:
    """A validator of `base`'s kind that spends the current budget; the one change is who matches the patterns. It
    takes no notice of the keywords that it is `without`.
    """
    keywords = {**base.VALIDATORS}
    for name, keyword in _with_patterns(lambda pattern, text: budget().matches(pattern, text)).items():
        if name in keywords:
            keywords[name] = keyword

    def counted(keyword: Callable[..., Any]) -> Callable[..., Any]:
        def apply(*arguments: Any) -> Any:
            budget().step()
            return keyword(*arguments)

        return apply

    ignored = dict.fromkeys(without, _ignored)
    counting = {name: counted(keyword) for name, keyword in (keywords | ignored).items()}
    kind: Any = extend(base, counting)  # type: ignore[no-untyped-call]
    return kind(schema, registry=registry)


def _ignored(*_: Any) -> Iterator[jsonschema.ValidationError]:
    return iter(())


def _with_patterns(matches: Callable[[str, str], bool]) -> dict[str, Callable[..., Any]]:
    """The keywords that match regular expressions, as jsonschema has them but for the matching."""

    def pattern(_validator: Any, pattern: str, value: Any, _schema: Any) -> Iterator[jsonschema.ValidationError]:
        if isinstance(value, str) and not matches(pattern, value):
            yield jsonschema.ValidationError(f"{_quoted(value)} does not match '{pattern}'")

    def pattern_properties(
        validator: Any, patterns: Mapping[str, Any], value: Any, _schema: Any
    ) -> Iterator[jsonschema.ValidationError]:
        for name in value if isinstance(value, dict) else ():
            for pattern, schema in patterns.items():
                if matches(pattern, name):
                    yield from validator.descend(value[name], schema, path=name, schema_path=pattern)

    def additional_properties(
        validator: Any, additional: Any, value: Any, schema: Mapping[str, Any]
    ) -> Iterator[jsonschema.ValidationError]:
        patterns, known = schema.get("patternProperties", ()), schema.get("properties", ())
        for name in value if isinstance(value, dict) else ():
            if name in known or any(matches(pattern, name) for pattern in patterns):
                continue
            if additional is False:
                yield jsonschema.ValidationError(f"{_quoted(name)} is not one of its properties")
            else:
                yield from validator.descend(value[name], additional, path=name)

    return {
        "pattern": pattern,
        "patternProperties": pattern_properties,
        "additionalProperties": additional_properties,
    }


def _quoted(value: str) -> str:
    return json.dumps(value if len(value) <= 100 else f"{value[:100]}…", ensure_ascii=False)
