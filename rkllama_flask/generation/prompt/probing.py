"""What a template takes, found out by rendering it: whether every text of a probe stands in the prompt, in order.

Each thing is tried out when a conversation first asks for it, and is known from then on.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache
from itertools import count
from typing import Any

from rkllama_flask.generation.prompt.compiled import CompiledTemplate, compiled
from rkllama_flask.generation.prompt.fitting import Bend, Kind, bent
from rkllama_flask.generation.prompt.left_out import left_out
from rkllama_flask.generation.prompt.template_messages import PLAIN_CALLS, CallForm, Turn, declarations, turns
from rkllama_flask.generation.request import Message, Tool, ToolCall

_TOOL = Tool("probe-tool", "d", {"type": "object", "properties": {"a": {"type": "string", "description": "d"}}})
_BEFORE: dict[Kind, tuple[Kind, ...]] = {
    "start": (),
    "user": ("user",),
    "answer": ("user", "answer"),
    "call": ("user", "call"),
    "result": ("user", "call", "result"),
}
_AFTER: dict[Kind, tuple[Kind, ...]] = {
    "user": (),
    "answer": ("user",),
    "call": ("result", "answer", "user"),
    "result": ("answer", "user"),
}
_ENDS: dict[Kind, tuple[Kind, ...] | None] = {"user": (), "answer": None, "call": ("result",), "result": ()}
"""What comes after a turn at a conversation's end."""
_SOUND = {("start", "user"), ("user", "answer"), ("answer", "user")}
"""What a template doesn't take in these is nothing that could be bent."""


