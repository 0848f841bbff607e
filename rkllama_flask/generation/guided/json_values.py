"""Single values of a JSON answer: what the model says, cut, brought to what the schema allows, and checked."""

import json
import math
from collections.abc import Callable, Generator, Sequence

import regex

from rkllama_flask.errors import AnswerUnfit
from rkllama_flask.generation.guided.bounded_validation import TooMuchWork
from rkllama_flask.generation.guided.free_slot import FreeSlot, only_beginning
from rkllama_flask.generation.guided.json_formats import MOST_DAYS, PARTS, Digits, format_problem, highest_day
from rkllama_flask.generation.guided.json_patterns import PatternText
from rkllama_flask.generation.guided.json_schema import SchemaChecker
from rkllama_flask.generation.guided.json_shapes import Free, Number, String
from rkllama_flask.generation.guided.slots import ChoiceSlot, DigitsSlot, NumberSlot, Slot, StringSlot
from rkllama_flask.generation.guided.written import Written

ATTEMPTS = 3
"""How often the model is asked for a value that has to be more than of its type."""

MOST_CHOICES = 32
"""Whole numbers from a lowest to a highest that are a choice like those of an enum: grades, months, hours."""

MOST_CUT = 64
"""Characters of a text whose beginnings are tried."""

Script = Generator[Slot, None, None]
"""What writes an answer: it yields each slot, and is resumed when the model has filled it."""


