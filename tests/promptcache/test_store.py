"""The cache folder: what is kept in it, what is not believed, what has to go, and what is never left behind."""

import errno
import json
import os
import stat
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from rkllama_flask.errors import CacheNotFound, InvalidRequest, RuntimeFailed, StorageFull
from rkllama_flask.promptcache.entry import check_name, from_json, to_json
from rkllama_flask.promptcache.store import NO_ROOM, CacheStore
from tests.promptcache.making import BINDING, entry, files, keep
from tests.serving import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def store(folder: Path) -> CacheStore:
    return CacheStore(folder, max_bytes=1000)


def used_at(cache_file: Path, second: int) -> None:
    os.utime(cache_file, (2_000_000_000 + second, cache_file.stat().st_mtime))


# What is kept


def test_a_kept_cache_is_found_again_by_another_process_as_it_was(store: CacheStore, folder: Path) -> None:
    kept = keep(store, content=(5, 6, 7), load_ms=1.5)
    again = CacheStore(folder, max_bytes=1000)
    assert again.entries() == again.entries("tiny") == [kept]
    assert again.find("tiny", "system") == kept
    assert again.sound(kept)
    assert files(folder) == ["system.json", "system.kv"]


def test_text_and_token_ids_come_back_as_what_they_were(tmp_path: Path) -> None:
    for content in ("<|im_start|>system\nÄ 😀", (1, 2, 3)):
        one = entry(content=content, file="system-1.kv", binding=replace(BINDING, adapters=(("a.rkllm", 0.5),)))
        assert from_json(to_json(one), tmp_path) == replace(one, folder=tmp_path)


def test_the_files_are_for_their_owner_alone(store: CacheStore, folder: Path) -> None:
    kept = keep(store)
    for path in (kept.path, folder / "tiny" / "system.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "tiny").stat().st_mode) == 0o700


def test_the_same_name_again_takes_the_place_of_the_old_one(store: CacheStore, folder: Path) -> None:
    keep(store, size=100)
    new = keep(store, size=200, created_at=1_800_000_000.0, modified_at=1_800_000_000.0)
    assert store.entries() == [new]
    assert (new.created_at, new.modified_at) == (1_700_000_000.0, 1_800_000_000.0)
    assert files(folder) == ["system.json", "system.kv"]


def test_the_same_content_again_stays_one_file(store: CacheStore, folder: Path) -> None:
    assert keep(store).file == keep(store).file
    assert files(folder) == ["system.json", "system.kv"]
    assert store.sound(store.find("tiny", "system"))


def test_a_deleted_cache_is_gone_and_so_are_its_files(store: CacheStore, folder: Path) -> None:
    keep(store)
    store.delete("tiny", "system")
    assert files(folder) == []
    with pytest.raises(CacheNotFound):
        store.delete("tiny", "system")


def test_each_model_has_caches_of_its_own(store: CacheStore) -> None:
    keep(store, model="org/tiny:7b")
    keep(store, model="tiny")
    assert [one.model_name for one in store.entries()] == ["org/tiny:7b", "tiny"]
    assert store.find("ORG/tiny:7b".lower(), "system").model_name == "org/tiny:7b"


# Names


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\0b", "/etc/passwd", "ä", "a" * 81, "-x", ".x", "a b", "auto-x"]
)
def test_a_name_that_could_leave_the_folder_or_is_the_servers_own_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="cache_name") as refused:
        check_name(name)
    assert refused.value.param == "cache_name"


@pytest.mark.parametrize("name", ["", ".", "..", "../tiny/system", "a/b", "a\0b", "x" * 5000])
def test_a_name_that_could_leave_the_folder_finds_nothing(store: CacheStore, name: str) -> None:
    keep(store)
    with pytest.raises(CacheNotFound):
        store.find("tiny", name)


@pytest.mark.parametrize("model", ["..", "../..", "/", "a\0b"])
def test_a_model_that_could_leave_the_folder_is_refused(store: CacheStore, model: str) -> None:
    with pytest.raises(InvalidRequest):
        store.entries(model)


@pytest.mark.parametrize(
    "lie",
    [{"file": "../../secret"}, {"name": "other"}, {"model_name": "other"}, {"model_name": "../.."}, {"content": []}],
)
def test_a_side_file_that_belongs_elsewhere_is_none(store: CacheStore, folder: Path, lie: dict[str, object]) -> None:
    keep(store)
    side = folder / "tiny" / "system.json"
    side.write_text(json.dumps(json.loads(side.read_text()) | lie))
    assert store.entries() == []


# What is not believed


def test_a_flipped_bit_is_found(store: CacheStore) -> None:
    kept = keep(store)
    content = bytearray(kept.path.read_bytes())
    content[50] ^= 1
    kept.path.write_bytes(content)
    assert store.whole(kept)
    assert not store.sound(kept)
    assert not store.whole(kept)


@pytest.mark.parametrize("size", [0, 1, 99, 101])
def test_a_file_of_another_length_is_not_whole(store: CacheStore, size: int) -> None:
    kept = keep(store, size=100)
    kept.path.write_bytes(b"x" * size)
    assert not store.whole(kept)
    assert not store.sound(kept)


def test_a_missing_file_is_not_whole(store: CacheStore) -> None:
    kept = keep(store)
    kept.path.unlink()
    assert not store.whole(kept)
    assert not store.sound(kept)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"format": 1}', '{"format": 2}', "\0"])
