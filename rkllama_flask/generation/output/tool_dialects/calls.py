"""One call, in whatever way it is written."""

# ruff: noqa: RUF001 - DeepSeek's markers are written with a full-width bar

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from rkllama_flask.generation.output.arriving import ArrivingText, CutOff, Reading
from rkllama_flask.generation.output.lenient_json import BLANK, LenientJson
from rkllama_flask.generation.output.tool_dialects.values import as_json
from rkllama_flask.generation.request import Tool

_NAME_KEYS = ("name", "function", "tool_name")
_ARGUMENT_KEYS = ("arguments", "parameters", "args")
_OTHER_KEYS = ("type", "id", "call_id", "tool_call_id", "index")
_BEFORE_NAME = ("call:", "functions.", "function<｜tool▁sep｜>", "print(")
_AFTER_NAME = ("[ARGS]", "[CALL_ID]", "<｜tool▁sep｜>", "(", ".call(", "{")
_FENCES = ("```json", "```")
_END_OF_PARAMETER = ("</parameter>", "\n<parameter=", "\n</function>", "\n</tool_call>")


class NotACall(Exception):
    """What stands here is text after all."""


class CallOutput(Protocol):
    """Where calls go. From `start` to `end`, what is written joins to the JSON text of one object.

    `end` is called where the arguments can't go on, whatever closes the call behind them.
    """

    def start(self, name: str) -> None: ...

    def write(self, piece: str) -> None: ...

    def end(self) -> None: ...


