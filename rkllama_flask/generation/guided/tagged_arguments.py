"""The arguments of a call between marks, written together with the model as its template writes them."""

import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from rkllama_flask.generation.guided.json_filling import JsonFilling, next_member
from rkllama_flask.generation.guided.json_schema import SchemaChecker
from rkllama_flask.generation.guided.json_shapes import Member, Object, Shapes, String
from rkllama_flask.generation.guided.json_values import Script
from rkllama_flask.generation.guided.repetition import RepeatingText
from rkllama_flask.generation.guided.slots import Slot
from rkllama_flask.generation.guided.written import Written
from rkllama_flask.generation.output.turn_form import CallForm, PythonCall, TaggedCall

_PYTHON = TaggedCall("(", "", "=", "", ", ", "()", quote='"')
"""Python's call, as arguments between marks; `)` closes it."""


class BareTextSlot(Slot):
    """A text that stands as it is, up to `mark`. It is cut where it only repeats itself."""

    open_ended = True

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._text = ""
        self.text = ""
        self._repeating = RepeatingText()

    def feed(self, text: str) -> None:
        self._text += text
        before, found, behind = self._text.partition(self._mark)
        if found:
            self._close(before, found + behind)
        elif any(self._repeating.add(character) for character in text):
            self._close(self._text, "")

    def cut_by(self, _: str, /) -> bool:
        return True

    def end(self) -> None:
        if not self.done:
            self._close(self._text, "")

    def _close(self, text: str, ahead: str) -> None:
        self.text, self.ahead, self.done = text.strip("\n"), ahead, True


@dataclass(frozen=True)
class TaggedArguments:
    """Writes the arguments that a schema allows. `end` is what stands behind a call: the model may say it early."""

    form: TaggedCall
    written: Written
    end: str

    @classmethod
    def of(cls, form: CallForm, written: Written) -> "TaggedArguments | None":
        """For calls in this form; None where their arguments are one JSON object."""
        if isinstance(form.call, PythonCall):
            return cls(_PYTHON, written, ")")
        return cls(form.call, written, form.end) if isinstance(form.call, TaggedCall) else None

    def script(self, checker: SchemaChecker, schema: dict[str, Any]) -> Script:
        """The arguments, behind the function's name."""
        filling, shapes = JsonFilling(checker, self.written), Shapes(checker)
        shape = shapes.of(schema)
        members = shape.members if isinstance(shape, Object) else ()
        written = place = 0
        while (found := (yield from self._next(members, place, first=not written))) is not None:
            place = found
            before = self.form.between if written else self.form.after_name
            separator = self._separator(shapes, members[place])
            self.written.fix(f"{before}{self.form.key}{members[place].key}{separator}", trusted=True)
            yield from self._value(filling, shapes, members[place])
            self.written.fix(self.form.close, trusted=True)
            place, written = place + 1, written + 1
        if self.form is _PYTHON:
            self.written.fix(")" if written else "()")
        elif not written:
            self.written.fix(self.form.alone, trusted=True)

    def _next(self, members: Sequence[Member], place: int, *, first: bool) -> Generator[Slot, None, int | None]:
        """The index of the argument that is written next, None for no more."""
        before = (self.form.after_name if first else self.form.between) + self.form.key
        end = (self.form.alone if first else "") + self.end

        def begun(key: str) -> str:
            return before + key + self.form.separator

        return (yield from next_member(self.written, members, place, begun, end))

    def _separator(self, shapes: Shapes, member: Member) -> str:
        plain = self.form.plain_separator
        return self.form.separator if plain is None or shapes.beginnings(member.part) <= {'"'} else plain

    def _value(self, filling: JsonFilling, shapes: Shapes, member: Member) -> Script:
        shape = shapes.of(member.part)
        mark = self.form.close.strip()
        if isinstance(shape, String) and not shape.checked and shape.max_length is None and mark:
            slot = BareTextSlot(mark)
            yield slot
            text = slot.text
            if (shield := self.form.shield) and text.startswith(shield.open):
                text = text.removeprefix(shield.open).removesuffix(shield.close)
            self.written.say(self._raw(text), ahead=slot.ahead)
            return
        place = self.written.hold()  # written as JSON, which the slots check, and then as the template would
        yield from filling.value(member.part, "", f"$.{member.key}", 1)
        value = json.loads(self.written.since(place))
        self.written.drop(place)
        self.written.say(self._raw(value))

    def _raw(self, value: Any) -> str:
        """The value as the template writes it."""
        form = self.form
        if isinstance(value, str):
            if form.shield and any(character in value for character in "<&\n"):
                return form.shield.open + value + form.shield.close
            return json.dumps(value, ensure_ascii=False) if form is _PYTHON else form.quote + value + form.quote
        as_python = form.python_brackets if isinstance(value, list | dict) else form.python_words
        return str(value) if as_python else json.dumps(value, ensure_ascii=False)
