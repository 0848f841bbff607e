"""The header's layout is the reference's, and a library can be told by what the server looks at."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from native import build
from tests.native.driver import TABLES, Runtime, Struct
from tests.serving import ROOT

SUFFIXES = {"1.3": "", "1.2": "-1.2", "1.3.1": "-1.3.1"}
EXPORTS = """abort clear_kv_cache createDefaultParam destroy get_kv_cache_size init is_running load_lora
    load_prompt_cache release_prompt_cache run run_async set_chat_template set_cross_attn_params set_function_tools"""


@pytest.mark.parametrize("version", SUFFIXES)
def test_every_size_and_offset_is_the_references(version: str) -> None:
    compiled = json.loads(subprocess.check_output([build.build("probe", SUFFIXES[version])]))
    assert compiled == TABLES[version]


def test_the_defaults_are_those_of_the_real_library(fresh: Callable[[], Runtime], family: str) -> None:
    param = fresh().default_param()
    ints = {"max_context_len": 512, "max_new_tokens": -1, "top_k": 40, "n_keep": -1, "mirostat": 0}
    floats = {"top_p": 0.9, "temperature": 0.8, "repeat_penalty": 1.1, "mirostat_tau": 5.0, "mirostat_eta": 0.1}
    assert {name: param.read(name, "i") for name in ints} == ints
    assert {name: param.read(name, "f") for name in floats} == pytest.approx(floats)
    assert (param.read("skip_special_token", "B"), param.read("is_async", "B")) == (1, 0)
    extend = Struct(family, "RKLLMExtendParam", param.address + param.layout["fields"]["extend_param"][0])
    assert [extend.read(name, "b") for name in ("embed_flash", "enabled_cpus_num", "n_batch")] == [1, 4, 1]
    eight = (os.cpu_count() or 1) >= 8
    assert extend.read("enabled_cpus_mask", "I") == (0xF0 if eight else 0x0F)
    if family == "1.2":
        assert all(param.read(tag, "Q") for tag in ("img_start", "img_end", "img_content"))


def test_the_file_names_its_version_and_has_a_name_of_its_own(library: Path, family: str) -> None:
    content = library.read_bytes()
    version = {"1.2": b"1.2.3", "1.3": b"1.3.0"}[family]
    assert b"RKLLM SDK (version: " + version + b" | target: Linux | build: scripted)" in content
    assert b"\0" + library.name.encode() + b"\0" in content


def test_all_functions_of_the_header_are_exported(fresh: Callable[[], Runtime]) -> None:
    runtime = fresh()
    assert all(hasattr(runtime.library, f"rkllm_{name}") for name in EXPORTS.split())


def test_every_function_answers_a_null_handle_with_failure(fresh: Callable[[], Runtime]) -> None:
    library = fresh().library
    with_a_handle = set(EXPORTS.split()) - {"createDefaultParam", "init"}
    assert {name: library[f"rkllm_{name}"](None, None, None, None) for name in with_a_handle} == dict.fromkeys(
        with_a_handle, -1
    )


def test_an_empty_folder_is_filled_and_what_is_up_to_date_stays(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "BUILD", tmp_path / "build")
    library = build.build("scripted", SUFFIXES[family])
    built = library.stat()
    assert library.parent == tmp_path / "build"
    assert build.build("scripted", SUFFIXES[family]).stat() == built
    monkeypatch.setenv("CC", "cc -g")
    assert build.build("scripted", SUFFIXES[family]).stat().st_ino != built.st_ino


def test_what_the_compiler_says_is_the_reason_of_a_failed_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "BUILD", tmp_path)
    monkeypatch.setenv("CC", "cc --no-such-option")
    with pytest.raises(build.BuildFailed, match="no-such-option"):
        build.build("scripted", "")
    assert list(tmp_path.iterdir()) == []


def test_every_key_of_the_script_is_in_the_table_at_the_head_of_the_source() -> None:
    source = ROOT / "native"
    keys = set(re.findall(r"^    (?:KEY|CHOICE|FAULT)\((\w+)", (source / "scripted_script.c").read_text(), re.M))
    rows = re.findall(r"^ \* \| ([a-z_, ]+) \|", (source / "scripted_runtime.c").read_text(), re.M)
    told = {key for row in rows for key in row.split(", ")} - {"key"}
    assert keys - {"reason"} == told
    assert "`reason`" in (source / "scripted_runtime.c").read_text()