class Probed:
    """What one template takes, in conversations with tools on offer or without."""

    def __init__(self, template: CompiledTemplate, *, with_tools: bool) -> None:
        self._template = template
        self._tools = declarations([_TOOL]) if with_tools else []
        self._bends: dict[tuple[Kind, Kind], Bend] = {}

    @cached_property
    def declares_tools(self) -> bool:
        return self._template.names_tools and _TOOL.name in (self._render(_turns("user")) or "")

    @cached_property
    def tools_as_list(self) -> bool:
        """No tools have to be an empty list: the template can't go through none."""
        probe = _turns("user")
        return self._render(probe, tools_as_list=False) is None and self._render(probe, tools_as_list=True) is not None

    @cached_property
    def system(self) -> bool:
        """Also behind calls, where there can be some: its text is to stand at one place all through a conversation."""
        called = ("call", "result") if self._tools and self.call_form else ()
        ends = ("user",), ("user", *called)
        return all(self._shows(_turns("system", *end, form=self._form if called else PLAIN_CALLS)) for end in ends)

    @cached_property
    def late_system(self) -> bool:
        first = ("system",) if self.system else ()
        return self._shows(_turns(*first, "user", "system", "answer", "system", "user", "system"))

    @cached_property
    def system_alone(self) -> bool:
        return self._shows(_turns("system"))

    @cached_property
    def call_form(self) -> CallForm | None:
        forms = (CallForm(as_text, null) for as_text in (False, True) for null in (False, True))
        for form in forms:
            if self._shows_ended(lambda *rest: _turns("user", "call", "result", *rest, form=form)):  # noqa: B023
                text = _turns("user", "call", "result", form=form)
                text[1]["tool_calls"][0]["function"]["arguments"] = "probe-text {"
                wraps = not form.arguments_as_text and not self._shows(text)
                return CallForm(form.arguments_as_text, form.null_content, wraps)
        return None

    @cached_property
    def several_calls(self) -> bool:
        return self._shows_ended(lambda *rest: _turns("user", "calls", "result", "result", *rest, form=self._form))

    @cached_property
    def text_beside_calls(self) -> bool:
        return self._shows_ended(lambda *rest: _turns("user", "text+call", "result", *rest, form=self._form))

    @cached_property
    def long_call_ids(self) -> bool:
        probe = _turns("user", "call", "result", form=self._form)
        probe[1]["tool_calls"][0]["id"] = probe[2]["tool_call_id"] = "call_of-a-probe"
        return self._shows(probe)

    def bend(self, before: Kind, kind: Kind) -> Bend:
        """What is done with a turn of this kind behind one of that kind: the least that works."""
        if (before, kind) in _SOUND:
            return Bend.KEEP
        if (before, kind) not in self._bends:
            self._bends[before, kind] = self._find_bend(before, kind)
        return self._bends[before, kind]

    def _find_bend(self, before: Kind, kind: Kind) -> Bend:
        for bend in (Bend.KEEP, Bend.JOIN, Bend.QUESTION, Bend.ANSWER):
            if bend is Bend.JOIN and not self._can_join(before, kind):
                continue
            if all(self._shows(*probe) for probe in self._bent_probes(before, kind, bend)):
                return bend
        return Bend.TEXT if kind in ("call", "result") else Bend.KEEP

    def _can_join(self, before: Kind, kind: Kind) -> bool:
        return before == kind == "user" or {before, kind} <= {"answer", "call"}

    def _bent_probes(self, before: Kind, kind: Kind, bend: Bend) -> Iterable[tuple[list[Turn], list[Turn]]]:
        ends = [_AFTER[kind]]
        short = _ENDS[kind] if kind != "answer" or before != "start" else ()
        if short is not None:
            ends.append(short)
        for end in ends:
            probe = _turns(*_BEFORE[before], kind, *end, form=self._form)
            at = len(_BEFORE[before])
            yield probe, [*bent(probe[:at], probe[at], bend), *probe[at + 1 :]]

    @property
    def _form(self) -> CallForm:
        return self.call_form or PLAIN_CALLS

    def _shows_ended(self, probe: Callable[..., list[Turn]]) -> bool:
        """In the middle of a conversation and at its end."""
        return self._shows(probe()) and self._shows(probe("answer", "user"))

    def _shows(self, probe: Sequence[Turn], given: Sequence[Turn] | None = None) -> bool:
        text = self._render(probe if given is None else given, tools_as_list=self.tools_as_list)
        return text is not None and not left_out(probe, text)

    def _render(self, probe: Sequence[Turn], *, tools_as_list: bool = False) -> str | None:
        if self._template.trials.is_over:
            return None
        variables: dict[str, Any] = {"bos_token": "", "eos_token": "", "add_generation_prompt": True}
        variables |= self._template.variables(probe, self._tools, tools_as_list=tools_as_list)
        with self._template.trials.spent():
            try:
                return self._template.render(variables)
            except Exception:  # whatever a template does to say no
                return None


@lru_cache(maxsize=64)
def probed(source: str, *, with_tools: bool) -> Probed:
    """What is known of a template; raises jinja2.TemplateSyntaxError."""
    return Probed(compiled(source), with_tools=with_tools)


def _turns(*kinds: str, form: CallForm = PLAIN_CALLS) -> list[Turn]:
    """A conversation of these turns, each with a text of its own."""
    numbers = count(1)
    found: list[Message] = []
    open_calls: list[ToolCall] = []
    for kind in kinds:
        text = f"probe-text-{next(numbers)}."
        if kind == "result":
            call = open_calls.pop(0) if open_calls else ToolCall("probe-tool", "{}", "abcdefghi")
            found.append(Message("tool", text, tool_call_id=call.id, name=call.name))
        elif "call" in kind:
            many = 2 if kind == "calls" else 1
            calls = [
                ToolCall(f"probe-call-{at}", f'{{"a": "probe-value-{at}."}}', f"{at:09}")
                for at in (next(numbers) for _ in range(many))
            ]
            open_calls = [*calls]
            found.append(Message("assistant", text if "text" in kind else "", tool_calls=tuple(calls)))
        else:
            found.append(Message("assistant" if kind == "answer" else kind, text))  # type: ignore[arg-type]
    return turns(found, form)