class CallReader:
    """Reads one call of an offered function from `text`. `ends` are strings that end a call from outside.

    Raises NotACall before the call has started, and never after: from there on everything is mended. Where the text was
    cut before the call's end it raises CutOff, and nothing is mended.
    """

    def __init__(
        self,
        text: ArrivingText,
        tools: Iterable[Tool],
        output: CallOutput,
        *,
        ends: Sequence[str],
        names: Sequence[str] = (),
        arguments: Sequence[str] = (),
    ) -> None:
        self._text = text
        self._name_keys = (*_NAME_KEYS, *names)
        self._argument_keys = (*_ARGUMENT_KEYS, *arguments)
        self._tools = {tool.name: tool for tool in tools}
        self._output = output
        self._ends = tuple(ends)

    def call(self, *, bare: bool = False, python: bool = True) -> Reading[None]:
        """The call that begins here. `bare` ones stand in plain text, and must be beyond doubt."""
        character = yield from self._text.peek()
        if character == "{":
            yield from self._json(bare=bare)
        elif not bare and (yield from self._text.literal("<function=")):
            yield from self.xml()
        elif python:
            yield from self._named(bare=bare)
        else:
            raise NotACall

    # {"name": …, "arguments": …}

    def _json(self, *, bare: bool) -> Reading[None]:
        self._text.position += 1
        name: str | None = None
        early: list[str] | None = None  # arguments that came before the name
        while True:
            yield from self._text.skip(BLANK + ",")
            character = yield from self._text.peek()
            if character in ("", "}") or (yield from self._text.at(*self._ends)):
                break
            key = yield from self._lenient().key()
            yield from self._text.skip(BLANK)
            if not (yield from self._text.literal(":")):
                raise NotACall
            yield from self._text.skip(BLANK)
            if key == "function" and (yield from self._text.peek()) == "{":
                yield from self._json(bare=bare)
                yield from self._rest_of_object()
                return
            if key in self._name_keys:
                name = yield from self._name()
                if early is not None:
                    self._output.start(name)
                    self._output.write("".join(early))
                    self._output.end()
                    yield from self._rest_of_object()
                    return
            elif key in self._argument_keys and name is not None:
                yield from self._arguments(self._output.write, name)
                self._output.end()
                yield from self._rest_of_object()
                return
            elif key in self._argument_keys:
                early = []
                yield from self._arguments(early.append)
            elif key == "description" or (bare and key not in _OTHER_KEYS):
                raise NotACall  # a declaration, or JSON about something else
            else:
                yield from LenientJson(self._text, discard, ends=self._ends).value()
        if name is None or bare:
            raise NotACall
        self._text.position += character == "}"
        self._output.start(name)
        self._output.write("{}")
        self._output.end()

    def _name(self) -> Reading[str]:
        """The string that names an offered function; one that broke off might have named another."""
        name = yield from self._lenient().string()
        last = self._text.text[self._text.position - 1 : self._text.position]
        broken = self._text.position == len(self._text.text) and last not in ('"', "'", ">")
        if name not in self._tools or broken:
            raise NotACall
        return name

    def _arguments(self, write: Callable[[str], None], name: str | None = None) -> Reading[None]:
        """An object, JSON text of one in a string, or nothing; starts the call `name` once that is sure."""
        character = yield from self._text.peek()
        if character == "{":
            if name is not None:
                self._output.start(name)
            yield from self._lenient(write).value()
            return
        pieces: list[str] = []
        if character and character in "\"'":
            pieces.append((yield from self._lenient().string()))
        else:
            yield from self._lenient(pieces.append).value()
        inner = "".join(pieces).strip()
        if inner in ("", "null", "[]"):
            inner = "{}"
        if not inner.startswith("{"):
            raise NotACall
        if name is not None:
            self._output.start(name)
        yield from LenientJson(ArrivingText(inner, ended=True), write).value()

    def _rest_of_object(self) -> Reading[None]:
        """After the arguments nothing matters but where the object ends."""
        start = self._text.position
        yield from self._text.skip(BLANK)
        character = yield from self._text.peek()
        if character == ",":
            yield from LenientJson(self._text, discard, ends=self._ends).rest_of_object()
        elif character == "}":
            self._text.position += 1
        else:
            self._text.position = start

    # name(…), name{…}, name[ARGS]{…} and DeepSeek's name with a fenced object

    def _named(self, *, bare: bool) -> Reading[None]:
        while not bare and (yield from self._text.literal(*_BEFORE_NAME)):
            pass
        name = yield from self._text.literal(*self._tools)
        if not name:
            raise NotACall
        if not bare:
            yield from self._text.skip(BLANK)
        found = yield from self._text.literal(*(("(",) if bare else (*_AFTER_NAME, *_FENCES)))
        if not found:
            raise NotACall
        if found.endswith("("):
            self._output.start(name)
            yield from self._lenient(self._output.write).arguments(self._positional(name))
            self._output.end()
            return
        if found == "[CALL_ID]":
            yield from self._text.until("[ARGS]")
        if found == "{":
            self._text.position -= 1
        else:
            yield from self._text.skip(BLANK)
            if (yield from self._text.literal(*_FENCES)):
                yield from self._text.skip(BLANK)
            if (yield from self._text.peek()) != "{":
                raise NotACall
        self._output.start(name)
        yield from self._lenient(self._output.write).value()
        self._output.end()

    def line(self) -> Reading[None]:
        """`name(…)` in plain text, alone on its line, with nothing in it that could be prose; known where that ends."""
        name = yield from self._text.literal(*self._tools)
        if not name or not (yield from self._text.literal("(")):
            raise NotACall
        pieces: list[str] = []
        arguments = self._lenient(pieces.append)
        whole = yield from arguments.arguments(self._positional(name))
        if not whole or not arguments.exact or not (yield from self._line_ends()):
            raise NotACall
        self._output.start(name)
        self._output.write("".join(pieces))
        self._output.end()

    def _line_ends(self) -> Reading[bool]:
        """Whether only blanks are left on this line, as far as it was written."""
        try:
            yield from self._text.skip(" \t\r")
            return (yield from self._text.peek()) in ("", "\n")
        except CutOff:
            return True

    def _positional(self, name: str) -> list[str]:
        """The names of arguments that are given without one."""
        return [*properties_of(self._tools[name])]

    # <function=name><parameter=key>value</parameter></function>

    def xml(self) -> Reading[None]:
        """What follows `<function=`."""
        name = yield from self._text.literal(*self._tools)
        if not name or not (yield from self._text.literal(">")):
            raise NotACall
        self._output.start(name)
        yield from self._text.skip(BLANK)
        if (yield from self._text.peek()) == "{":  # Llama 3.1 puts JSON between these tags
            yield from self._lenient(self._output.write, "</function>").value()
            self._output.end()
            yield from self._text.skip(BLANK)
            yield from self._text.literal("</function>")
            return
        written = "{"
        while (yield from self._text.literal("<parameter=")):
            key, _ = yield from self._text.until(">")
            value, end = yield from self._text.until(*_END_OF_PARAMETER)
            if end and end != "</parameter>":
                self._text.position -= len(end) - 1
            schema = properties_of(self._tools[name]).get(key)
            self._output.write(f"{written}{json.dumps(key)}: {as_json(_unpadded(value), schema)}")
            written = ", "
            yield from self._text.skip(BLANK)
        yield from self._text.at("</function>", *self._ends)  # what closes the call has come, or is missing
        self._output.write("{}" if written == "{" else "}")
        self._output.end()
        yield from self._text.literal("</function>")

    def _lenient(self, write: Callable[[str], None] | None = None, *more_ends: str) -> LenientJson:
        return LenientJson(self._text, write or discard, ends=(*self._ends, *more_ends))


def discard(_: str) -> None:
    """For what nobody is told."""


def properties_of(tool: Tool) -> Mapping[str, Any]:
    """The schemas of a function's arguments, by name."""
    properties = tool.parameters.get("properties")
    return properties if isinstance(properties, Mapping) else {}


def _unpadded(value: str) -> str:
    """Without the one newline that the model puts on each side."""
    return value.removeprefix("\n").removesuffix("\n")