def test_a_side_file_that_says_nothing_is_none(store: CacheStore, folder: Path, content: str) -> None:
    keep(store)
    (folder / "tiny" / "system.json").write_text(content)
    assert store.entries() == []
    with pytest.raises(CacheNotFound):
        store.find("tiny", "system")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model": "other"}, "model's file"),
        ({"runtime": "1.3.1"}, "runtime 1.3.0, not 1.3.1"),
        ({"runtime": "1.2.3", "family": "1.2"}, "runtime"),
        ({"template": "llama"}, "chat template"),
        ({"context_length": 2048}, "4096 tokens, not 2048"),
        ({"adapters": (("lora.rkllm", 1.0),)}, "LoRA"),
    ],
)
def test_a_cache_is_bound_to_all_it_was_made_with(change: dict[str, object], sentence: str) -> None:
    assert BINDING.difference(BINDING) is None
    difference = BINDING.difference(replace(BINDING, **change))  # type: ignore[arg-type]
    assert difference is not None
    assert sentence in difference


def test_a_runtime_that_is_not_known_yet_makes_no_cache_stale() -> None:
    assert BINDING.difference(replace(BINDING, runtime="", family="")) is None


# What has to go


def test_the_caches_used_longest_ago_make_room(store: CacheStore) -> None:
    for second, name in enumerate(["a", "b", "c"]):
        used_at(keep(store, name, size=300).path, second)
    store.touch(store.find("tiny", "a"))
    used_at(store.find("tiny", "a").path, 10)
    keep(store, "d", size=300, model="other")
    assert [one.name for one in store.entries()] == ["d", "a", "c"]


def test_a_use_is_remembered(store: CacheStore) -> None:
    kept = keep(store)
    used_at(kept.path, -1_000_000_000)
    before = store.last_used(kept)
    store.touch(kept)
    assert store.last_used(kept) > before
    assert store.sound(kept)


def test_one_in_use_never_goes(store: CacheStore, folder: Path) -> None:
    first, second = keep(store, "a", size=500), keep(store, "b", size=400)
    used_at(first.path, 0)
    used_at(second.path, 1)
    written = store.target("tiny", "c")
    written.write_bytes(b"c" * 300)
    store.keep(entry("c"), written, in_use={first.path})
    assert [one.name for one in store.entries()] == ["a", "c"]
    written = store.target("tiny", "d")
    written.write_bytes(b"d" * 600)
    with pytest.raises(StorageFull, match="CACHE_MAX_BYTES"):
        store.keep(entry("d"), written, in_use={first.path})
    assert "d.json" not in files(folder)


def test_one_that_is_larger_than_all_the_room_is_refused_and_leaves_nothing(store: CacheStore, folder: Path) -> None:
    keep(store, "other")
    with pytest.raises(StorageFull, match="CACHE_MAX_BYTES"):
        keep(store, size=1001)
    assert files(folder) == ["other.json", "other.kv"]


def test_without_room_nothing_is_kept_at_all(tmp_path: Path) -> None:
    for store in (CacheStore(tmp_path, max_bytes=0), NO_ROOM):
        with pytest.raises(StorageFull, match="CACHE_MAX_BYTES is 0"):
            store.target("tiny", "system")
        assert store.entries() == []


# What is never left behind


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_full_disk_is_said_and_leaves_nothing_but_the_old_cache(
    store: CacheStore, folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    old = keep(store)
    written = store.target("tiny", "system")
    written.write_bytes(b"new")

    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os if call == "fsync" else Path, call, full)
    with pytest.raises(StorageFull, match="can't be written"):
        store.keep(entry(), written)
    monkeypatch.undo()
    assert store.entries() == [old]
    assert store.sound(old)
    assert files(folder) == ["system.json", "system.kv"]


def test_a_folder_that_can_not_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(RuntimeFailed, match="CACHE_DIR"):
        CacheStore(tmp_path / "cache", max_bytes=1000).target("tiny", "system")


@pytest.mark.parametrize("step", range(7))
@pytest.mark.parametrize("again", [False, True])
def test_a_process_killed_at_any_step_leaves_the_old_cache_or_the_new_one(
    store: CacheStore, folder: Path, step: int, again: bool
) -> None:
    """Each call that changes something on the disk is counted, and at the given one the process ends."""
    if again:
        keep(store, size=50)
    program = f"""
        import os, signal, sys
        from pathlib import Path
        from rkllama_flask.promptcache.store import CacheStore
        from tests.promptcache.making import keep
        left = {step}
        def counted(function):
            def call(*arguments, **options):
                global left
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1
                return function(*arguments, **options)
            return call
        for owner, names in ((os, ("fsync",)), (Path, ("rename", "unlink", "chmod"))):
            for name in names:
                setattr(owner, name, counted(getattr(owner, name)))
        keep(CacheStore(Path({str(folder)!r}), max_bytes=1000), size=70)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, check=False)
    after = CacheStore(folder, max_bytes=1000)
    after.clean()
    assert [one.size for one in after.entries()] in ([[50], [70]] if again else [[], [70]])
    assert all(after.sound(one) for one in after.entries())
    assert len(files(folder)) == 2 * len(after.entries())


def test_cleaning_leaves_what_belongs_to_others(store: CacheStore, folder: Path) -> None:
    keep(store)
    (folder / "README.md").write_text("hello")
    (folder / "tiny" / "notes.txt").write_text("mine")
    for name in ("system-123.kv", "system.part-77", "system.part-77.part77", "x.json.part-1", "broken.json"):
        (folder / "tiny" / name).write_text("left")
    store.clean()
    assert sorted(path.name for path in (folder / "tiny").iterdir()) == sorted(
        ["notes.txt", "system.json", store.find("tiny", "system").file]
    )
    assert (folder / "README.md").exists()
