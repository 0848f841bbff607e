"""A library is known before it is used, and one that can't be used is refused with its own sentence."""

import errno
import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

from rkllama_flask.errors import LibraryUnusable
from rkllama_flask.runtime.elf import this_machine
from rkllama_flask.runtime.library import Library, family_of, find_version
from tests.conftest import scripted_library
from tests.serving import ROOT

EXPORTED = [
    "init",
    "destroy",
    "run",
    "abort",
    "load_lora",
    "load_prompt_cache",
    "release_prompt_cache",
    "clear_kv_cache",
    "get_kv_cache_size",
    "set_chat_template",
]


def compiled(path: Path, source: str, *flags: str) -> Path:
    """A shared library of this C source."""
    spec = importlib.util.spec_from_file_location("native_build", ROOT / "native/build.py")
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    compiler = build.compiler("CC", ("gcc", "clang", "cc"), "cc")
    code = path.with_suffix(".c")
    code.write_text(source)
    subprocess.run([*compiler, "-shared", "-fPIC", "-o", path, code, *flags], check=True)
    return path


def marker(version: str) -> str:
    return f'__attribute__((used)) const char m[] = "RKLLM SDK (version: {version} | target: Linux | build: test)";'


def stubs(names: list[str]) -> str:
    return "".join(f"int rkllm_{name}(void) {{ return 0; }}\n" for name in names)


def patched(source: Path, target: Path, *changes: tuple[int | bytes, bytes]) -> Path:
    """A copy with bytes changed, each found by offset or by what was there."""
    content = bytearray(source.read_bytes())
    for where, new in changes:
        at = where if isinstance(where, int) else content.index(where)
        content[at : at + len(new)] = new
    target.write_bytes(content)
    return target


def refusal(path: Path) -> str:
    with pytest.raises(LibraryUnusable) as caught:
        Library.open(path)
    return caught.value.message


def test_a_library_of_either_family_is_known(library: Library, family: str) -> None:
    assert library.family == family
    assert library.version == {"1.2": "1.2.3", "1.3": "1.3.0"}[family]
    assert library.build == "scripted"
    assert library.per_run_sampling is (family == "1.3")


def test_its_version_is_found_without_loading_it(library_path: Path, family: str) -> None:
    assert find_version(library_path).startswith(family)


def test_both_families_live_in_one_process() -> None:
    newer, older = Library.open(scripted_library("1.3")), Library.open(scripted_library("1.2"))
    assert newer.calls.default_param().extend_param.enabled_cpus_num == 4
    assert older.calls.default_param().extend_param.enabled_cpus_num == 4
    assert older.calls.default_param().img_start == b""


@pytest.mark.parametrize(
    ("version", "family"),
    [
        ("1.2.1", "1.2"),
        ("1.2.2", "1.2"),
        ("1.2.3", "1.2"),
        ("1.3.0", "1.3"),
        ("1.3.1", "1.3"),
        ("1.3.1b1", "1.3"),
        ("1.0.1", None),
        ("1.1.4", None),
        ("1.2.0", None),
        ("1.2.1b1", None),
        ("1.4.0", None),
        ("2.0.0", None),
    ],
)
def test_a_version_belongs_to_one_family_or_to_none(version: str, family: str | None) -> None:
    assert family_of(version) == family


def test_a_missing_file_says_where_to_get_it(tmp_path: Path) -> None:
    said = refusal(tmp_path / "librkllmrt.so")
    assert "There is no file" in said
    assert "RKLLM_LIB_PATH" in said


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "can't be read: Is a directory" in refusal(tmp_path)


def test_a_file_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", denied)  # root would be let in
    assert "can't be read: Permission denied. Check its permissions" in refusal(tmp_path / "librkllmrt.so")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is an empty file"),
        (b"#!/bin/sh\n" * 20, "is not a shared library"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 7000000\n", "is a Git LFS pointer"),
        (b"\x7fELF", "is not a shared library"),
    ],
)
def test_what_is_no_library_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "librkllmrt.so"
    path.write_bytes(content)
    assert said in refusal(path)


def test_a_program_is_no_library(tmp_path: Path, library_path: Path) -> None:
    program = patched(library_path, tmp_path / "program", (16, b"\x02\x00"))
    assert "is not a shared library" in refusal(program)


def test_a_library_for_another_processor_is_refused(tmp_path: Path, library_path: Path) -> None:
    other, number = ("aarch64", 183) if this_machine().machine == "x86_64" else ("x86_64", 62)
    path = patched(library_path, tmp_path / "librkllmrt.so", (18, bytes([number, 0])))
    said = refusal(path)
    assert f"is built for {other}, but this machine is {this_machine().machine}" in said
    assert "CPU runtime" in said


