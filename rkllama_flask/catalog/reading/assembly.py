"""From entries to models: facts are read, names are given, and an index is made of every way to ask for each."""

import hashlib
import json
import posixpath
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from rkllama_flask.catalog.model import Format, Model
from rkllama_flask.catalog.reading import gguf
from rkllama_flask.catalog.reading.entries import Entry
from rkllama_flask.catalog.reading.facts import gather
from rkllama_flask.catalog.reading.listing import Listing, Stamp
from rkllama_flask.catalog.reading.modelfile import MAX_CHARACTERS, ModelfileInvalid, Written, decode, parse, render
from rkllama_flask.catalog.reading.names import name_of_folder, parts_of
from rkllama_flask.catalog.reading.naming import Candidate, assign
from rkllama_flask.catalog.reading.resolver import resolve
from rkllama_flask.catalog.reading.side_files import SideFacts, read_side_files
from rkllama_flask.catalog.reading.weights_hash import hash_key

T = TypeVar("T")


@dataclass(frozen=True)
class Shelf:
    """Everything that was on disk at one moment.

    `index` leads from each key a model can be asked by to its name, `broken` from a name given by hand to why it can't
    be used, `incomplete` from a key to which file is missing, `warnings` are sentences for the operator.
    """

    listing: Listing = ()
    models: Mapping[str, Model] = field(default_factory=dict)
    entries: Mapping[str, Entry] = field(default_factory=dict)
    index: Mapping[str, str] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    incomplete: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Memory:
    """What was read from files that have not changed since; what one assembly didn't ask for is forgotten."""

    def __init__(self) -> None:
        self._old: dict[Hashable, Any] = {}
        self._new: dict[Hashable, Any] = {}

    def recall(self, key: Hashable, read: Callable[[], T]) -> T:
        """What was read under this key, else what `read` returns now. What it raises is not kept."""
        if key not in self._new:
            self._new[key] = self._old[key] if key in self._old else read()
        value: T = self._new[key]
        return value

    def forget_unused(self) -> None:
        self._old, self._new = self._new, {}


@dataclass(frozen=True)
class _Inside:
    """What the weights' own file says."""

    metadata: Mapping[str, Any] = field(default_factory=dict)
    parameter_count: int | None = None
    bos_token: str | None = None
    eos_token: str | None = None
    eos_token_ids: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()


def assemble(
    listing: Listing, models_dir: Path, memory: Memory, hashes: Mapping[str, str], pulled: Mapping[str, str]
) -> Shelf:
    """Read what changed and put the models together.

    `hashes` are sha256 of weights by their keys, `pulled` paths of weights by the names they have on the hub.
    """
    warnings: list[str] = []

    def read(path: str, stamp: Stamp) -> Written:
        written = memory.recall(("modelfile", path, stamp), lambda: _read_modelfile(models_dir / path))
        if written.unapplied:
            warnings.append(f"{path}: {', '.join(written.unapplied)} has no effect here")
        return written

    resolved = resolve(listing, models_dir, read)
    warnings += resolved.broken.values()
    warnings += resolved.incomplete.values()
    inside = {
        entry.weights: memory.recall(("weights", entry.weights, entry.stamp), partial(_look_inside, models_dir, entry))
        for entry in resolved.entries
    }
    models = [entry for entry in resolved.entries if entry.given or gguf.is_model(inside[entry.weights].metadata)]
    named = _named(models, warnings)
    made = {
        name: _model(name, entry, models_dir, inside[entry.weights], memory, hashes, warnings)
        for name, entry in named.items()
    }
    memory.forget_unused()
    index = _index(named, pulled)
    return Shelf(listing, made, named, index, resolved.broken, resolved.incomplete, tuple(dict.fromkeys(warnings)))


def _read_modelfile(path: Path) -> Written:
    with path.open("rb") as file:
        data = file.read(4 * MAX_CHARACTERS + 1)
    if len(data) > 4 * MAX_CHARACTERS:
        raise ModelfileInvalid(f"the Modelfile is longer than {MAX_CHARACTERS} characters", param="modelfile")
    return parse(decode(data), lenient=True)


def _named(entries: Iterable[Entry], warnings: list[str]) -> dict[str, Entry]:
    """Entries by name, sorted."""
    named: dict[str, Entry] = {}
    derived: dict[str, Entry] = {}
    for entry in entries:
        if entry.given is None:
            derived[entry.weights] = entry
        elif entry.given.key in (name.lower() for name in named):
            warnings.append(f"{entry.folder}: another folder has this name already, in other letters")
        else:
            named[entry.given.text] = entry
    candidates = [Candidate(path, _format(path), entry.names[0]) for path, entry in derived.items()]
    for path, name in assign(candidates, taken=list(named)).items():
        named[name] = derived[path]
        if ":" in name:
            warnings.append(f"{path} is called {name}, because other weights would have the same name without a tag")
    return dict(sorted(named.items(), key=lambda item: item[0].lower()))


