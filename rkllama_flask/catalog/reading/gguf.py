"""The head of a GGUF file: its key-value metadata and its tensor directory, read without trusting a single length.

Format (GGUF versions 2 and 3, little endian): magic `GGUF`, u32 version, u64 tensor count, u64 pair count, the pairs,
the tensor directory, padding, tensor data. A string is a u64 length and its bytes; an array is a u32 type, a u64 count
and its items. The file is read, never mapped: one that shrinks while it is looked at must not end the process.
"""

import math
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

MAGIC = b"GGUF"
SHORT_ARRAY = 64
LONG_STRING = 1 << 20

_MAX_PAIRS = 1 << 16
_MAX_TENSORS = 1 << 20
_MAX_NAME = (1 << 16) - 1
_MAX_DIMENSIONS = 8
_MAX_DEPTH = 4
_MAX_ITEMS = 1 << 24
_MAX_STRING = 1 << 28
_CHUNK = 1 << 20
_CUT_SHORT = "the file ends inside its header"

_STRING, _ARRAY = 8, 9
_LETTERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_SCALARS = {code: struct.Struct("<" + letter) for code, letter in _LETTERS.items()}
_U32, _U64 = _SCALARS[4], _SCALARS[10]


class GgufUnreadable(ValueError):
    """The file is no GGUF file that can be read: damaged, cut short, still being copied, or of another version."""


@dataclass(frozen=True)
class Header:
    """What stands before the tensor data.

    `parameter_count` is the sum over all tensors. `complete` is False when the file ends before its last tensor begins:
    a copy that is not finished.
    """

    version: int
    metadata: dict[str, Any]
    tensor_count: int
    parameter_count: int
    complete: bool


def has_magic(path: Path) -> bool:
    """Whether the file begins as GGUF does. Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def is_model(metadata: Mapping[str, Any]) -> bool:
    """False for what is only a part of one: an adapter, an encoder for pictures."""
    return metadata.get("general.type", "model") == "model" and metadata.get("general.architecture") != "clip"


def read_metadata(path: Path, *, arrays: bool = False) -> dict[str, Any]:
    """The key-value pairs in the file's order.

    Unless `arrays`, arrays of more than 64 items and texts of more than 1 MiB are empty. Raises GgufUnreadable and
    OSError.
    """
    with _opened(path) as head:
        return head.pairs(lambda _key: arrays)


def read_header(path: Path) -> Header:
    """Metadata without long arrays, and what the tensor directory tells. Raises GgufUnreadable, OSError."""
    with _opened(path) as head:
        metadata = head.pairs(lambda _key: False)
        parameters, last_offset = head.tensors()
        alignment = metadata.get("general.alignment")
        alignment = alignment if isinstance(alignment, int) and alignment > 0 else 32
        data_start = math.ceil(head.reader.position / alignment) * alignment
        complete = head.tensor_count == 0 or data_start + last_offset < head.reader.size
        return Header(head.version, metadata, head.tensor_count, parameters, complete)


def read_items(path: Path, key: str, indexes: Collection[int]) -> dict[int, Any]:
    """Single items of one array, by index; those that don't exist are left out. Raises GgufUnreadable, OSError."""
    with _opened(path) as head:
        items = head.pairs(lambda name: name == key).get(key)
    return {i: items[i] for i in indexes if isinstance(items, list) and 0 <= i < len(items)}


