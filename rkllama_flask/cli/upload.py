"""The local files that a Modelfile names, brought to the server: `create` then needs only their digests."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rkllama_flask.catalog.reading.listing import is_weights
from rkllama_flask.catalog.reading.modelfile import ModelfileInvalid, Written, parse
from rkllama_flask.catalog.reading.names import split_part
from rkllama_flask.catalog.reading.side_files import SIDE_FILES, places_of
from rkllama_flask.cli.client import Client, Failed
from rkllama_flask.cli.progress import Count, counted

_BLOCK = 1 << 18


@dataclass
class LocalFiles:
    """Paths by the names that the server gets to hear."""

    files: dict[str, Path] = field(default_factory=dict)
    adapters: dict[str, Path] = field(default_factory=dict)


def local_files(text: str, folder: Path) -> LocalFiles:
    """What of a Modelfile lies here, seen from `folder`; the rest is the server's. Raises Failed."""
    try:
        written: Written = parse(text)
    except ModelfileInvalid as error:
        raise Failed(f"The Modelfile is wrong: {error}") from error
    found = LocalFiles()
    if written.source is not None and (weights := _weights(folder / Path(written.source).expanduser())) is not None:
        found.files = {path.name: path for path in (*_parts(weights), *_side(weights))}
    for path, _ in written.modelfile.adapters:
        place = folder / path.expanduser()
        if place.is_file():
            found.adapters[place.name] = place
    return found


def upload(client: Client, paths: dict[str, Path]) -> dict[str, str]:
    """Bring files to the server, as far as it doesn't have them; their digests by name. Raises Failed."""
    return {name: _upload(client, path) for name, path in paths.items()}


def _weights(place: Path) -> Path | None:
    """The weights that FROM means, if they are here: a file, or the only weights of a folder. Raises Failed."""
    if place.is_file():
        return place
    if not place.is_dir():
        return None
    found = [path for path in sorted(place.iterdir()) if is_weights(path.name) and split_part(path.stem) in (None, 1)]
    if len(found) != 1:
        raise Failed(f"{place} holds {len(found)} models: name the one to take in FROM.")
    return found[0]


def _parts(weights: Path) -> list[Path]:
    start = weights.name.rpartition("-00001-of-")[0]
    return sorted(weights.parent.glob(f"{start}-*-of-*{weights.suffix}")) if start else [weights]


def _side(weights: Path) -> list[Path]:
    """The side files beside weights, if these are alone there: else they could be another model's."""
    alone = [path for path in weights.parent.iterdir() if is_weights(path.name)] == _parts(weights)
    found = ([weights.parent / place for place in places_of(name)] for name in SIDE_FILES if alone)
    return [path for places in found if (path := next(filter(Path.is_file, places), None)) is not None]


def _upload(client: Client, path: Path) -> str:
    try:
        size = path.stat().st_size
        sha256 = hashlib.sha256()
        with counted(f"reading {path.name}", size) as count:
            for block in _blocks(path, count):
                sha256.update(block)
        digest = f"sha256:{sha256.hexdigest()}"
        if not client.has(f"/api/blobs/{digest}"):
            with counted(f"uploading {path.name}", size) as count:
                client.upload(f"/api/blobs/{digest}", _Body(path, size, count))
    except OSError as error:
        raise Failed(f"{path} can't be read: {error.strerror or error}.") from error
    return digest


def _blocks(path: Path, count: Count) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block
            count(len(block))


class _Body:
    """A file on its way out, of a known length."""

    def __init__(self, path: Path, size: int, count: Count) -> None:
        self._path, self._size, self._count = path, size, count

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Any]:
        return _blocks(self._path, self._count)