def _index(named: Mapping[str, Entry], pulled: Mapping[str, str]) -> dict[str, str]:
    """Every key in small letters. Names go first, then those on the hub, then those of files.

    Last comes the name of a folder that holds but one model.
    """
    index: dict[str, str] = {name.lower(): name for name in named}
    by_file = sorted(named.items(), key=lambda item: (item[1].is_alias, item[0]))
    for key, weights in pulled.items():
        name_here = next((name for name, entry in by_file if entry.weights == weights), None)
        if name_here is not None:
            index.setdefault(key, name_here)
    for name, entry in by_file:
        index.setdefault(posixpath.basename(entry.weights).lower(), name)
    for name, entry in by_file:
        file = posixpath.basename(entry.weights)
        for key in (posixpath.splitext(file)[0], parts_of(file)[0].rpartition("-00001-of-")[0]):
            index.setdefault(key.lower(), name)
    folders = [posixpath.dirname(entry.weights) for _, entry in by_file if not entry.is_alias]
    for name, entry in by_file:
        folder = posixpath.dirname(entry.weights)
        own = name_of_folder(folder) if folders.count(folder) == 1 and not entry.is_alias else None
        if own is not None:
            index.setdefault(own.key, name)
    index.pop("", None)
    return index


def _model(
    name: str,
    entry: Entry,
    models_dir: Path,
    inside: _Inside,
    memory: Memory,
    hashes: Mapping[str, str],
    warnings: list[str],
) -> Model:
    path = models_dir / entry.weights
    side, told = memory.recall(("side", entry.stamps), lambda: _read_side(models_dir, entry.side))
    warnings += (*inside.warnings, *told)
    facts = gather(
        format=_format(entry.weights),
        names=entry.names,
        side=side,
        modelfile=entry.modelfile,
        metadata=inside.metadata,
        parameter_count=inside.parameter_count,
    )
    template, tool_template = (
        text if isinstance(text := inside.metadata.get(f"tokenizer.chat_template{name}"), str) and text else None
        for name in ("", ".tool_use")
    )
    ids = (*entry.modelfile.eos_token_ids, *side.eos_token_ids, *inside.eos_token_ids)
    changed = (
        entry.stamp.modified,
        *(stamp.modified for at, stamp in entry.stamps if at.startswith(f"{entry.folder}/")),
    )
    return Model(
        name=name,
        path=path,
        format=_format(entry.weights),
        identity=entry.identity,
        size=entry.size,
        modified_at=max(changed) / 1e9,
        digest=_digest(entry, hashes),
        context_length=facts.context_length,
        family=facts.family,
        parameter_count=facts.parameter_count,
        parameter_size=facts.parameter_size,
        quantization=facts.quantization,
        embedding_length=facts.embedding_length,
        block_count=facts.block_count,
        chat_template=entry.modelfile.template or side.chat_template or template,
        tool_template=None
        if entry.modelfile.template
        else side.tool_template or (None if side.chat_template else tool_template),
        bos_token=side.bos_token or inside.bos_token,
        eos_token=side.eos_token or inside.eos_token,
        eos_token_ids=tuple(dict.fromkeys(ids)),
        tokenizer_path=side.tokenizer_path,
        recommended_sampling=side.sampling,
        special_tokens=side.special_tokens,
        modelfile=entry.modelfile,
        metadata=inside.metadata,
    )


def _read_side(models_dir: Path, side: Mapping[str, str]) -> tuple[SideFacts, tuple[str, ...]]:
    warnings: list[str] = []
    facts = read_side_files({name: models_dir / path for name, path in side.items()}, warnings.append)
    return facts, tuple(warnings)


def _look_inside(models_dir: Path, entry: Entry) -> _Inside:
    """What the weights say of themselves; a file that can't be read says nothing, and a warning."""
    path = models_dir / entry.weights
    try:
        if _format(entry.weights) == "rkllm":
            plain = gguf.has_magic(path)
            return _Inside(warnings=(f"{entry.weights} looks like GGUF; should it end in .gguf?",) if plain else ())
        header = gguf.read_header(path)
        return replace(_tokens(path, header.metadata), parameter_count=_parameters(entry, header))
    except (gguf.GgufUnreadable, OSError) as error:
        return _Inside(warnings=(f"{entry.weights}: {error}",))


def _parameters(entry: Entry, header: gguf.Header) -> int | None:
    """Of a model in several files the first one's tensors are not all."""
    return header.parameter_count if header.parameter_count and entry.size == entry.stamp.size else None


def _tokens(path: Path, metadata: Mapping[str, Any]) -> _Inside:
    ids = {key: metadata.get(f"tokenizer.ggml.{key}_token_id") for key in ("bos", "eos", "eot")}
    known = {key: value for key, value in ids.items() if isinstance(value, int)}
    texts = gguf.read_items(path, "tokenizer.ggml.tokens", set(known.values())) if known else {}
    tokens = {key: texts.get(value) for key, value in known.items()}
    return _Inside(
        metadata=metadata,
        bos_token=tokens.get("bos"),
        eos_token=tokens.get("eos"),
        eos_token_ids=tuple(known[key] for key in ("eos", "eot") if key in known),
    )


def _digest(entry: Entry, hashes: Mapping[str, str]) -> str:
    """64 hex digits for what this model is made of; a copy under another name has the same."""
    name = posixpath.basename(entry.weights)
    weights = hashes.get(hash_key(name, entry.stamp)) or f"{entry.size} {entry.stamp.modified}"
    manifest = {
        "weights": [name, weights],
        "modelfile": render(None, replace(entry.modelfile, adapters=())),
        "adapters": [(path.name, scale) for path, scale in entry.modelfile.adapters],
        "side": [
            (posixpath.basename(path), stamp.size, stamp.modified)
            for path, stamp in entry.stamps
            if path in entry.side.values()
        ],
    }
    return hashlib.sha256(json.dumps(manifest).encode()).hexdigest()


def _format(path: str) -> Format:
    return "rkllm" if path.lower().endswith(".rkllm") else "gguf"