def test_a_library_of_32_bits_is_refused(tmp_path: Path, library_path: Path) -> None:
    path = patched(library_path, tmp_path / "librkllmrt.so", (4, b"\x01"), (18, b"\x28\x00"))
    assert "has 32 bits and this Python 64" in refusal(path)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.99])
def test_half_a_library_is_refused_before_the_loader_would_die_of_it(
    tmp_path: Path, library_path: Path, kept: float
) -> None:
    content = library_path.read_bytes()
    path = tmp_path / "librkllmrt.so"
    path.write_bytes(content[: int(len(content) * kept)])
    assert "download it again" in refusal(path)


def test_a_foreign_library_is_refused(tmp_path: Path) -> None:
    path = compiled(tmp_path / "libother.so", "int answer(void) { return 42; }")
    assert "not an RKLLM runtime" in refusal(path)


@pytest.mark.parametrize("version", ["1.0.1", "1.1.4", "1.2.0"])
def test_a_version_that_is_too_old_is_refused(tmp_path: Path, version: str) -> None:
    path = patched(scripted_library("1.2"), tmp_path / "old.so", (b"version: 1.2.3", f"version: {version}".encode()))
    said = refusal(path)
    assert f"is RKLLM {version}, which is too old" in said
    assert "1.2.1 to 1.2.3 and 1.3.x" in said


def test_a_preview_of_another_layout_is_refused(tmp_path: Path) -> None:
    path = compiled(tmp_path / "preview.so", marker("1.2.1b1") + stubs(EXPORTED))
    assert "is RKLLM 1.2.1b1, which is too old" in refusal(path)


def test_a_version_that_is_too_new_is_refused(tmp_path: Path) -> None:
    path = patched(scripted_library("1.3"), tmp_path / "new.so", (b"version: 1.3.0", b"version: 1.4.0"))
    assert "is RKLLM 1.4.0, whose layout is not known" in refusal(path)


def test_old_functions_without_a_version_are_known_as_old(tmp_path: Path) -> None:
    path = compiled(tmp_path / "old.so", stubs(["init", "run", "run_async"]))
    assert "is RKLLM before 1.2, which is too old" in refusal(path)


def test_all_functions_without_a_version_are_not_trusted(tmp_path: Path) -> None:
    path = compiled(tmp_path / "unmarked.so", stubs(EXPORTED))
    assert "does not say which version it is" in refusal(path)


def test_two_versions_in_one_file_are_not_trusted(tmp_path: Path) -> None:
    path = compiled(tmp_path / "two.so", marker("1.2.3") + marker("1.3.0").replace(" m[]", " n[]") + stubs(EXPORTED))
    assert "names several versions: 1.2.3, 1.3.0" in refusal(path)


def test_missing_functions_are_named(tmp_path: Path) -> None:
    path = compiled(tmp_path / "partial.so", marker("1.3.0") + stubs(["init", "run"]))
    said = refusal(path)
    assert "does not export" in said
    assert "rkllm_createDefaultParam" in said
    assert "rkllm_abort" in said


@pytest.mark.parametrize(("really", "says"), [("1.3", "1.2.3"), ("1.2", "1.3.0")])
def test_a_version_that_the_layout_contradicts_is_refused(tmp_path: Path, really: str, says: str) -> None:
    path = patched(scripted_library(really), tmp_path / "liar.so", (b"version: 1.", f"version: {says}".encode()))
    said = refusal(path)
    assert f"says it is RKLLM {says}" in said
    assert f"its parameter layout is that of {really}.x" in said


def test_an_unknown_layout_is_refused(tmp_path: Path) -> None:
    nothing = "typedef struct { char data[200]; } P; P rkllm_createDefaultParam(void) { P p = {{0}}; return p; }\n"
    path = compiled(tmp_path / "unknown.so", marker("1.3.0") + nothing + stubs(EXPORTED))
    assert "its parameter layout is none that is known" in refusal(path)


def test_a_dependency_that_is_missing_is_named(tmp_path: Path) -> None:
    needed = compiled(tmp_path / "libneeded.so", "int needed(void) { return 1; }", "-Wl,-soname,libgomp.so.1-missing")
    source = marker("1.3.0") + stubs(EXPORTED) + "int needed(void); int use(void) { return needed(); }"
    path = compiled(tmp_path / "needy.so", source, str(needed))
    needed.unlink()
    said = refusal(path)
    assert "needs libgomp.so.1-missing, which is missing on this machine" in said


def test_a_refusal_tells_clients_not_to_repeat(tmp_path: Path) -> None:
    with pytest.raises(LibraryUnusable) as caught:
        Library.open(tmp_path / "none.so")
    assert caught.value.should_retry is False
