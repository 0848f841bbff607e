"""The Jinja environment chat templates are written for, with limits that a hostile one can't pass.

Templates come with model files and with requests, and run on the thread that serves everyone. The sandbox of jinja2
keeps them from the process; what is added here bounds their time and memory: every turn of a loop and every call of a
macro looks at the clock, and whatever can make a large value from small ones is measured before it is made.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from datetime import datetime
from typing import Any, ClassVar, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

TIME_LIMIT = 2.0
"""Seconds one rendering may take."""

SIZE_LIMIT = 16_000_000
"""Characters, or list items, that any one value may have; also the limit of the whole output."""

_deadline: ContextVar[float] = ContextVar("deadline", default=float("inf"))
_WIDTH = re.compile(r"\d{5}|\*|:[^}]*\{")
_REMOVED_FILTERS = ("center", "filesizeformat", "pprint", "random", "truncate", "urlize", "wordwrap", "xmlattr")
_PADDING_METHODS = frozenset(("center", "expandtabs", "ljust", "rjust", "zfill"))


class TemplateLimit(SecurityError):
    """The template wanted more time or memory than a prompt can need."""


class _GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}` marks the model's turns for training; here only its body counts."""

    tags: ClassVar[set[str]] = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Metering(NodeTransformer):
    """Puts a look at the clock into every loop and macro, and a look at the size before every `~`."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - the visitor's own naming
        return self._metered(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802
        return self._metered(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:  # noqa: N802
        return self._metered(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return _call("join_parts", [parts], node.lineno)

    def _metered(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> nodes.Node:
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_call("tick", [], node.lineno), lineno=node.lineno))
        return node


def _call(name: str, arguments: list[nodes.Expr], line: int) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(name), arguments, [], None, None, lineno=line)


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """What Hugging Face's chat templates expect: `raise_exception`, `strftime_now`, a plain `tojson`, loop controls."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, now: Callable[[], datetime] = datetime.now) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # constants would be folded before anything is measured
            extensions=["jinja2.ext.loopcontrols", _GenerationTag],
        )
        for name in _REMOVED_FILTERS:
            del self.filters[name]
        for name in ("lipsum",):
            del self.globals[name]
        self.filters.update(tojson=_to_json, join=_join, replace=_replace, indent=_indent, format=_format)
        self.globals.update(raise_exception=_raise, strftime_now=lambda form: now().strftime(form))

    def compile_metered(self, source: str) -> jinja2.Template:
        """The compiled template; raises jinja2.TemplateSyntaxError."""
        tree = _Metering().visit(self.parse(source))
        tree.set_environment(self)
        return self.from_string(tree)

    def render_metered(self, template: jinja2.Template, variables: Mapping[str, Any]) -> str:
        """The output; raises TemplateLimit, or what the template raises."""
        token = _deadline.set(time.monotonic() + TIME_LIMIT)
        try:
            return self.concat(template.generate(dict(variables)))
        finally:
            _deadline.reset(token)

    @staticmethod
    def concat(parts: Iterable[str]) -> str:
        """Joins output; every block, macro and the whole template end here."""
        return "".join(_measured(parts))

    @staticmethod
    def tick() -> None:
        if time.monotonic() > _deadline.get():
            raise TemplateLimit(f"the template runs for more than {TIME_LIMIT:g} seconds")

    @staticmethod
    def join_parts(parts: list[Any]) -> str:
        return "".join(_measured(map(str, parts)))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "+" and hasattr(left, "__len__") and hasattr(right, "__len__"):
            _check(len(left) + len(right))
        elif operator == "%" and isinstance(left, str):
            _check_widths(left)
        elif operator == "*":
            _check_product(left, right)
        elif operator == "**" and (abs(left) > 1_000_000 or abs(right) > 64):
            raise TemplateLimit("the template computes too large a number")
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, obj: Any, *args: Any, **kwargs: Any) -> Any:
        if obj == self.tick:
            return self.tick()
        subject, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(subject, str):
            if name in _PADDING_METHODS:
                raise TemplateLimit(f"the template may not use '{name}'")
            if name == "replace":
                return _replace(subject, *args, **kwargs)
            if name == "join":
                return _join(args[0], subject)
        return super().call(context, obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        form = getattr(value, "__self__", None)
        if isinstance(form, str) and value.__name__ in ("format", "format_map"):
            _check_widths(form)
        return super().wrap_str_format(value)


def _measured(parts: Iterable[str]) -> Iterator[str]:
    size = 0
    for part in parts:
        size += len(part)
        _check(size)
        yield part


def _check_product(left: Any, right: Any) -> None:
    for many, times in ((left, right), (right, left)):
        if hasattr(many, "__len__") and isinstance(times, int):
            _check(len(many) * times)
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > 4096:
        raise TemplateLimit("the template computes too large a number")


def _check(size: float) -> None:
    if size > SIZE_LIMIT:
        raise TemplateLimit(f"the template makes more than {SIZE_LIMIT:,} characters")


def _check_widths(form: str) -> None:
    if _WIDTH.search(form):
        raise TemplateLimit("the template asks for too wide a field")


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Plain JSON: jinja2's own filter would escape `<`, `>`, `&` and `'` for HTML."""
    if isinstance(indent, int) and indent > 16:
        raise TemplateLimit("the template indents too far")
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _join(value: Iterable[Any], d: str = "", attribute: str | None = None) -> str:
    parts = [str(part[attribute] if attribute is not None else part) for part in value]
    _check(sum(map(len, parts)) + len(d) * len(parts))
    return d.join(parts)


def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    text = str(text)
    found = text.count(old)
    _check(len(text) + (found if count is None or count < 0 else min(found, count)) * len(new))
    return text.replace(old, new, -1 if count is None else count)


def _indent(text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    space = " " * min(width, 64) if isinstance(width, int) else width
    lines = str(text).split("\n")
    _check(len(text) + len(lines) * len(space))
    rest = [space + line if line or blank else line for line in lines[1:]]
    return "\n".join([space + lines[0] if first else lines[0], *rest])


def _format(form: str, *args: Any, **kwargs: Any) -> str:
    _check_widths(form)
    return str(form) % (kwargs or args)
