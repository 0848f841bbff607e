"""The Modelfile: the one side file that says how weights are to be used. Ollama's words, and four of our own.

    FROM ./weights.rkllm       a file beside it, a file inside the models folder, or another model's name
    SYSTEM text                TEMPLATE Jinja                LICENSE text (may repeat)
    MESSAGE user text          a turn that every conversation begins with (may repeat)
    ADAPTER ./lora.rkllm 0.8   a LoRA and its scale (may repeat)
    PARAMETER temperature 0.7  `stop` and `eos` may repeat

    RENDERER, PARSER, REQUIRES which code of Ollama's a model is for: taken, without effect here

A value is the rest of the line, or stands in quotes (`"`, or three of them); quoted ones may go over several lines.
Files made for rkllama, `KEY=VALUE` in the manner of dotenv, are understood as well.
"""

import codecs
import io
import math
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream

from rkllama_flask.catalog.model import Modelfile
from rkllama_flask.catalog.reading.names import is_encoder, parts_of
from rkllama_flask.catalog.reading.parameters import (
    WITHOUT_EFFECT,
    apply_parameters,
    convert,
    is_known,
    parameter_lines,
)
from rkllama_flask.errors import InvalidRequest

FILE_NAME = "Modelfile"
MAX_CHARACTERS = 1 << 20
MAX_STATEMENTS = 5000

_WORDS = ("FROM", "SYSTEM", "TEMPLATE", "PARAMETER", "ADAPTER", "MESSAGE", "LICENSE")
_WITHOUT_EFFECT = ("RENDERER", "PARSER", "REQUIRES")
_ROLES = ("system", "user", "assistant")
_THREE = '"""'
_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_GO_TEMPLATE = re.compile(r"\{\{-?\s*(?:\.[A-Za-z]|\$|(?:if|range|with|else|end|define|block)\b|\w+\s+[.$])")
_COMMAND = re.compile(r"[A-Z]{3,20}")
_KEY_VALUE = re.compile(r"[A-Z][A-Z0-9_]*\s*=")
_RKLLAMA_PARAMETERS = {"MAX_NEW_TOKENS": "num_predict", "ENABLE_THINKING": "think"} | {
    name.upper(): name
    for name in (
        *("num_ctx", "temperature", "top_k", "top_p", "repeat_penalty", "frequency_penalty", "presence_penalty"),
        *("mirostat", "mirostat_tau", "mirostat_eta"),
    )
}


class ModelfileInvalid(InvalidRequest):
    """The message says what is wrong, and in which line."""

    code = "invalid_modelfile"


@dataclass(frozen=True)
class Written:
    """What a Modelfile says: `source` stands behind FROM. Paths of adapters are as written, nothing is resolved.

    `unapplied` names what has no effect here.
    """

    source: str | None = None
    modelfile: Modelfile = field(default_factory=Modelfile)
    unapplied: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Statement:
    """`head` is the role of a MESSAGE, the name of a PARAMETER."""

    line: int
    word: str
    value: str
    head: str = ""


def decode(data: bytes) -> str:
    """The text of a Modelfile as it lies on disk: UTF-8, or UTF-16 as Windows' editors write it.

    A file without a mark begins with a letter of a word, or a blank: UTF-16 has a zero beside it. Raises
    ModelfileInvalid for another encoding: whatever it was taken for, letters would change.
    """
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), "utf-8")
    if encoding == "utf-8" and 0 in data[:2]:
        encoding = "utf-16-be" if data[0] == 0 else "utf-16-le"
    try:
        text = data.decode(encoding)
        if (zero := text.find("\0")) < 0:
            return text
        line = text.count("\n", 0, zero) + 1
        raise ModelfileInvalid(f"line {line}: it holds a zero byte, which no text has", param="modelfile")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ModelfileInvalid(
            f"line {line}: the Modelfile is not written in UTF-8. Save it as UTF-8", param="modelfile"
        ) from None


