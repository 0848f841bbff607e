"""What one rendering of a template may cost, and the costly operations, measured before they are done.

A rendering has a deadline and a budget of characters: every text or list it makes is paid for. One value is limited
too, so that a single step can't be ruinous, and so is what a list becomes as text, because a list can hold one long
text many times.
"""

import json
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from jinja2.exceptions import SecurityError

TIME_LIMIT = 2.0
"""Seconds one rendering may take."""

SIZE_LIMIT = 4_000_000
"""Characters, or items, that one value may have; also the limit of the output."""

TOTAL_LIMIT = 64_000_000
"""Characters and items that one rendering may make in all."""

_MAX_BITS = 4096
_MAX_INDENT = 64
_WIDE_FIELD = re.compile(r"\d{5}|\*|:[^}]*\{")


class TemplateLimit(SecurityError):
    """The template wants more time or memory than a prompt can need."""


class _Budget:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._begun = time.thread_time()
        self.characters = TOTAL_LIMIT

    @property
    def used(self) -> float:
        """Seconds of this thread's own work."""
        return time.thread_time() - self._begun

    @property
    def is_over(self) -> bool:
        """The clock is quicker to read, but goes on while the machine does something else."""
        return time.monotonic() > self._deadline and self.used > self.seconds


_budget: ContextVar[_Budget | None] = ContextVar("budget", default=None)


@contextmanager
def limited() -> Iterator[None]:
    """Opens the budget of one rendering; what is rendered within for its sake shares it."""
    if _budget.get() is not None:
        yield
        return
    with _opened(_Budget(TIME_LIMIT)):
        yield


class ProbingTime:
    """The time that all trials of one template may take together: `with` one, it has a budget beside the request's."""

    def __init__(self) -> None:
        self._left = TIME_LIMIT

    @property
    def is_over(self) -> bool:
        return self._left <= 0

    @contextmanager
    def spent(self) -> Iterator[None]:
        budget = _Budget(self._left)
        try:
            with _opened(budget):
                yield
        finally:
            self._left -= budget.used


@contextmanager
def _opened(budget: _Budget) -> Iterator[None]:
    token = _budget.set(budget)
    try:
        yield
    finally:
        _budget.reset(token)


def check_time() -> None:
    budget = _budget.get()
    if budget is not None and budget.is_over:
        raise TemplateLimit(f"the template runs for more than {budget.seconds:g} seconds")


def pay(size: int) -> None:
    """Charges a value of `size` characters or items."""
    _check_size(size)
    budget = _budget.get()
    if budget is not None:
        budget.characters -= size
        if budget.characters < 0:
            raise TemplateLimit(f"the template makes more than {TOTAL_LIMIT:,} characters in all")


def paid(value: Any) -> Any:
    """The value, charged if it is a text or a list."""
    if isinstance(value, str | list | tuple):
        pay(len(value))
    return value


def printable(value: Any) -> Any:
    """The value, if its text would not be too long."""
    if isinstance(value, list | tuple | dict):
        size, waiting = 0, [value]
        while waiting:
            item = waiting.pop()
            if isinstance(item, dict):
                waiting.extend(item.keys())
                waiting.extend(item.values())
            elif isinstance(item, list | tuple):
                waiting.extend(item)
            size += len(item) if isinstance(item, str) else 1
            if size + len(waiting) > SIZE_LIMIT:
                _check_size(size + len(waiting))
    return value


def concatenated(parts: Iterable[str]) -> str:
    """The parts as one text."""
    return "".join(_measured(parts))


def check_sum(left: Any, right: Any) -> None:
    if hasattr(left, "__len__") and hasattr(right, "__len__"):
        pay(len(left) + len(right))


def check_product(left: Any, right: Any) -> None:
    for many, times in ((left, right), (right, left)):
        if hasattr(many, "__len__") and isinstance(times, int):
            pay(len(many) * max(times, 0))
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())


def check_power(base: Any, exponent: Any) -> None:
    if isinstance(base, int) and isinstance(exponent, int):
        _check_bits(base.bit_length() * max(exponent, 1))


def check_form(form: str, *values: Any) -> None:
    """A format string asks for no wide field, and none of its values is too long."""
    if _WIDE_FIELD.search(form):
        raise TemplateLimit("the template asks for too wide a field")
    pay(len(form))
    for value in values:
        printable(value)


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Plain JSON: jinja2's own filter would escape `<`, `>`, `&` and `'` for HTML."""
    indent = min(indent, _MAX_INDENT) if isinstance(indent, int) else None
    return json.dumps(
        printable(value), ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def join(value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    parts = [str(printable(part if attribute is None else part[attribute])) for part in value]
    pay(sum(map(len, parts)) + len(d) * len(parts))
    return d.join(parts)


def replace(text: str, old: str, new: str, count: int | None = None) -> str:
    text = str(printable(text))
    found = text.count(old)
    pay(len(text) + (found if count is None or count < 0 else min(found, count)) * len(new))
    return text.replace(old, new, -1 if count is None else count)


def indent(text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    space = " " * min(width, _MAX_INDENT) if isinstance(width, int) else width
    lines = str(printable(text)).split("\n")
    pay(sum(map(len, lines)) + len(lines) * (len(space) + 1))
    rest = [space + line if line or blank else line for line in lines[1:]]
    return "\n".join([space + lines[0] if first else lines[0], *rest])


def percent_format(form: str, *args: Any, **kwargs: Any) -> str:
    check_form(form, *args, *kwargs.values())
    return str(form) % (kwargs or args)


def _check_size(size: int) -> None:
    if size > SIZE_LIMIT:
        raise TemplateLimit(f"the template makes more than {SIZE_LIMIT:,} characters")


def _check_bits(bits: int) -> None:
    if bits > _MAX_BITS:
        raise TemplateLimit("the template computes too large a number")


def _measured(parts: Iterable[str]) -> Iterator[str]:
    size = 0
    for part in parts:
        size += len(part)
        _check_size(size)
        yield part
    pay(size)
