"""The cache folder: one folder for each model, two files for each cache.

A cache exists once its side file does: `NAME.json` names the file with the KV state, whose name holds its checksum, so
that remaking a cache replaces nothing that is still valid. Both are written under another name, synchronised and then
renamed. Writing is for the engine thread alone, while it holds the NPU; looking and deleting is for any thread.
"""

import contextlib
import errno
import hashlib
import os
import time
from collections.abc import Container, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from rkllama_flask.catalog.reading.names import folder_for, parse
from rkllama_flask.errors import CacheNotFound, InvalidRequest, RkllamaError, RuntimeFailed, StorageFull
from rkllama_flask.promptcache.entry import CacheEntry, from_json, to_json

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CHUNK = 1 << 20
_Stamp = tuple[int, int, int]


class CacheStore:
    """`max_bytes` bounds the files of all models together; those used longest ago make room for new ones."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._folder = folder
        self._read: dict[Path, tuple[_Stamp, CacheEntry]] = {}
        self._checked: dict[Path, tuple[_Stamp, bool]] = {}

    # Any thread

    def entries(self, model: str | None = None) -> list[CacheEntry]:
        """The caches of a model, or of all, sorted by name. Nothing is loaded or checked."""
        folders = self._folders() if model is None else [self._folder_of(model)]
        found = [entry for folder in folders for entry in self._entries_in(folder)]
        return sorted(found, key=lambda entry: (entry.model_name, entry.name))

    def find(self, model: str, name: str, *, param: str | None = "cache_name") -> CacheEntry:
        """One cache. Raises CacheNotFound naming `param`."""
        entry = self._entry(self._folder_of(model) / f"{name}.json") if _is_file_name(name) else None
        if entry is None:
            raise CacheNotFound(f"cache '{name}' not found for model '{model}'", param=param)
        return entry

    def delete(self, model: str, name: str) -> CacheEntry:
        """Remove one cache, also while a handle has it loaded. Raises CacheNotFound."""
        entry = self.find(model, name)
        self._remove(entry)
        return entry

    def total(self) -> int:
        """Bytes of all caches together."""
        return sum(entry.size for entry in self.entries())

    def last_used(self, entry: CacheEntry) -> float:
        """When a cache was last used, in Unix seconds."""
        try:
            return max(entry.modified_at, entry.path.stat().st_atime)
        except OSError:
            return entry.modified_at

    def whole(self, entry: CacheEntry) -> bool:
        """Whether its file is there with the right length, and was not found damaged; it is not read for that."""
        stamp = _stamp(entry.path)
        return stamp is not None and stamp[1] == entry.size and self._checked.get(entry.path) != (stamp, False)

    # The engine thread

    def sound(self, entry: CacheEntry) -> bool:
        """Whether its file holds what was written; read once for each state that the file is in."""
        stamp = _stamp(entry.path)
        if stamp is None or stamp[1] != entry.size:
            return False
        checked = self._checked.get(entry.path)
        if checked is None or checked[0] != stamp:
            try:
                checked = (stamp, _checksum(entry.path) == entry.sha256)
            except OSError:
                return False
            self._checked[entry.path] = checked
        return checked[1]

    def touch(self, entry: CacheEntry) -> None:
        """It has just been used."""
        with contextlib.suppress(OSError):
            facts = entry.path.stat()
            os.utime(entry.path, ns=(time.time_ns(), facts.st_mtime_ns))

    def target(self, model: str, name: str) -> Path:
        """Where the runtime may write a new cache before it is kept. Raises StorageFull or RuntimeFailed."""
        if not self.max_bytes:
            raise StorageFull("There is no room for prompt caches: CACHE_MAX_BYTES is 0.")
        folder = self._folder_of(model)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(error) from error
        return folder / f"{name}.part-{os.getpid()}"

    def keep(self, entry: CacheEntry, written: Path, *, in_use: Container[Path] = ()) -> CacheEntry:
        """Make the file that the runtime has `written` the cache that `entry` describes, in place of one of its name.

        Others make room for it, never one `in_use`. Raises StorageFull or RuntimeFailed, and leaves nothing then.
        """
        state = None
        try:
            checksum = _synchronise(written)
            size = written.stat().st_size
            old = self._entry(written.parent / f"{entry.name}.json")
            state = written.parent / f"{entry.name}-{checksum[:12]}.kv"
            self._make_room(size, instead_of=old, in_use=in_use)
            entry = replace(
                entry,
                created_at=old.created_at if old else entry.created_at,
                file=state.name,
                size=size,
                sha256=checksum,
                folder=written.parent,
            )
            written.rename(state)
            self._write_side_file(entry)
        except (OSError, RkllamaError) as error:
            self.discard(written)
            if state is not None and not self._is_named(state):
                self.discard(state)
            raise (_unwritable(error) if isinstance(error, OSError) else error) from error
        if old is not None and old.path != state:
            self.discard(old.path)
        if (stamp := _stamp(state)) is not None:
            self._checked[state] = (stamp, True)
        return entry

    def discard(self, path: Path) -> None:
        """Remove a file of the cache folder, if it is there."""
        self._checked.pop(path, None)
        with contextlib.suppress(OSError):
            path.unlink()

    def clean(self) -> None:
        """Remove what a process that died in the middle of a save has left. Only while nobody else can be saving."""
        for folder in self._folders():
            named = {entry.file for entry in self._entries_in(folder)}
            for path in map(folder.joinpath, _names(folder)):
                unread = path.suffix == ".json" and self._entry(path) is None
                if ".part-" in path.name or unread or (path.suffix == ".kv" and path.name not in named):
                    self.discard(path)

    # Within

    def _folder_of(self, model: str) -> Path:
        return self._folder / _folder_name(model)

    def _folders(self) -> list[Path]:
        try:
            return sorted(path for path in self._folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        except OSError:
            return []

    def _entries_in(self, folder: Path) -> Iterator[CacheEntry]:
        for name in _names(folder):
            if name.endswith(".json") and (entry := self._entry(folder / name)) is not None:
                yield entry

    def _entry(self, path: Path) -> CacheEntry | None:
        """A side file, read again when it has changed; None where there is none, or none that can be read."""
        stamp = _stamp(path)
        if stamp is None:
            self._read.pop(path, None)
            return None
        known = self._read.get(path)
        if known is None or known[0] != stamp:
            try:
                entry = from_json(path.read_bytes(), path.parent)
                belongs_here = entry.name == path.stem and self._folder_of(entry.model_name) == path.parent
            except (OSError, ValueError, InvalidRequest):
                return None
            if not belongs_here:
                return None
            self._read[path] = known = (stamp, entry)
        return known[1]

    def _is_named(self, state: Path) -> bool:
        return any(entry.file == state.name for entry in self._entries_in(state.parent))

    def _make_room(self, size: int, *, instead_of: CacheEntry | None, in_use: Container[Path]) -> None:
        others = [entry for entry in self.entries() if instead_of is None or entry.path != instead_of.path]
        staying = sum(entry.size for entry in others if entry.path in in_use)
        if size + staying > self.max_bytes:
            raise StorageFull(
                f"The cache takes {_mb(size)} MB, and CACHE_MAX_BYTES leaves {_mb(self.max_bytes - staying)} MB."
            )
        total = size + sum(entry.size for entry in others)
        for entry in sorted(others, key=self.last_used):
            if total > self.max_bytes and entry.path not in in_use:
                self._remove(entry)
                total -= entry.size

    def _write_side_file(self, entry: CacheEntry) -> None:
        path = entry.folder / f"{entry.name}.json"
        partial = path.with_name(f"{entry.name}.json.part-{os.getpid()}")
        try:
            file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(file, "wb") as side:  # noqa: PTH123 - a file descriptor
                side.write(to_json(entry))
                side.flush()
                os.fsync(side.fileno())
            partial.rename(path)
        except OSError:
            self.discard(partial)
            raise
        _synchronise_folder(entry.folder)

    def _remove(self, entry: CacheEntry) -> None:
        self.discard(entry.folder / f"{entry.name}.json")
        self.discard(entry.path)


NO_ROOM = CacheStore(Path(os.devnull), max_bytes=0)
"""A store that keeps nothing."""


def _is_file_name(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


@lru_cache(maxsize=64)
def _folder_name(model: str) -> str:
    return folder_for(parse(model))


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - before each run: a Path for each file would cost more
    except OSError:
        return []


def _stamp(path: Path) -> _Stamp | None:
    """One state of a file, which a use does not change; None where there is none."""
    try:
        facts = path.stat()
    except (OSError, ValueError):
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _checksum(path: Path) -> str:
    checksum = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            checksum.update(chunk)
    return checksum.hexdigest()


def _synchronise(path: Path) -> str:
    """Bring a file to the disk, for nobody else's eyes; its checksum."""
    path.chmod(0o600)
    with path.open("rb", buffering=0) as file:
        os.fsync(file.fileno())
    return _checksum(path)


def _synchronise_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _unwritable(error: OSError) -> RkllamaError:
    reason = error.strerror or type(error).__name__
    if error.errno in _FULL:
        return StorageFull(f"The prompt cache can't be written: {reason}. Free some space, or delete other caches.")
    return RuntimeFailed(f"The prompt cache can't be written: {reason}. Check the folder CACHE_DIR.")


def _mb(size: int) -> str:
    return f"{max(0, size) / 2**20:.1f}"
