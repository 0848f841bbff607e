"""From a conversation to the prompt its model was trained on.

Where a template can't express something, the conversation is bent, by these rules and no others:

- System messages that follow each other at the start are joined by a blank line.
- A template that takes no system message gets its text before the first user turn's text, with a blank line between;
  one that takes none in mid-conversation gets it before the next user turn's text.
- A template that knows no tools gets an instruction in the system text, and calls and results as tagged text.
- Call ids are shortened for templates that insist on nine characters.
- Thinking that a template can't switch off is closed before it begins.
- A conversation that ends with the model's own words is left open there, for the answer to continue them.

Everything else a template refuses is the client's error, in the template's own words.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import jinja2

from rkllama_flask.catalog.model import Model
from rkllama_flask.errors import TemplateFailed
from rkllama_flask.generation.prompt.builtin_templates import builtin_template
from rkllama_flask.generation.prompt.segments import Prompt, Segment
from rkllama_flask.generation.prompt.special_text import MODEL_TAGS, WELL_KNOWN, Cover, special_text
from rkllama_flask.generation.prompt.template_limits import limited
from rkllama_flask.generation.prompt.template_messages import (
    Turn,
    covered,
    declarations,
    strings,
    turns,
    with_leading_system_joined,
    with_short_call_ids,
    with_tools_as_text,
    without_system,
)
from rkllama_flask.generation.prompt.template_sandbox import TemplateEnvironment
from rkllama_flask.generation.prompt.tokens import Tokenizer
from rkllama_flask.generation.request import Message, Tool, ToolCall

__all__ = ["ChatTemplate", "Prompt", "Segment"]

_ENVIRONMENT = TemplateEnvironment()
_GO_TEMPLATE = re.compile(r"\{\{-?\s*(?:(?:if|range|with)\s+[.$]|end\s*-?\}\}|[.$][A-Za-z])")
_THINKING = re.compile(r"</think>|enable_thinking|\[/THINK\]")
_THINKING_SWITCH = re.compile(r"enable_thinking|\bthinking\b(?!_)|reasoning_effort")
_OPEN_TAGS, _CLOSE_TAGS = ("<think>", "[THINK]"), ("</think>", "[/THINK]")
_RESERVED = ("messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token")


@dataclass(frozen=True)
class _CallForm:
    """How a template wants calls: arguments as text or object, null or empty content beside them."""

    arguments_as_text: bool = False
    null_content: bool = False


class _Compiled:
    """A template's source made ready, and what it turns out to be able to do."""

    def __init__(self, source: str) -> None:
        self._template = _ENVIRONMENT.compile_metered(source)
        self.short_call_ids = re.search(r"length\s*!=\s*9\b", source) is not None
        self.tags = frozenset(tag for tag in MODEL_TAGS if tag in source)

    def render(self, variables: Mapping[str, Any]) -> str:
        return _ENVIRONMENT.render_metered(self._template, variables)

    @cached_property
    def takes_system(self) -> bool:
        return self._shows([Message("system", "probe-1"), Message("user", "probe-2")], "probe-1")

    @cached_property
    def takes_late_system(self) -> bool:
        first = [Message("system", "probe-1")] if self.takes_system else []
        late = [Message("user", "u"), Message("assistant", "a"), Message("system", "probe-2"), Message("user", "v")]
        return self._shows([*first, *late], "probe-2", *(["probe-1"] if first else []))

    @cached_property
    def takes_tools(self) -> bool:
        return self._shows([Message("user", "u")], "probe-tool", tools=[Tool("probe-tool", "d", {"type": "object"})])

    @cached_property
    def call_form(self) -> _CallForm | None:
        """None: the template shows no calls or no results."""
        call = ToolCall("probe-call", '{"a": "probe-value"}', "abcdefghi")
        conversation = [
            Message("user", "u"),
            Message("assistant", tool_calls=(call,)),
            Message("tool", "probe-result", tool_call_id="abcdefghi", name="probe-call"),
        ]
        for form in (_CallForm(a, n) for a in (False, True) for n in (False, True)):
            if self._shows(conversation, "probe-call", "probe-value", "probe-result", form=form):
                return form
        return None

    def _shows(
        self,
        messages: Sequence[Message],
        *expected: str,
        tools: Sequence[Tool] = (),
        form: _CallForm = _CallForm(),
    ) -> bool:
        conversation = turns(messages, arguments_as_text=form.arguments_as_text, null_content=form.null_content)
        variables = {"messages": conversation, "tools": declarations(tools) or None, "add_generation_prompt": True}
        try:
            text = self.render({"bos_token": "", "eos_token": "", "documents": None, **variables})
        except Exception:  # whatever a template does to say no
            return False
        return all(probe in text for probe in expected)


