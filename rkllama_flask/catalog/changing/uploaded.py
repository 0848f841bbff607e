"""Uploaded files as the parts of a model: weights, side files, adapters, each under the name it gets in the folder."""

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rkllama_flask.catalog.changing.blobs import parse_digest
from rkllama_flask.catalog.reading import gguf
from rkllama_flask.catalog.reading.entries import stands_for_itself
from rkllama_flask.catalog.reading.listing import is_weights
from rkllama_flask.catalog.reading.names import parts_of
from rkllama_flask.catalog.reading.side_files import SIDE_FILES
from rkllama_flask.errors import InvalidRequest

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+() -]{0,150}", re.ASCII)


@dataclass(frozen=True)
class UploadedFile:
    """`name` is what it is called in the model's folder, `path` where it lies now; `scale` is an adapter's."""

    name: str
    path: Path
    sha256: str
    scale: float = 1.0


@dataclass(frozen=True)
class Uploaded:
    """Of weights that are split there are several; the first part comes first."""

    weights: tuple[UploadedFile, ...] = ()
    side: tuple[UploadedFile, ...] = ()
    adapters: tuple[UploadedFile, ...] = ()


NOTHING = Uploaded()


def arrange(files: Mapping[str, Any], adapters: Mapping[str, Any], find: Callable[[str], Path | None]) -> Uploaded:
    """Sort the files that are named by digest; `find` has them by their sha256.

    Raises InvalidRequest for a name that could lead elsewhere, a digest that nothing was uploaded for, and what is no
    part of a model.
    """
    found = [_found(name, digest, find, "files") for name, digest in files.items()]
    side = tuple(file for file in found if file.name in SIDE_FILES)
    weights = [_weights(file, "files") for file in found if file.name not in SIDE_FILES]
    loras = tuple(_weights(_found(name, digest, find, "adapters"), "adapters") for name, digest in adapters.items())
    names = [file.name.lower() for file in (*weights, *side, *loras)]
    if len(set(names)) < len(names):
        raise InvalidRequest("two of the files have the same name", param="files")
    for file in weights:
        if file.name.lower().endswith(".gguf"):
            _check_gguf(file)
    first = [file for file in weights if stands_for_itself(file.name)]
    if weights and len(first) != 1:
        raise InvalidRequest(
            f"a model has one file of weights, or all parts of a split one: {', '.join(file.name for file in weights)}",
            param="files",
        )
    _check_parts([file.name for file in weights])
    return Uploaded(tuple(sorted(weights, key=lambda file: file.name)), side, loras)


def _check_parts(names: Sequence[str]) -> None:
    """Raises InvalidRequest where a file of a split model is missing, or one is of another."""
    for name in names:
        missing = [part for part in parts_of(name) if part not in names]
        if missing:
            raise InvalidRequest(
                f"{name} is one file of a split model, and {missing[0]} is not among them", param="files"
            )


def _found(name: str, digest: Any, find: Callable[[str], Path | None], param: str) -> UploadedFile:
    parts = name.split("/")
    if not all(_PART.fullmatch(part) and ".." not in part for part in parts):
        relative = "file path must be relative"
        if posixpath.isabs(name) or ".." in parts:
            raise InvalidRequest(f"{relative}: {name[:100]!a}", param=param)
        raise InvalidRequest(
            f"{name[:100]!a} can't be a file's name here: use the letters A-Z a-z 0-9 _ - . + ( ) and blanks",
            param=param,
        )
    sha256 = parse_digest(digest if isinstance(digest, str) else "")
    path = find(sha256)
    if path is None:
        raise InvalidRequest(f'blob "sha256:{sha256}" not found: upload {name} first', param=param)
    return UploadedFile(parts[-1].rstrip(" "), path, sha256)


def _weights(file: UploadedFile, param: str) -> UploadedFile:
    """The file, which gets an ending if it has none. Raises InvalidRequest."""
    is_gguf = gguf.has_magic(file.path)
    if not is_weights(file.name):
        if not is_gguf or posixpath.splitext(file.name)[1]:
            raise InvalidRequest(
                f"unknown type: {file.name}: models are .gguf files, or .rkllm files as Rockchip's toolkit makes them",
                param=param,
            )
        return UploadedFile(f"{file.name}.gguf", file.path, file.sha256)
    if file.name.lower().endswith(".gguf") and not is_gguf:
        raise InvalidRequest("supplied file was not in GGUF format", param=param)
    if file.name.lower().endswith(".rkllm") and is_gguf:
        raise InvalidRequest(f"{file.name} is a GGUF file: its name has to end in .gguf", param=param)
    return file


def _check_gguf(file: UploadedFile) -> None:
    """Raises InvalidRequest for a file that was cut short, and for an adapter or an encoder of pictures."""
    try:
        header = gguf.read_header(file.path)
    except gguf.GgufUnreadable as error:
        raise InvalidRequest(f"{file.name}: {error}", param="files") from error
    if not header.complete:
        raise InvalidRequest(f"{file.name} ends before its last tensor begins: it isn't whole", param="files")
    if not gguf.is_model(header.metadata):
        raise InvalidRequest(f"{file.name} is no model of its own: an adapter goes into 'adapters'", param="files")