def parse(text: str, *, lenient: bool = False) -> Written:
    """Read a Modelfile. Raises ModelfileInvalid naming the line.

    A `lenient` reader passes over parameters and words with a value that are not known here, and names them: what was
    made for a newer Ollama stays of use. Words in small letters are none: there a text has lost its quotes.
    """
    if len(text) > MAX_CHARACTERS:
        raise ModelfileInvalid(f"the Modelfile is longer than {MAX_CHARACTERS} characters", param="modelfile")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    first = next((line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")), "")
    statements = _key_values(text) if _KEY_VALUE.match(first.lstrip()) else _statements(text, lenient=lenient)
    written = Written()
    for number, statement in enumerate(statements):
        if number >= MAX_STATEMENTS:
            raise ModelfileInvalid(f"the Modelfile says more than {MAX_STATEMENTS} things", param="modelfile")
        written = _apply(statement, written, lenient=lenient)
    return written


def compose(
    *,
    system: str | None = None,
    template: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    messages: Iterable[tuple[str, str]] = (),
    license: Iterable[str] = (),
    adapters: Iterable[tuple[Path, float]] = (),
) -> Modelfile:
    """What a client's fields say, checked as `parse` checks. Raises ModelfileInvalid naming the field."""
    place = "parameters"
    try:
        modelfile = apply_parameters(dict(convert(*item) for item in (parameters or {}).items()), Modelfile())
        place = "template"
        template = None if template is None else _checked_template(_plain(template))
        place = "messages"
        turns = tuple((_checked_role(role), _plain(text)) for role, text in messages)
    except ValueError as error:
        raise ModelfileInvalid(str(error), param=place) from None
    return replace(
        modelfile,
        system=None if system is None else _plain(system),
        template=template,
        messages=turns,
        license=tuple(_plain(text) for text in license),
        adapters=tuple(adapters),
    )


def inherit(base: Modelfile, changes: Modelfile) -> Modelfile:
    """`changes` where they say something, else `base`; parameters one by one."""
    return replace(
        apply_parameters({**base.parameters, **changes.parameters}, base),
        system=base.system if changes.system is None else changes.system,
        template=base.template if changes.template is None else changes.template,
        adapters=changes.adapters or base.adapters,
        messages=changes.messages or base.messages,
        license=changes.license or base.license,
    )


def render(source: str | None, modelfile: Modelfile) -> str:
    """The text that `parse` reads back as the same. Raises ModelfileInvalid for what no Modelfile can hold."""
    found: list[tuple[str, str]] = [] if source is None else [("FROM", source)]
    found += [("TEMPLATE", modelfile.template)] if modelfile.template is not None else []
    found += [("SYSTEM", modelfile.system)] if modelfile.system is not None else []
    found += [(f"PARAMETER {name}", _shown(value)) for name, value in parameter_lines(modelfile.parameters)]
    found += [("LICENSE", text) for text in modelfile.license]
    found += [(f"MESSAGE {role}", text) for role, text in modelfile.messages]
    lines = [f"{words} {_quoted(value)}" for words, value in found]
    lines += [f'ADAPTER "{path}" {scale:g}' for path, scale in modelfile.adapters]
    return "".join(f"{line}\n" for line in lines)


def _apply(statement: _Statement, written: Written, *, lenient: bool) -> Written:
    parameter = statement.head.lower()
    if statement.word not in _WORDS:
        return _named(statement.word, written)
    if statement.word == "PARAMETER" and (parameter in WITHOUT_EFFECT or (lenient and not is_known(parameter))):
        return _named(parameter, written)
    try:
        return _with(statement, written)
    except ValueError as error:
        raise ModelfileInvalid(f"line {statement.line}: {error}", param="modelfile") from None


def _named(what: str, written: Written) -> Written:
    return replace(written, unapplied=tuple(dict.fromkeys((*written.unapplied, what))))


def _with(statement: _Statement, written: Written) -> Written:
    modelfile, value = written.modelfile, statement.value
    if statement.word == "FROM":
        if not value:
            raise ValueError("FROM needs a file or a model")
        return _from(value, written)
    if statement.word == "SYSTEM":
        modelfile = replace(modelfile, system=value)
    elif statement.word == "TEMPLATE":
        modelfile = replace(modelfile, template=_checked_template(value))
    elif statement.word == "LICENSE":
        modelfile = replace(modelfile, license=(*modelfile.license, value))
    elif statement.word == "ADAPTER":
        modelfile = replace(modelfile, adapters=(*modelfile.adapters, _adapter(value)))
    elif statement.word == "MESSAGE":
        modelfile = replace(modelfile, messages=(*modelfile.messages, (_checked_role(statement.head), value)))
    else:
        name, new = convert(statement.head, value)
        if isinstance(new, list):
            new = [*modelfile.parameters.get(name, ()), *new]
        modelfile = apply_parameters({**modelfile.parameters, name: new}, modelfile)
    return replace(written, modelfile=modelfile)


def _from(value: str, written: Written) -> Written:
    """Files for models that see name two: the model, and the encoder of pictures, which is of no use here yet. Files of
    one split model may be named one by one.
    """
    if written.source is None:
        return replace(written, source=value)
    if is_encoder(written.source) or is_encoder(value):
        return _named("FROM", replace(written, source=value) if is_encoder(written.source) else written)
    first, other = (posixpath.splitext(parts_of(file)[0])[0] for file in (written.source, value))
    if first != other:
        raise ValueError(f"a second FROM, {value[:80]}: a model has one")
    return written


def _statements(text: str, *, lenient: bool = False) -> Iterator[_Statement]:
    """Ollama's syntax: a word, for some a second one, and a value that may be quoted."""
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        start, at = at, at + 1
        written, value = _split(lines[start])
        word, head = written.upper(), ""
        if not word or word.startswith("#"):
            continue
        if word not in (*_WORDS, *_WITHOUT_EFFECT) and not (lenient and value and _COMMAND.fullmatch(written)):
            raise ModelfileInvalid(f"line {at}: '{word[:40]}' is none of {', '.join(_WORDS)}", param="modelfile")
        if word in ("MESSAGE", "PARAMETER"):
            head, value = _split(value)
        unquoted = value if word == "ADAPTER" else _unquoted(value)
        if unquoted is None:
            quote = _THREE if value.lstrip().startswith(_THREE) else '"'
            end = next((end for end in range(at, len(lines)) if lines[end].rstrip().endswith(quote)), None)
            if end is None:
                raise ModelfileInvalid(f"line {start + 1}: the quote is never closed", param="modelfile")
            unquoted = _unquoted("\n".join((value, *lines[at : end + 1])))
            assert unquoted is not None
            at = end + 1
        yield _Statement(start + 1, word, unquoted, head)


def _split(line: str) -> tuple[str, str]:
    """The first word, and the rest with the blanks at its end."""
    words = line.split(None, 1)
    return (words[0] if words else "", words[1] if len(words) > 1 else "")


def _unquoted(value: str) -> str | None:
    """A value without its quotes; None while the quote is open."""
    value = value.strip()
    for quote in (_THREE, '"'):
        if value.startswith(quote):
            closed = value.endswith(quote) and len(value) >= 2 * len(quote)
            return value[len(quote) : -len(quote)] if closed else None
    return value


def _quoted(value: str) -> str:
    if value and value == value.strip() and "\n" not in value and not value.startswith('"'):
        return value
    quoted = f"{_THREE}{value}{_THREE}"
    read = list(_statements(f"SYSTEM {quoted}"))
    if [statement.value for statement in read] != [value]:
        raise ModelfileInvalid("a Modelfile can't hold three quotes at the end of a line", param="modelfile")
    return quoted


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _key_values(text: str) -> Iterator[_Statement]:
    """rkllama's syntax. What it says about tokenizers and pictures has no counterpart here and is passed over."""
    for binding in parse_stream(io.StringIO(text)):
        line, name, value = binding.original.line, binding.key, binding.value
        if binding.error:
            raise ModelfileInvalid(f"line {line}: not of the form KEY=VALUE", param="modelfile")
        if not name or not value:
            continue
        if name in ("FROM", "SYSTEM", "TEMPLATE", "LICENSE"):
            yield _Statement(line, name, value)
        elif name in _RKLLAMA_PARAMETERS:
            yield _Statement(line, "PARAMETER", value, _RKLLAMA_PARAMETERS[name])


def _adapter(value: str) -> tuple[Path, float]:
    """A path, quoted if it ends in a number, and a scale."""
    path, _, last = value.strip().rpartition(" ")
    try:
        scale = float(last) if path and not last.endswith('"') else None
    except ValueError:
        scale = None
    path = (value.strip() if scale is None else path.strip()).removeprefix('"').removesuffix('"')
    if scale is not None and not math.isfinite(scale):
        raise ValueError("an adapter's scale must be a number")
    if not path:
        raise ValueError("ADAPTER needs a file")
    return Path(path), 1.0 if scale is None else scale


def _checked_template(template: str) -> str:
    if _GO_TEMPLATE.search(template):
        raise ValueError(
            "this template is written in Go's template language, as Ollama's are; here templates are Jinja. "
            "Leave TEMPLATE out to use the model's own, or take chat_template from its tokenizer_config.json"
        )
    return template


def _checked_role(role: str) -> str:
    if role not in _ROLES:
        raise ValueError(f"a message's role must be one of {', '.join(_ROLES)}, not '{role[:40]}'")
    return role


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n")
