"""Reads the calls of a turn that is written in a found form."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from rkllama_flask.generation.output.arriving import ArrivingText, CutOff, Reading
from rkllama_flask.generation.output.lenient_json import BLANK, LenientJson
from rkllama_flask.generation.output.tool_dialects.calls import CallOutput, CallReader, NotACall, discard, properties_of
from rkllama_flask.generation.output.tool_dialects.values import as_json, is_value, may_be_text
from rkllama_flask.generation.output.turn_form import CallForm, Marks, NamedCall, ObjectCall, PythonCall, TaggedCall
from rkllama_flask.generation.request import Tool
from rkllama_flask.text.marks import first_mark, pieces

_LONGEST_ID = 128
"""Characters of an id that a model makes up between a name and its arguments."""


def opener_of(form: CallForm) -> str | None:
    """What to look for in a running text; None where calls begin with nothing but a bracket."""
    words = form.begin.split()
    return words[0] if words and words[0].strip("[{(") else None


class FormReader:
    """Reads calls of offered functions from `text`, from where `opener_of` stands; `begins` is told each one's place.

    Raises NotACall where none begins, CutOff where the text was cut within one.
    """

    def __init__(
        self,
        form: CallForm,
        text: ArrivingText,
        tools: Sequence[Tool],
        output: CallOutput,
        *,
        begins: Callable[[int], None],
    ) -> None:
        self._begins = begins
        self._form = form
        self._text = text
        self._tools = {tool.name: tool for tool in tools}
        self._output = output
        self._ends = tuple({mark for part in (form.between or "", form.end) if len(mark := first_mark(part)) > 1})

    def calls(self, *, only_one: bool, opened: bool = False) -> Reading[None]:
        """All calls that stand here, and what ends them. `opened`: what begins them stands in the prompt."""
        if not (yield from self._flex(self._form.begin)) and not opened:
            raise NotACall
        yield from self._call()
        while not only_one and (yield from self._another()):
            pass
        for piece in pieces(self._form.end):
            yield from self._text.skip(BLANK)
            if not (yield from self._text.literal(piece)):
                return

    def _another(self) -> Reading[bool]:
        """Read one more call, if one follows."""
        start = self._text.position
        self._begins(start)
        for before in (self._form.between, self._form.end + self._form.begin, self._form.begin):
            if before is None:
                continue
            try:
                if (yield from self._flex(before)):
                    yield from self._call()
                    return True
            except NotACall:
                pass
            self._text.position = start
        return False

    def _call(self) -> Reading[None]:
        match self._form.call:
            case ObjectCall() as call:
                yield from self._object(call)
            case NamedCall() as call:
                yield from self._named(call)
            case TaggedCall() as call:
                yield from self._tagged(call)
            case PythonCall():
                yield from self._python()

    def _object(self, call: ObjectCall) -> Reading[None]:
        yield from self._text.skip(BLANK)
        if (yield from self._text.peek()) != "{":
            raise NotACall
        if call.name is None:
            yield from self._keyed()
            return
        reader = CallReader(
            self._text,
            self._tools.values(),
            self._output,
            ends=self._ends,
            names=(call.name,),
            arguments=(call.arguments or "",),
        )
        yield from reader.call()

    def _keyed(self) -> Reading[None]:
        """The function's name as the only member."""
        text = self._text
        text.position += 1
        yield from text.skip(BLANK)
        name = yield from LenientJson(text, discard).key()
        yield from text.skip(BLANK)
        if name not in self._tools or not (yield from text.literal(":")):
            raise NotACall
        yield from self._arguments(name)
        yield from text.skip(BLANK)
        yield from text.literal("}")

    def _named(self, call: NamedCall) -> Reading[None]:
        name = yield from self._name()
        for index, piece in enumerate(call.after_name):
            if index:
                mark = first_mark(piece)
                start = self._text.position
                yield from self._text.until(mark)
                if self._text.position - start > _LONGEST_ID + len(mark):
                    raise NotACall
                self._text.position -= len(mark)
            if not (yield from self._flex(piece)):
                raise NotACall
        yield from self._arguments(name)

    def _name(self) -> Reading[str]:
        yield from self._text.skip(BLANK)
        name = yield from self._text.literal(*self._tools)
        if not name:
            raise NotACall
        return name

    def _arguments(self, name: str) -> Reading[None]:
        yield from self._text.skip(BLANK)
        if (yield from self._text.peek()) != "{":
            raise NotACall
        self._output.start(name)
        yield from LenientJson(self._text, self._output.write, ends=self._ends).value()
        self._output.end()

    def _python(self) -> Reading[None]:
        name = yield from self._name()
        if not (yield from self._text.literal("(")):
            raise NotACall
        self._output.start(name)
        positional = [*properties_of(self._tools[name])]
        yield from LenientJson(self._text, self._output.write, ends=self._ends).arguments(positional)
        self._output.end()

    # Arguments between marks

    def _tagged(self, call: TaggedCall) -> Reading[None]:
        name = yield from self._name()
        start = self._text.position
        if not (yield from self._flex(call.after_name + call.key)):
            self._text.position = start
            if not (yield from self._alone(call)):
                raise NotACall
            self._output.start(name)
            self._output.write("{}")
            self._output.end()
            return
        self._output.start(name)
        written = "{"
        while True:
            key, value = yield from self._argument(call, self._tools[name])
            self._output.write(f"{written}{json.dumps(key, ensure_ascii=False)}: {value}")
            written = ", "
            if not (yield from self._flex(call.between + call.key)):
                break
        self._output.write("}")
        self._output.end()

    def _alone(self, call: TaggedCall) -> Reading[bool]:
        """Whether the name stands for a call without arguments."""
        yield from self._flex(call.alone)
        start = self._text.position
        for behind in (self._form.between, self._form.end):
            if behind and (yield from self._flex(first_mark(behind))):
                self._text.position = start
                return True
        return (yield from self._text.peek()) == ""

    def _argument(self, call: TaggedCall, tool: Tool) -> Reading[tuple[str, str]]:
        key = yield from self._key(call)
        schema = {} if call.quote else properties_of(tool).get(key)
        value, is_text = "", call.plain_separator is not None
        for separator in (call.separator, call.plain_separator):
            if separator is not None and (yield from self._flex(separator)):
                if call.plain_separator is not None:
                    schema = {"type": "string" if is_text else "object"}
                value = (yield from self._value(call, schema)).removeprefix(_pad(separator))
                break
            is_text = False
        else:
            raise NotACall
        if is_text or (value and call.plain_separator is not None):
            return key, json.dumps(value, ensure_ascii=False) if is_text else as_json(value, None)
        for around in (Marks(call.quote, call.quote), call.shield):
            if around and around.open and (inner := _inside(value, around)) is not None:
                return key, json.dumps(inner, ensure_ascii=False)
        return key, as_json(value, schema or None)

    def _key(self, call: TaggedCall) -> Reading[str]:
        marks = {pieces(separator)[0] for separator in (call.separator, call.plain_separator) if separator}
        key, found = yield from self._text.until(*marks)
        self._text.position -= len(found)
        return key

    def _value(self, call: TaggedCall, schema: Any) -> Reading[str]:
        """The text up to the mark that ends a value: one that is followed by what can follow a value.

        Of values that are no texts it is the first one that leaves JSON, or what Python writes, before it.
        """
        text = self._text
        mark, pad = call.close.strip(), call.close[: len(call.close) - len(call.close.lstrip())]
        first: tuple[int, str] | None = None
        value = ""
        while True:
            more, found = yield from text.until(mark)
            value += more
            if not found:
                break
            end = text.position
            whole = value.removesuffix(pad)
            first = first or (end, whole)
            follows = yield from self._follows(call)
            text.position = end
            if follows and (may_be_text(schema) or is_value(whole.strip())):
                return whole
            value += mark
        if first is None:
            return value
        text.position, value = first
        return value

    def _follows(self, call: TaggedCall) -> Reading[bool]:
        start = self._text.position
        for behind in (call.between + call.key, self._form.between):
            if behind and behind.strip() and (yield from self._flex(behind)):
                return True
            self._text.position = start
        closed = False
        try:
            for piece in pieces(self._form.end):
                yield from self._text.skip(BLANK)
                if not (yield from self._text.literal(piece)):
                    return (yield from self._text.peek()) == ""
                closed = True
        except CutOff:
            if not closed:  # else the call was whole, and what stands around all calls was cut
                raise
        return True

    def _flex(self, literal: str) -> Reading[bool]:
        """Take this text, whatever white space stands where it has some or might have; nothing where it isn't there."""
        start = self._text.position
        for piece in literal.split():
            yield from self._text.skip(BLANK)
            if not (yield from self._text.literal(piece)):
                self._text.position = start
                return False
        return True


def _pad(separator: str) -> str:
    """The white space that a separator ends with."""
    return separator[len(separator.rstrip()) :]


def _inside(value: str, around: Marks) -> str | None:
    if len(value) < len(around.open) + len(around.close):
        return None
    if not (value.startswith(around.open) and value.endswith(around.close)):
        return None
    return value[len(around.open) : len(value) - len(around.close)]