class ValueFilling:
    """Writes values without brackets, and those that the model writes alone.

    `lead` is the blank before a value, which the model may write itself; `path` says in errors where it is. Raises
    AnswerUnfit where the model can't be brought to a valid one.
    """

    def __init__(self, checker: SchemaChecker, written: Written) -> None:
        self._checker = checker
        self._written = written

    def options(self, texts: Sequence[str], lead: str, path: str) -> Script:
        if not texts:
            raise AnswerUnfit(f"The schema allows no value at {path}.")
        if len(texts) == 1:
            self._written.fix(lead + texts[0])
            return
        quoted = all(text.startswith('"') for text in texts)
        slot = ChoiceSlot([text[1:-1] for text in texts] if quoted else texts, quoted=quoted)
        if quoted:
            self._written.fix(lead + '"')
            yield slot
            self._written.say(texts[slot.chosen][1:], ahead=slot.ahead)
        else:
            self._written.fix(lead.rstrip())
            yield slot
            self._written.say(blank(lead) + texts[slot.chosen], ahead=slot.ahead)

    def string(self, string: String, lead: str, path: str) -> Script:
        self._written.fix(lead + '"')
        if not string.checked:
            slot = StringSlot(self._written.say, max_length=string.max_length)
            yield slot
            self._written.say('"', ahead=slot.ahead)
            return
        nearest: str | None = None
        for attempt in range(ATTEMPTS):
            pieces: list[str] = []
            slot = StringSlot(pieces.append, max_length=string.max_length, min_length=string.min_length)
            slot.again = attempt > 0
            yield slot
            said = json.loads('"' + "".join(pieces) + '"')
            text = self._fitting(said, string)
            if nearest is None and not self._checker.strict:
                nearest = said if said and self._checker.problem(said, string.part, loose=True) is None else None
            if text is not None:
                self._written.say(json.dumps(text, ensure_ascii=False)[1:], ahead=slot.ahead)
                return
            if string.format in PARTS and (yield from self._by_parts(string)):
                return
            if string.pattern and (yield from self._by_pattern(string, said)):
                return
        if nearest is not None:
            self._checker.missed.append(path)
            self._written.say(json.dumps(nearest, ensure_ascii=False)[1:])
            return
        raise AnswerUnfit(f"The model found no text for {path} that is what the schema asks for.")

    def _by_pattern(self, string: String, said: str) -> Generator[Slot, None, bool]:
        """Write a text by its pattern, of which the model is asked for what can still come; whether it does."""
        text = PatternText(string.pattern or "", shortest=string.min_length, longest=string.max_length)
        place = self._written.hold()
        try:
            text.add(said)
            for _ in range(ATTEMPTS):
                if not text.text or text.whole:
                    break
                self._written.drop(place)
                place = self._written.hold()
                self._written.say(json.dumps(text.text, ensure_ascii=False)[1:-1])
                pieces: list[str] = []
                yield StringSlot(pieces.append, max_length=MOST_CUT)
                text.add(json.loads('"' + "".join(pieces) + '"').removeprefix(text.text))
            text.complete()
        except (TooMuchWork, regex.error):
            pass
        self._written.drop(place)
        if format_problem(string.format, text.text) or self._checker.problem(text.text, string.part):
            return False
        self._written.say(json.dumps(text.text, ensure_ascii=False)[1:])
        return True

    def _by_parts(self, string: String) -> Generator[Slot, None, bool]:
        """Write a date or a time of which the model says only the numbers; whether that has been possible."""
        place = self._written.hold()
        parts, end = PARTS[string.format or ""]
        for part in parts:
            self._written.fix(part.before)
            digits = yield from self._digits(part, self._written.since(place))
            if digits is None:
                break
            self._written.say(digits)
        self._written.fix(end)
        text = self._written.since(place)
        if format_problem(string.format, text) or self._checker.problem(text, string.part):
            self._written.drop(place)
            return False
        self._written.fix('"')
        self._written.release()
        return True

    def _digits(self, part: Digits, before: str) -> Generator[Slot, None, str | None]:
        """The digits of one part, behind the others; where it is no year the lowest, if the model says none."""
        highest = highest_day(before) if part.highest == MOST_DAYS else part.highest
        for attempt in range(ATTEMPTS):
            slot = DigitsSlot(part.number, part.lowest, highest)
            slot.again = attempt > 0
            yield slot
            if slot.digits is not None:
                return slot.digits
        return None if part.number > 2 else f"{part.lowest:02}"

    def _fitting(self, text: str, string: String) -> str | None:
        """The text, else the longest beginning of it that will do; None if none will."""
        candidates = (text, text.strip(), *(text[:end] for end in range(min(len(text), MOST_CUT), 0, -1)))
        for index, candidate in enumerate(candidates):
            if format_problem(string.format, candidate) is not None:
                continue
            if self._checker.problem(candidate, string.part, go_on=index > 0) is None:
                return candidate
        return None

    def number(self, number: Number, lead: str, path: str) -> Script:
        self._written.fix(lead.rstrip())
        said: int | float | None = number.lowest if _is_choice(number) else None
        for attempt in range(ATTEMPTS):
            last = attempt == ATTEMPTS - 1
            if last and said is None:
                slot = yield from self._begun_number(lead)
            else:
                slot = NumberSlot()
                slot.again = attempt > 0
                yield slot
            said = said if slot.value is None else slot.value
            value = None if said is None else self._nearest(said, number)
            if value is None or (value != slot.value and not last):
                continue
            if self._checker.problem(value, number.part) is None:
                self._written.say(blank(lead) + json.dumps(value), ahead=slot.ahead)
                return
        raise AnswerUnfit(f"The model found no number for {path} that is what the schema asks for.")

    def _nearest(self, said: int | float, number: Number) -> int | float:
        """The number itself if it is valid, else the nearest that may be."""
        whole = isinstance(said, int) or not number.integer
        return said if whole and self._checker.problem(said, number.part) is None else _within(said, number)

    def _begun_number(self, lead: str) -> Generator[Slot, None, NumberSlot]:
        """Ask for a number whose first digit is there, as long as the model goes on behind it as behind a number."""
        place = self._written.hold()
        self._written.say(blank(lead) + "1")
        slot = NumberSlot(begun="1")
        slot.again = True
        yield slot
        self._written.drop(place)
        if slot.ahead and slot.ahead.lstrip()[:1] not in ",]}":
            slot.value = None
        return slot

    def free(self, free: Free, lead: str, path: str) -> Script:
        begun = only_beginning(free.kinds)
        self._written.fix(lead + begun if begun else lead.rstrip())
        if free.any_will_do:
            slot = FreeSlot(_without(begun, self._written.say), free.kinds, begun=begun)
            yield slot
            self._written.ahead = slot.ahead
            return
        problem: str | None = ""
        for attempt in range(ATTEMPTS):
            problem = yield from self.whole(free, begun, lead, again=attempt > 0)
            if problem is None:
                return
        raise AnswerUnfit(f"The model's answer is not what the schema asks for at {path}: {problem}")

    def whole(self, free: Free, begun: str, lead: str, *, again: bool = False) -> Generator[Slot, None, str | None]:
        """Write a value that the model says in one, if it is valid; else why it is not."""
        pieces: list[str] = []
        slot = FreeSlot(pieces.append, free.kinds, begun=begun)
        slot.again = again
        yield slot
        text = "".join(pieces)
        problem = self._checker.problem(json.loads(text), free.part) if text else "It holds no JSON value."
        if problem is None:
            self._written.say(text[1:] if begun else blank(lead) + text, ahead=slot.ahead)
        return problem


def _without(begun: str, write: Callable[[str], None]) -> Callable[[str], None]:
    """`write` for a text whose beginning has been written already."""
    left = len(begun)

    def rest(piece: str) -> None:
        nonlocal left
        skipped = min(left, len(piece))
        left -= skipped
        write(piece[skipped:])

    return rest


def _is_choice(number: Number) -> bool:
    """Whether it is one of a few, so that like an enum it has an answer in any case."""
    return number.integer and number.highest - number.lowest < MOST_CHOICES


def _within(value: int | float, number: Number) -> int | float:
    """The nearest value within the bounds, and of the right step."""
    found = min(max(value, number.lowest), number.highest)
    if number.step and math.isfinite(found / number.step):
        found = round(found / number.step) * number.step
        if found < number.lowest:
            found += number.step
        elif found > number.highest:
            found -= number.step
        found = round(found, 12) if isinstance(found, float) else found
    return int(found) if number.integer and math.isfinite(found) else found


def blank(lead: str) -> str:
    """The blanks at its end."""
    return lead[len(lead.rstrip()) :]
