"""All that has to come for one model, under which names, and into which folder."""

import hashlib
import posixpath
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from rkllama_flask.catalog.pull.choice import RemoteFile, choose
from rkllama_flask.catalog.pull.hub import Repository
from rkllama_flask.catalog.pull.source import Source
from rkllama_flask.catalog.reading.names import split_part, take_apart
from rkllama_flask.catalog.reading.side_files import SIDE_FILES, places_of
from rkllama_flask.errors import PullFailed

MAX_SIDE_FILE = 64 << 20
"""Bytes; what is larger under such a name is none."""

_NAMELESS = re.compile(r"(?<![A-Za-z0-9])(?:(?:ggml|pytorch)-)?(?:model|weights|llm)(?![A-Za-z0-9])", re.IGNORECASE)


@dataclass(frozen=True)
class Item:
    """One file of a repository at one commit, and its name here."""

    repo: str
    revision: str
    file: RemoteFile
    name: str


@dataclass(frozen=True)
class Plan:
    """The files of one model, its weights first; `reason` says why these. `folders` are places, the best first."""

    source: Source
    weights: tuple[Item, ...]
    side: tuple[Item, ...]
    folders: tuple[str, ...]
    reason: str

    @property
    def items(self) -> tuple[Item, ...]:
        return (*self.weights, *self.side)

    @property
    def size(self) -> int:
        return sum(item.file.size for item in self.items)

    @property
    def family(self) -> str:
        """The same for all states of this model on the hub."""
        return _digest(f"{self.weights[0].repo.lower()}\0{self.weights[0].file.path}")

    @property
    def state(self) -> str:
        """The same only while not a byte on the hub has changed."""
        return _digest("\0".join(f"{i.name} {i.file.size} {i.file.sha256 or i.file.blob_id}" for i in self.items))

    @property
    def names(self) -> tuple[str, ...]:
        """What this model may be asked for by: as it was asked for now, and by its file."""
        return tuple(dict.fromkeys((self.source.key, Source(self.source.repo, self.weights[0].file.name).key)))


def make_plan(source: Source, platform: str | None, look: Callable[[str], Repository]) -> Plan:
    """Ask the hub with `look` what there is, and decide. Raises PullFailed."""
    repository = look(source.repo)
    choice = choose(repository.files, repository.name, source.wanted, platform)
    first = choice.weights[0]
    side = {item.name: item for item in _side(repository, posixpath.dirname(first.path))}
    if first.name.lower().endswith(".rkllm") and repository.base and set(SIDE_FILES) - set(side):
        # GGUF files carry their tokenizer and template in them; files for the NPU keep them to themselves.
        with suppress(PullFailed):  # a gated or deleted original: the model works without
            side = {item.name: item for item in _side(look(repository.base), "")} | side
    organisation, _, name = repository.name.rpartition("/")
    weights = tuple(
        Item(repository.name, repository.revision, file, _telling(file.name, name)) for file in choice.weights
    )
    folders = _folders(organisation, name, posixpath.splitext(weights[0].name)[0])
    return Plan(source, weights, tuple(side.values()), folders, choice.reason)


def _telling(file: str, repo: str) -> str:
    """A name for a file that tells of its model: `Tiny-1B-Q8_0.gguf` for the `ggml-model-Q8_0.gguf` of Tiny-1B."""
    stem, ending = posixpath.splitext(file)
    friendly = take_apart(stem).friendly
    if not _NAMELESS.fullmatch(friendly):
        return file
    told = _NAMELESS.sub(repo, stem, count=1)
    return f"{told if told != stem else f'{repo}-{stem}'}{ending}"


def _side(repository: Repository, folder: str) -> Iterator[Item]:
    """The side files beside the weights, else at the top."""
    files = {file.path: file for file in repository.files}
    for name in SIDE_FILES:
        places = [posixpath.join(where, place) for where in (folder, "") for place in places_of(name)]
        file = next((files[place] for place in places if place in files), None)
        if file and file.size <= MAX_SIDE_FILE:
            yield Item(repository.name, repository.revision, file, name)


def _folders(organisation: str, repo: str, stem: str) -> tuple[str, ...]:
    """Folders give models their names, so the file's name comes first."""
    if split_part(stem) is not None:
        stem = re.sub(r"-\d{5}-of-\d{5}$", "", stem)
    names = (stem, f"{organisation}-{stem}", f"{organisation}-{repo}-{stem}")
    return tuple(re.sub(r"[^A-Za-z0-9_.-]+", "-", name).lstrip(".-")[:150] or "model" for name in names)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