class _Reader:
    """Takes values off the front of a file and holds no more of it than it needs."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file = file
        self.size = size
        self._buffer = b""
        self._at = 0
        self._start = 0

    @property
    def position(self) -> int:
        return self._start + self._at

    def need(self, count: int) -> None:
        """Have `count` more bytes in the buffer."""
        missing = count - (len(self._buffer) - self._at)
        if missing <= 0:
            return
        if self.position + count > self.size:
            raise GgufUnreadable(_CUT_SHORT)
        self._start += self._at
        self._buffer = self._buffer[self._at :] + self.file.read(max(missing, _CHUNK))
        self._at = 0
        if len(self._buffer) < count:
            raise GgufUnreadable(_CUT_SHORT)

    def take(self, count: int) -> bytes:
        self.need(count)
        self._at += count
        return self._buffer[self._at - count : self._at]

    def skip(self, count: int) -> None:
        """Go on by `count` bytes without reading them."""
        if self.position + count > self.size:
            raise GgufUnreadable(_CUT_SHORT)
        if self._at + count <= len(self._buffer):
            self._at += count
            return
        self._start = self.file.seek(self.position + count)
        self._buffer, self._at = b"", 0

    def number(self, kind: struct.Struct) -> Any:
        self.need(kind.size)
        value = kind.unpack_from(self._buffer, self._at)[0]
        self._at += kind.size
        return value

    def name(self) -> str:
        """A key, or the name of a tensor."""
        length = self.number(_U64)
        if length > _MAX_NAME:
            raise GgufUnreadable(f"it has a name of {length} bytes")
        return self.take(length).decode("utf-8", errors="replace")

    def string(self, *, keep: bool) -> str:
        length = self.number(_U64)
        if length > _MAX_STRING:
            raise GgufUnreadable(f"it has a text of {length} bytes")
        if length > LONG_STRING and not keep:
            self.skip(length)
            return ""
        return self.take(length).decode("utf-8", errors="replace")

    def value(self, kind: int, *, keep: bool, depth: int = 0) -> Any:
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            return self.string(keep=keep)
        if kind == _ARRAY and depth < _MAX_DEPTH:
            return self._array(keep=keep, depth=depth)
        raise GgufUnreadable(f"it has a value of the unknown type {kind}")

    def _array(self, *, keep: bool, depth: int) -> list[Any]:
        kind, count = self.number(_U32), self.number(_U64)
        smallest = _SCALARS[kind].size if kind in _SCALARS else _U64.size
        if count > _MAX_ITEMS:
            raise GgufUnreadable(f"it claims an array of {count} items")
        if count * smallest > self.size - self.position:
            raise GgufUnreadable(_CUT_SHORT)
        if keep or count <= SHORT_ARRAY:
            if kind in _SCALARS:
                data = self.take(count * smallest)
                return [item[0] for item in _SCALARS[kind].iter_unpack(data)]
            return [self.value(kind, keep=keep, depth=depth + 1) for _ in range(count)]
        if kind in _SCALARS:
            self.skip(count * smallest)
        elif kind == _STRING:
            self._skip_strings(count)
        else:
            for _ in range(count):
                self.value(kind, keep=False, depth=depth + 1)
        return []

    def _skip_strings(self, count: int) -> None:
        # A vocabulary has some 100,000 strings: this loop is most of the time that a header takes.
        unpack, width = _U64.unpack_from, _U64.size
        for _ in range(count):
            if self._at + width > len(self._buffer):
                self.need(width)
            end = self._at + width + unpack(self._buffer, self._at)[0]
            if end <= len(self._buffer):
                self._at = end
            else:
                self.skip(end - self._at)


@dataclass(frozen=True)
class _Head:
    """An open file, read up to its first key-value pair."""

    reader: _Reader
    version: int
    tensor_count: int
    pair_count: int

    def pairs(self, keep: Callable[[str], bool]) -> dict[str, Any]:
        """The key-value pairs; long arrays only of the keys that are to be kept. The first of equal keys counts."""
        found: dict[str, Any] = {}
        for _ in range(self.pair_count):
            key = self.reader.name()
            value = self.reader.value(self.reader.number(_U32), keep=keep(key))
            found.setdefault(key, value)
        return found

    def tensors(self) -> tuple[int, int]:
        """The number of parameters in all tensors, and the offset in bytes at which the last one begins."""
        parameters = last = 0
        reader = self.reader
        for _ in range(self.tensor_count):
            reader.name()
            dimensions = reader.number(_U32)
            if dimensions > _MAX_DIMENSIONS:
                raise GgufUnreadable(f"it has a tensor of {dimensions} dimensions")
            parameters += math.prod(reader.number(_U64) for _ in range(dimensions))
            reader.number(_U32)
            last = max(last, reader.number(_U64))
        return parameters, last


@contextmanager
def _opened(path: Path) -> Iterator[_Head]:
    with path.open("rb") as file:
        reader = _Reader(file, path.stat().st_size)
        if reader.take(len(MAGIC)) != MAGIC:
            raise GgufUnreadable("it does not begin as a GGUF file does")
        version = reader.number(_U32)
        if version not in (2, 3):
            raise GgufUnreadable(f"it has GGUF version {version}; versions 2 and 3 (little endian) can be read")
        tensors, pairs = reader.number(_U64), reader.number(_U64)
        if pairs > _MAX_PAIRS or tensors > _MAX_TENSORS:
            raise GgufUnreadable(f"it claims {pairs} metadata entries and {tensors} tensors")
        yield _Head(reader, version, tensors, pairs)