@lru_cache(maxsize=32)
def _compiled(source: str) -> _Compiled:
    return _Compiled(source)


@dataclass(frozen=True)
class ChatTemplate:
    """How one model wants its conversations written. `source` is Jinja text."""

    source: str
    model_name: str = "this model"
    bos_token: str = ""
    eos_token: str = ""
    special_strings: Callable[[], Sequence[str]] = field(default=tuple, repr=False, compare=False)

    @classmethod
    def for_model(cls, model: Model, *, override: str | None = None) -> "ChatTemplate":
        """`override`, else the Modelfile's template, the model's own, a built-in one of its family, ChatML."""
        source = override or model.modelfile.template or model.chat_template or builtin_template(model)

        def special_strings() -> Sequence[str]:
            tokenizer = Tokenizer.for_model(model)
            return tokenizer.special_strings if tokenizer else ()

        return cls(source, model.name, model.bos_token or "", model.eos_token or "", special_strings)

    @property
    def supports_tools(self) -> bool:
        """The template itself declares tools to the model."""
        try:
            return "tools" in self.source and _compiled(self.source).takes_tools
        except jinja2.TemplateError:
            return False

    @property
    def supports_thinking(self) -> bool:
        """The template knows reasoning."""
        return _THINKING.search(self.source) is not None

    def thinking_is_prefilled(self, prompt: Prompt) -> bool:
        """The prompt ends inside the model's thoughts, so its answer begins with them."""
        text = "".join(segment.text if segment.trusted else " " * len(segment.text) for segment in prompt.segments)
        opened = max(text.rfind(tag) for tag in _OPEN_TAGS)
        if opened < 0 or opened < max(text.rfind(tag) for tag in _CLOSE_TAGS):
            return False
        after = text[opened:].split(">", 1)[-1] if text[opened] == "<" else text[opened:].split("]", 1)[-1]
        return not any(True for _ in special_text(frozenset(WELL_KNOWN)).spans(after))

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool] = (),
        *,
        thinking: bool | str | None = None,
        arguments: Mapping[str, Any] | None = None,
        add_generation_prompt: bool = True,
    ) -> Prompt:
        """The prompt for these messages.

        `thinking` None leaves it to the template, a string is an effort level. `arguments` reach the template as
        variables. Raises TemplateFailed with the template's own message.
        """
        with limited():  # what the template can do is tried out with it, and must not take that time once more
            return self._render(messages, tools, thinking, arguments, add_generation_prompt=add_generation_prompt)

    def _render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        thinking: bool | str | None,
        arguments: Mapping[str, Any] | None,
        *,
        add_generation_prompt: bool,
    ) -> Prompt:
        compiled = self._compile()
        form, as_text = self._call_form(compiled, messages, tools)
        conversation = turns(messages, arguments_as_text=form.arguments_as_text, null_content=form.null_content)
        offered = declarations(tools)
        extra = {key: value for key, value in (arguments or {}).items() if key not in _RESERVED}
        special = special_text(frozenset((*WELL_KNOWN, *self.special_strings())))
        cover = Cover(special, (self.source, *strings((conversation, offered, extra))))
        conversation = covered(conversation, cover, compiled.tags)
        offered = cover.value(offered)
        continues = add_generation_prompt and _ends_with_an_answer(conversation)
        if continues:
            conversation[-1]["content"] += cover.end_mark
        if as_text:
            conversation, offered = with_tools_as_text(conversation, offered), []
        variables = {
            **_thinking_variables(thinking),
            **cover.value(extra),
            "messages": _fitted(conversation, compiled),
            "tools": offered or None,
            "documents": None,
            "add_generation_prompt": add_generation_prompt and not continues,
            "bos_token": self.bos_token,
            "eos_token": self.eos_token,
        }
        rendered = self._rendered(compiled, variables)
        if continues and cover.end_mark in rendered:
            return cover.prompt(rendered.rpartition(cover.end_mark)[0])
        if continues:  # this template does not show the last answer
            rendered = self._rendered(compiled, {**variables, "add_generation_prompt": True})
        prompt = cover.prompt(rendered)
        return self._without_thoughts(prompt) if thinking is False and add_generation_prompt else prompt

    def _call_form(
        self, compiled: _Compiled, messages: Sequence[Message], tools: Sequence[Tool]
    ) -> tuple[_CallForm, bool]:
        """How calls are to be handed over, and whether tools, calls and results have to be written as text."""
        if tools and not self.supports_tools:
            return _CallForm(), True
        if any(message.tool_calls or message.role == "tool" for message in messages):
            form = compiled.call_form
            return form or _CallForm(), form is None
        return _CallForm(), False

    def _without_thoughts(self, prompt: Prompt) -> Prompt:
        if self.thinking_is_prefilled(prompt):
            closing = "\n</think>\n\n" if not prompt.text.endswith("\n") else "</think>\n\n"
        elif "</think>" in self.source and not _THINKING_SWITCH.search(self.source):
            closing = "<think>\n\n</think>\n\n"
        else:
            return prompt
        return Prompt((*prompt.segments, Segment(closing, trusted=True)))

    def _compile(self) -> _Compiled:
        try:
            return _compiled(self.source)
        except jinja2.TemplateSyntaxError as error:
            if _GO_TEMPLATE.search(self.source):
                raise TemplateFailed(
                    f"The template of {self.model_name} is written in Go's template language; write it in Jinja.",
                    param="template",
                ) from error
            raise TemplateFailed(
                f"The template of {self.model_name} can't be read: line {error.lineno}: {error.message}",
                param="template",
            ) from error

    def _rendered(self, compiled: _Compiled, variables: Mapping[str, Any]) -> str:
        try:
            return compiled.render(variables)
        except Exception as error:  # a template can raise anything
            reason = str(error) or type(error).__name__
            raise TemplateFailed(
                f"The chat template of {self.model_name} refused: {reason}", param="messages"
            ) from error


def _ends_with_an_answer(conversation: Sequence[Turn]) -> bool:
    last = conversation[-1] if conversation else {"role": "user"}
    return last["role"] == "assistant" and "tool_calls" not in last


def _fitted(conversation: Sequence[Turn], compiled: _Compiled) -> list[Turn]:
    """The conversation with its system messages and call ids as the template can take them."""
    found = with_leading_system_joined(conversation)
    if compiled.short_call_ids:
        found = with_short_call_ids(found)
    if any(turn["role"] == "system" for turn in found[:1]) and not compiled.takes_system:
        return without_system(found, keep_first=False)
    if any(turn["role"] == "system" for turn in found[1:]) and not compiled.takes_late_system:
        return without_system(found, keep_first=True)
    return found


def _thinking_variables(thinking: bool | str | None) -> dict[str, Any]:
    if thinking is None:
        return {}
    variables: dict[str, Any] = {"enable_thinking": bool(thinking), "thinking": bool(thinking)}
    return variables if isinstance(thinking, bool) else {**variables, "reasoning_effort": thinking}
