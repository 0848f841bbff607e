"""How a model writes its turns: a value that a finder fills in, a reader reads by and a writer writes by.

Texts are as the template writes them, white space included; a reader is lenient about white space, in which models and
templates differ.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Marks:
    """What stands before and behind a part of a turn. Either may be empty."""

    open: str
    close: str


ID, INDEX = "\x00", "\x01"
"""In what is written: an id that is made up, and how many calls of the turn stand before this one."""


@dataclass(frozen=True)
class Around:
    """What a template writes around a function's name and its arguments in JSON: before, between and behind the two."""

    before: str
    between: str
    behind: str


@dataclass(frozen=True)
class ObjectCall:
    """A call is one JSON object.

    `name` and `arguments` are the members that hold them; `name` None: the function's name is the only member, and its
    value the arguments. `inside` is the member that holds the object of both, None where that is the call itself.
    `around` is None where the arguments come first, or as text.
    """

    name: str | None
    arguments: str | None
    inside: str | None = None
    around: Around | None = None


@dataclass(frozen=True)
class NamedCall:
    """The function's name, then its arguments as one JSON object.

    `after_name` are the texts between the two; between two of these texts stands an id that the model makes up.
    """

    after_name: tuple[str, ...]
    around: Around | None = None


@dataclass(frozen=True)
class TaggedCall:
    """The function's name, then each argument between marks.

    `after_name` stands behind the name, `key` before an argument's name, `separator` before its value, `close` behind
    it, and `between` before the next one. Texts stand as they are, others as JSON or as Python writes them; `quote` is
    empty, or what stands around texts and around nothing else, and `shield` is around texts that hold markup, such as
    CDATA. `plain_separator` stands before values that are no texts, where it is another one. `python_words`: True and
    None, not true and null; `python_brackets`: lists and mappings as Python writes them. `alone` stands behind the name
    where nothing follows.
    """

    after_name: str
    key: str
    separator: str
    close: str
    between: str
    alone: str
    quote: str = ""
    shield: Marks | None = None
    plain_separator: str | None = None
    python_words: bool = False
    python_brackets: bool = False


@dataclass(frozen=True)
class PythonCall:
    """A call as Python writes it, with named arguments."""


@dataclass(frozen=True)
class CallForm:
    """How calls stand in a turn: `begin`, a call, `between`, another call, `end`.

    `between` is None where the template writes one call in a turn. `opened`: the prompt ends with `begin`, so that an
    answer may begin with a call itself.
    """

    begin: str
    call: ObjectCall | NamedCall | TaggedCall | PythonCall
    between: str | None
    end: str
    opened: bool = False


@dataclass(frozen=True)
class TurnForm:
    """How a turn is written. A part is None where the template does not write it, or writes it as nobody can tell.

    `in_channels`: in the channels of gpt-oss, which are read by name.
    """

    calls: CallForm | None = None
    reasoning: Marks | None = None
    content: Marks | None = None
    in_channels: bool = False
