"""The Jinja environment chat templates are written for, closed against hostile ones.

Templates come with model files and with requests, and run on the thread that serves everyone. jinja2's sandbox keeps
them from the process. It does not bound what they cost, so everything that can run long or make a large value is led
through template_limits: operators and calls by the sandbox's own hooks, filters by wrapping them, loops, macros,
slices and `~` by rewriting the parsed template.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import wraps
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from rkllama_flask.generation.prompt import template_limits as limits

_REMOVED_FILTERS = ("center", "filesizeformat", "pprint", "random", "truncate", "urlize", "wordwrap", "xmlattr")
_LIST_FILTERS = {
    *("attr", "batch", "count", "d", "default", "dictsort", "first", "groupby", "items", "join", "last", "length"),
    *("list", "map", "max", "min", "reject", "rejectattr", "reverse", "select", "selectattr", "slice", "sort"),
    *("sum", "tojson", "unique"),
}
"""Filters that take lists as lists; the others make text of them."""
_PADDING_METHODS = frozenset(("center", "expandtabs", "ljust", "rjust", "zfill"))


class _GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}` marks the model's turns for training; here only its body counts."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Metering(NodeTransformer):
    """Leads what the sandbox has no hook for through methods of the environment."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - the visitor's own naming
        return self._metered(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802
        return self._metered(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:  # noqa: N802
        return self._metered(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _call("join_parts", [nodes.List(node.nodes, lineno=node.lineno)], node.lineno)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        ends = [end or nodes.Const(None) for end in (node.arg.start, node.arg.stop, node.arg.step)]
        return _call("cut", [node.node, *ends], node.lineno)

    def _metered(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> nodes.Node:
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_call("tick", [], node.lineno), lineno=node.lineno))
        return node


def _call(name: str, arguments: list[nodes.Expr], line: int) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(name), arguments, [], None, None, lineno=line)


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """What Hugging Face's chat templates expect: `raise_exception`, `strftime_now`, a plain `tojson`, loop controls."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))
    concat = staticmethod(limits.concatenated)
    tick = staticmethod(limits.check_time)

    def __init__(self, now: Callable[[], datetime] = datetime.now) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # constants would be folded before anything is measured
            finalize=limits.printable,
            extensions=["jinja2.ext.loopcontrols", _GenerationTag],
        )
        for name in _REMOVED_FILTERS:
            del self.filters[name]
        del self.globals["lipsum"]
        self.filters.update(
            tojson=limits.to_json,
            join=limits.join,
            replace=limits.replace,
            indent=limits.indent,
            format=limits.percent_format,
        )
        self.filters = {name: _paying(name, function) for name, function in self.filters.items()}
        self.globals.update(raise_exception=_raise, strftime_now=lambda form: now().strftime(form))

    def compile_metered(self, source: str) -> jinja2.Template:
        """The compiled template; raises jinja2.TemplateSyntaxError."""
        tree = _Metering().visit(self.parse(source))
        tree.set_environment(self)
        return self.from_string(tree)

    def render_metered(self, template: jinja2.Template, variables: Mapping[str, Any]) -> str:
        """The output; raises TemplateLimit, or what the template raises."""
        with limits.limited():
            return limits.concatenated(template.generate(dict(variables)))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Lists may grow and shrink: published templates gather turns in them."""
        return (isinstance(obj, list) and attr in ("append", "pop")) or super().is_safe_attribute(obj, attr, value)

    @staticmethod
    def join_parts(parts: list[Any]) -> str:
        return limits.concatenated(str(limits.printable(part)) for part in parts)

    @staticmethod
    def cut(value: Any, start: int | None, stop: int | None, step: int | None) -> Any:
        return limits.paid(value[start:stop:step])

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "+":
            limits.check_sum(left, right)
        elif operator == "*":
            limits.check_product(left, right)
        elif operator == "**":
            limits.check_power(left, right)
        elif isinstance(left, str):
            limits.check_form(left, right)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, obj: Any, *args: Any, **kwargs: Any) -> Any:
        if obj is limits.check_time:
            return obj()
        subject, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(subject, str):
            if name in _PADDING_METHODS:
                raise limits.TemplateLimit(f"the template may not use '{name}'")
            if name == "replace":
                return limits.replace(subject, *args, **_given(kwargs))
            if name == "join":
                return limits.join(args[0], subject)
        if isinstance(subject, list):
            limits.pay(1)
        return limits.paid(super().call(context, obj, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        formatted = super().wrap_str_format(value)
        if formatted is None:
            return None

        def measured(*args: Any, **kwargs: Any) -> str:
            limits.check_form(value.__self__, *args, *kwargs.values())
            return formatted(*args, **kwargs)

        return measured


def _paying(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, its result charged, and lists measured that it would make text of."""

    @wraps(function)
    def filtered(*args: Any, **kwargs: Any) -> Any:
        if name not in _LIST_FILTERS:
            for value in args:
                limits.printable(value)
        return limits.paid(function(*args, **kwargs))

    return filtered


def _given(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords that the template wrote, without those that jinja2 adds within loops and blocks."""
    return {key: value for key, value in kwargs.items() if key not in ("_loop_vars", "_block_vars")}


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
