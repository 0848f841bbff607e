"""Prompts as token ids: exactly the model's own cuts, and no special token that the template did not write."""

import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # one text at a time; its threads would warn about forks

import tokenizers

from rkllama_flask.catalog.model import Model
from rkllama_flask.catalog.reading.gguf import GgufUnreadable, read_metadata
from rkllama_flask.catalog.reading.side_files import named_templates
from rkllama_flask.errors import InvalidRequest, ModelUnusable
from rkllama_flask.generation.prompt.gguf_tokenizer import build_tokenizer
from rkllama_flask.generation.prompt.segments import Prompt, Segment
from rkllama_flask.generation.prompt.special_text import is_markup, neutralise, without_half_characters
from rkllama_flask.native_threads import call_natively

__all__ = ["Tokenizer", "neutralise"]

LONG = 20_000
"""Characters from which on a text, or several together, are cut on a thread of their own: a megabyte takes a good part
of a second."""

KEPT = 4
"""Tokenizers that are kept: one is some 50 MB."""

_NONCE = secrets.token_hex(8)


class Tokenizer:
    """One model's tokenizer.

    The library looks for special tokens in all of a text. So it is told to find none, and each special string in
    trusted text is replaced by an alias that no client can know, a token added beside the vocabulary; its id is
    changed to the real one afterwards. The text stays in one piece, which keeps the cuts at segment borders as the
    model learned them.
    """

    def __init__(
        self, library: tokenizers.Tokenizer, *, bos: int | None, adds_bos: bool, ending: tuple[int, ...] = ()
    ) -> None:
        """`ending` is what the model's authors put after a text that stands alone, as those to be embedded do."""
        self.ending = ending
        self._size = max(library.get_vocab().values(), default=-1) + 1  # ids may have gaps
        self._library = library
        self._bos = bos if adds_bos else None
        special = {id_: token for id_, token in library.get_added_tokens_decoder().items() if token.special}
        self.special_strings = tuple(token.content for token in special.values())
        self._aliases = {
            token.content: f"\U0010fffd{_NONCE}{number:x}\U0010fffd" for number, token in enumerate(special.values())
        }
        library.encode_special_tokens = True
        library.add_tokens([_renamed(token, self._aliases[token.content]) for token in special.values()])
        self._ids = {library.token_to_id(self._aliases[token.content]): id_ for id_, token in special.items()}
        longest_first = sorted(self._aliases, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    @classmethod
    def for_model(cls, model: Model) -> "Tokenizer | None":
        """From `tokenizer.json` beside the model, else from GGUF metadata; None where neither tells enough.

        Reading takes up to seconds the first time. Raises ModelUnusable for a `tokenizer.json` that can't be read.
        """
        if model.tokenizer_path is not None:
            try:
                facts = model.tokenizer_path.stat()
                return _from_json(model.tokenizer_path, facts.st_mtime_ns, facts.st_size)
            except Exception as error:
                raise ModelUnusable(f"The tokenizer.json of {model.name} can't be read: {error}") from error
        if model.format == "gguf":
            return _from_gguf(model.path, model.identity)
        return None

    def encode(self, prompt: Prompt | str, *, add_bos: bool = True) -> list[int]:
        """The ids of a prompt; special tokens only from trusted segments, so never from a plain string.

        A model that wants a token at the beginning of every text gets exactly one, also where the template wrote it.
        """
        segments = (Segment(prompt, trusted=False),) if isinstance(prompt, str) else prompt.segments
        text, trusted = [], ""
        for segment in segments:
            if segment.trusted:
                trusted += segment.text  # neighbours are joined: a special string may begin in one, end in the next
                continue
            text += [self._aliased(trusted), segment.text]
            trusted = ""
        whole = without_half_characters("".join((*text, self._aliased(trusted))))
        encoded = self._encoded(whole)
        ids = [self._ids.get(id_, id_) for id_ in encoded.ids]
        if self._bos is None or not add_bos:
            return ids
        written = 0
        while written < len(ids) and ids[written] == self._bos:
            written += 1
        return [self._bos, *ids[written:]]

    def _encoded(self, text: str) -> Any:
        if len(text) < LONG:
            return self._library.encode(text, add_special_tokens=False)
        # `encode` keeps Python's lock all the while, this does not.
        return call_natively(lambda: self._library.encode_batch_fast([text], add_special_tokens=False)[0])

    def split(self, prompt: Prompt) -> tuple[Prompt, Prompt]:
        """The prompt up to the end of its last special token, and what stands behind; nothing where it has none."""
        for place in range(len(prompt.segments) - 1, -1, -1):
            text, trusted = prompt.segments[place]
            found = [match.end() for match in self._special.finditer(text)] if trusted else []
            if found:
                before = (*prompt.segments[:place], Segment(text[: found[-1]], trusted=True))
                behind = (Segment(text[found[-1] :], trusted=True), *prompt.segments[place + 1 :])
                return Prompt(before), Prompt(behind)
        return Prompt(()), prompt

    def as_text(self, prompt: Prompt) -> str:
        """The prompt for a runtime that cuts it itself: nothing in untrusted text is special, and the token that the
        runtime puts at the beginning of every text is left out, so that it does not stand there twice.
        """
        text = neutralise(prompt, self.special_strings)
        beginning = "" if self._bos is None else self.decode([self._bos])
        while beginning and text.startswith(beginning):
            text = text.removeprefix(beginning)
        return text

    def decode(self, ids: Sequence[int]) -> str:
        """The text of these tokens, special ones too."""
        return str(self._library.decode(list(ids), skip_special_tokens=False))

    def special_id(self, text: str) -> int | None:
        """The id of this special token, None where there is none."""
        return self._ids.get(self._library.token_to_id(self._aliases[text])) if text in self._aliases else None

    def check(self, ids: Sequence[int], *, param: str) -> None:
        """Raises InvalidRequest for an id that is not in the vocabulary: the runtime would look beside its table."""
        if ids and not 0 <= min(ids) <= max(ids) < self._size:
            raise InvalidRequest(f"Token ids of this model are whole numbers from 0 to {self._size - 1}.", param=param)

    def count(self, text: str) -> int:
        """How many tokens this text has by itself."""
        return len(self.encode(text, add_bos=False))

    def _aliased(self, text: str) -> str:
        return self._special.sub(lambda match: self._aliases[match.group()], text)


@lru_cache(maxsize=KEPT)
def _from_json(path: Path, _mtime_ns: int, _size: int) -> Tokenizer:
    """One read of a file; the time and size only tell that it is still the same."""
    described = json.loads(path.read_bytes())
    beside = path.with_name("tokenizer_config.json")
    config = json.loads(beside.read_bytes()) if beside.is_file() else {}
    template = "".join(named_templates(config.get("chat_template")).values())
    described.update(truncation=None, padding=None)
    for token in described.get("added_tokens") or ():
        token["special"] = token["special"] or is_markup(token["content"], template)
    library = tokenizers.Tokenizer.from_str(json.dumps(described))
    plain, complete = (library.encode("a", add_special_tokens=special).ids for special in (False, True))
    place = next((at for at in range(len(complete)) if complete[at : at + len(plain)] == plain), None)
    start, ending = ([], []) if place is None else (complete[:place], complete[place + len(plain) :])
    bos = start[0] if start else _id_of(library, config.get("bos_token"))
    adds_bos = config.get("add_bos_token", bool(start))
    return Tokenizer(library, bos=bos, adds_bos=bool(adds_bos), ending=tuple(ending))


@lru_cache(maxsize=KEPT)
def _from_gguf(path: Path, _identity: str) -> Tokenizer | None:
    try:
        metadata = read_metadata(path, arrays=True)
        built = build_tokenizer(metadata)
    except (GgufUnreadable, OSError):
        return None
    if built is None:
        return None
    eos = metadata.get("tokenizer.ggml.eos_token_id")
    ending = (eos,) if metadata.get("tokenizer.ggml.add_eos_token") is True and isinstance(eos, int) else ()
    return Tokenizer(built.library, bos=built.bos, adds_bos=built.adds_bos, ending=ending)


def _renamed(token: tokenizers.AddedToken, content: str) -> tokenizers.AddedToken:
    """A token found as `token` is, under another name and also in text where special ones aren't looked for."""
    return tokenizers.AddedToken(
        content,
        special=False,
        normalized=False,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        single_word=token.single_word,
    )


def _id_of(library: tokenizers.Tokenizer, token: str | Mapping[str, Any] | None) -> int | None:
    content = token.get("content") if isinstance(token, Mapping) else token
    return library.token_to_id(content) if isinstance(content, str) else None
