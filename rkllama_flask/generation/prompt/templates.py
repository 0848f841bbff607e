"""From a conversation to the prompt its model was trained on.

Where a template can't express something, the conversation is bent (`fitting`), no further than the template asks for
(`probing`), until all that was said stands in the prompt (`left_out`). Tools that a template doesn't know are declared
by an instruction in the system text. Thinking that it can't switch off is closed before it begins. A conversation that
ends with the model's own words is left open there, for the answer to continue them.

Everything else a template refuses is the client's error, in the template's own words.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jinja2

from rkllama_flask.catalog.model import Model
from rkllama_flask.errors import InvalidRequest, TemplateFailed
from rkllama_flask.generation.prompt.builtin_templates import builtin_template
from rkllama_flask.generation.prompt.compiled import compiled
from rkllama_flask.generation.prompt.probing import probed
from rkllama_flask.generation.prompt.rendering import Rendering
from rkllama_flask.generation.prompt.segments import Prompt, Segment
from rkllama_flask.generation.prompt.special_text import WELL_KNOWN, special_text
from rkllama_flask.generation.prompt.tokens import Tokenizer
from rkllama_flask.generation.request import Message, Tool

__all__ = ["ChatTemplate", "Prompt", "Segment"]

_GO_TEMPLATE = re.compile(r"\{\{-?\s*(?:(?:if|range|with)\s+[.$]|end\s*-?\}\}|[.$][A-Za-z])")
_THINKING = re.compile(r"</think>|enable_thinking|\[/THINK\]")
_THINKING_SWITCH = re.compile(r"enable_thinking|\bthinking\b(?!_)|reasoning_effort")
_OPEN_TAGS, _CLOSE_TAGS = ("<think>", "[THINK]"), ("</think>", "[/THINK]")


@dataclass(frozen=True)
class ChatTemplate:
    """How one model wants its conversations written. `source` is Jinja text."""

    source: str
    model_name: str = "this model"
    bos_token: str = ""
    eos_token: str = ""
    special_strings: Callable[[], Sequence[str]] = field(default=tuple, repr=False, compare=False)

    @classmethod
    def for_model(cls, model: Model, *, override: str | None = None, tools: bool = False) -> "ChatTemplate":
        """`override`, else the Modelfile's template, the model's own, a built-in one of its family, ChatML.

        With `tools` it is the one that the model's makers wrote for them, where they wrote several.
        """
        own = (model.tool_template if tools else None) or model.chat_template
        source = override or model.modelfile.template or own or builtin_template(model)

        def special_strings() -> Sequence[str]:
            tokenizer = Tokenizer.for_model(model)
            return tokenizer.special_strings if tokenizer else ()

        return cls(source, model.name, model.bos_token or "", model.eos_token or "", special_strings)

    @property
    def supports_tools(self) -> bool:
        """The template itself declares tools to the model."""
        try:
            return probed(self.source, with_tools=True).declares_tools
        except jinja2.TemplateError:
            return False

    @property
    def supports_thinking(self) -> bool:
        """The template knows reasoning."""
        return _THINKING.search(self.source) is not None

    def thinking_is_prefilled(self, prompt: Prompt, opens: str = "", closes: str = "") -> bool:
        """The prompt ends inside the model's thoughts, so its answer begins with them.

        `opens` and `closes` are the model's own marks of them, beside the known ones.
        """
        text = "".join(segment.text if segment.trusted else " " * len(segment.text) for segment in prompt.segments)
        opened, tag = max((text.rfind(tag), tag) for tag in (*_OPEN_TAGS, *((opens,) if opens else ())))
        if opened < 0 or opened < max(text.rfind(tag) for tag in (*_CLOSE_TAGS, *((closes,) if closes else ()))):
            return False
        after = text[opened + len(tag) :]
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
        variables. What the template leaves out whatever is done is named in the prompt. Raises TemplateFailed with the
        template's own message.
        """
        self._compile()
        try:
            prompt = Rendering(
                self.source,
                messages,
                tools,
                arguments={**_thinking_variables(thinking), **(arguments or {})},
                tokens={"bos_token": self.bos_token, "eos_token": self.eos_token},
                special_strings=self.special_strings(),
                add_generation_prompt=add_generation_prompt,
            ).prompt()
        except InvalidRequest:
            raise
        except Exception as error:  # a template can raise anything
            reason = str(error) or type(error).__name__
            raise TemplateFailed(
                f"The chat template of {self.model_name} refused: {reason}", param="messages"
            ) from error
        return self._without_thoughts(prompt) if thinking is False and add_generation_prompt else prompt

    def _without_thoughts(self, prompt: Prompt) -> Prompt:
        if self.thinking_is_prefilled(prompt):
            closing = "\n</think>\n\n" if not prompt.text.endswith("\n") else "</think>\n\n"
        elif "</think>" in self.source and not _THINKING_SWITCH.search(self.source):
            closing = "<think>\n\n</think>\n\n"
        else:
            return prompt
        return replace(prompt, segments=(*prompt.segments, Segment(closing, trusted=True)))

    def _compile(self) -> None:
        try:
            compiled(self.source)
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


def _thinking_variables(thinking: bool | str | None) -> dict[str, Any]:
    if thinking is None:
        return {}
    variables: dict[str, Any] = {"enable_thinking": bool(thinking), "thinking": bool(thinking)}
    return variables if isinstance(thinking, bool) else {**variables, "reasoning_effort": thinking}
