"""One conversation rendered, bent as far as its template asks for and no further."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rkllama_flask.generation.prompt.compiled import compiled
from rkllama_flask.generation.prompt.fitting import Strict, Takes, fitted
from rkllama_flask.generation.prompt.left_out import left_out
from rkllama_flask.generation.prompt.probing import probed
from rkllama_flask.generation.prompt.segments import Prompt
from rkllama_flask.generation.prompt.special_text import WELL_KNOWN, Cover, special_text
from rkllama_flask.generation.prompt.template_limits import TemplateLimit, limited
from rkllama_flask.generation.prompt.template_messages import (
    PLAIN_CALLS,
    Turn,
    covered,
    declarations,
    strings,
    turns,
    with_instruction,
)
from rkllama_flask.generation.request import Message, Tool

_RESERVED = ("messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token")


@dataclass(frozen=True)
class _Bent:
    """A conversation as the client meant it, and as the template gets it. Both are covered."""

    meant: list[Turn]
    given: list[Turn]
    cover: Cover
    tools: list[Turn]
    extra: dict[str, Any]
    continues: bool


class Rendering:
    """A conversation and what its template needs beside it. `tokens` are those that open and close texts.

    Raises jinja2.TemplateSyntaxError.
    """

    def __init__(
        self,
        source: str,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        *,
        arguments: Mapping[str, Any],
        tokens: Mapping[str, str],
        special_strings: Sequence[str],
        add_generation_prompt: bool,
    ) -> None:
        self._source = source
        self._template = compiled(source)
        self._messages = messages
        self._tools = tools
        self._arguments = {key: value for key, value in arguments.items() if key not in _RESERVED}
        self._tokens = tokens
        self._special = special_text(frozenset((*WELL_KNOWN, *special_strings)))
        self._opens_turn = add_generation_prompt
        self._declared = bool(tools) and probed(source, with_tools=True).declares_tools
        self._takes = probed(source, with_tools=self._declared)

    def prompt(self) -> Prompt:
        """The first prompt that leaves nothing out, of conversations that are bent further and further.

        Where each leaves something out, the first, in which that is named. Raises what the template does to refuse.
        """
        least: Prompt | Exception | None = None
        tried: list[tuple[list[Turn], list[Turn]]] = []
        with limited():
            for takes, system, calls, complete in self._steps():
                if complete and isinstance(least, Prompt):  # it is not the tools that the template refused
                    break
                bent = self._bent(takes, system=system, calls=calls, complete=complete)
                if (bent.given, bent.tools) in tried:
                    continue
                tried.append((bent.given, bent.tools))
                try:
                    prompt = self._rendered(bent)
                except TemplateLimit:
                    raise
                except Exception as error:  # a template can raise anything
                    least = least or error
                    continue
                if not prompt.left_out:
                    return prompt
                least = least or prompt
        if isinstance(least, Exception):
            raise least
        assert least is not None
        return least

    def _steps(self) -> Iterator[tuple[Takes, bool, bool, bool]]:
        """What the template takes, and whether the conversation is given with system turns, with calls, and with
        everything that can be said of tools.
        """
        strict = Strict(system=self._takes.system)
        for complete in (False, True) if self._declared else (False,):
            for calls in (True, False) if self._declared or not self._tools else (False,):
                for system in (True, False):
                    yield self._takes, system, calls, complete
            yield from ((strict, True, False, complete), (strict, False, False, complete))

    def _bent(self, takes: Takes, *, system: bool, calls: bool, complete: bool) -> _Bent:
        called = calls and any(message.tool_calls or message.role == "tool" for message in self._messages)
        conversation = turns(self._messages, (takes.call_form if called else None) or PLAIN_CALLS)
        offered = declarations(self._tools, complete=complete)
        written = (call.arguments for message in self._messages for call in message.tool_calls)
        cover = Cover(self._special, (self._source, *written, *strings((conversation, offered, self._arguments))))
        meant = covered(conversation, cover, self._template.tags)
        offered = cover.value(offered)
        continues = self._opens_turn and _ends_with_an_answer(meant)
        given = meant
        if continues:
            given = [*meant[:-1], {**meant[-1], "content": meant[-1]["content"] + cover.end_mark}]
        if self._tools and not self._declared:
            given, offered = with_instruction(given, offered), []
        given = fitted(given, takes, system=system, calls=calls)
        return _Bent(meant, given, cover, offered, cover.value(self._arguments), continues)

    def _rendered(self, bent: _Bent) -> Prompt:
        variables = {
            **bent.extra,
            **self._tokens,
            **self._template.variables(bent.given, bent.tools, tools_as_list=self._takes.tools_as_list),
            "add_generation_prompt": self._opens_turn and not bent.continues,
        }
        text = self._template.render(variables)
        lost = tuple(left_out(bent.meant, text))
        if bent.continues and bent.cover.end_mark in text:
            text = text.rpartition(bent.cover.end_mark)[0]
        elif bent.continues:  # this template does not show the last answer
            text = self._template.render({**variables, "add_generation_prompt": True})
        return replace(bent.cover.prompt(text), left_out=lost)


def _ends_with_an_answer(conversation: Sequence[Turn]) -> bool:
    last = conversation[-1] if conversation else {"role": "user"}
    return last["role"] == "assistant" and "tool_calls" not in last
