import os
from dataclasses import replace
from pathlib import Path

import pytest

from rkllama_flask.catalog.catalog import Catalog
from rkllama_flask.catalog.check import Check, check, toolkit_version
from rkllama_flask.catalog.model import Model
from tests.catalog.gguf_files import write_llama

NOW = 2_000_000_000.0


def proc(models: Path, *, total_mib: int = 8192, available_mib: int = 4096) -> Path:
    folder = models / ".proc"
    folder.mkdir(exist_ok=True)
    (folder / "meminfo").write_text(f"MemTotal:  {total_mib * 1024} kB\nMemAvailable:  {available_mib * 1024} kB\n")
    return folder


def model(models: Path, catalog: Catalog, name: str, content: bytes = b"\x8c\x1d\x02\x17\x03\0\0\0") -> Model:
    (models / name).write_bytes(content)
    os.utime(models / name, (NOW - 100, NOW - 100))
    catalog.refresh()
    return catalog.find(Path(name).stem)


def test_nothing_speaks_against_an_ordinary_model(models: Path, catalog: Catalog) -> None:
    ordinary = model(models, catalog, "m-rk3588-w8a8.rkllm")
    assert check(ordinary, now=NOW, soc="rk3588s", runtime="1.2.3", proc=proc(models)) == Check()
    gguf = write_llama(models / "g.gguf")
    os.utime(gguf, (NOW - 100, NOW - 100))
    catalog.refresh()
    assert check(catalog.find("g"), now=NOW, soc="RK3588", runtime="1.2.3", proc=proc(models)) == Check()


def test_a_missing_file_of_a_split_model_is_named(models: Path, catalog: Catalog) -> None:
    write_llama(models / "m-00003-of-00003.gguf")
    first = write_llama(models / "m-00001-of-00003.gguf")
    found = check(catalog.find("m"), now=NOW, proc=proc(models))
    assert first.exists()
    assert found.blocking == (
        "This model is split into 3 files, and m-00002-of-00003.gguf is not here: fetch it again, or copy it."
    )


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git lfs pull"),
        (b"<!DOCTYPE html>\n<html>", "download the file itself"),
        (b"\n <html><body>", "download the file itself"),
    ],
)
def test_what_is_no_model_at_all_is_refused_with_advice(
    models: Path, catalog: Catalog, content: bytes, advice: str
) -> None:
    found = check(model(models, catalog, "m.rkllm", content), now=NOW, proc=proc(models))
    assert found.blocking is not None
    assert advice in found.blocking


def test_a_gguf_file_that_ends_too_early_is_refused(models: Path, catalog: Catalog) -> None:
    whole = write_llama(models / ".whole").read_bytes()
    found = check(model(models, catalog, "m.gguf", whole[:-300]), now=NOW, proc=proc(models))
    assert found.blocking is not None
    assert "not finished" in found.blocking


@pytest.mark.parametrize(
    ("name", "content"), [("a.rkllm", b"GGUF\x03\0\0\0"), ("a.gguf", b"\x8c\x1d\x02"), ("a.rkllm", b"")]
)
def test_content_that_does_not_fit_the_ending_only_warns(
    models: Path, catalog: Catalog, name: str, content: bytes
) -> None:
    found = check(model(models, catalog, name, content), now=NOW, proc=proc(models))
    assert found.blocking is None
    assert len(found.warnings) == 1


def test_a_file_that_is_gone_is_a_sentence(models: Path, catalog: Catalog) -> None:
    gone = model(models, catalog, "m.rkllm")
    gone.path.unlink()
    found = check(gone, now=NOW, proc=proc(models))
    assert found.blocking == "m.rkllm can't be read: No such file or directory"


def test_a_file_changed_just_now_may_still_be_being_copied(models: Path, catalog: Catalog) -> None:
    found = check(model(models, catalog, "m.rkllm"), now=NOW - 99, proc=proc(models))
    assert found.blocking is None
    assert "being copied" in found.warnings[0]


@pytest.mark.parametrize(
    ("name", "soc", "says"),
    [
        ("m-rk3576.rkllm", "RK3588", "RK3576"),
        ("m-rk3588-w4a16.rkllm", "RK3588", "RK3588 runs W8A8"),
        ("m-rk3576-w8a8.rkllm", "rk3576", None),
        ("m-rv1126b-w4a16_g32.rkllm", "RV1126B", None),
        ("m-rk3576.rkllm", None, None),
        ("m-w4a16.rkllm", "RK9999", None),
    ],
)
def test_what_a_name_says_of_the_platform_only_warns(
    models: Path, catalog: Catalog, name: str, soc: str | None, says: str | None
) -> None:
    found = check(model(models, catalog, name), now=NOW, soc=soc, proc=proc(models))
    assert found.blocking is None
    assert len(found.warnings) == (says is not None)
    assert says is None or says in found.warnings[0]


def test_weights_larger_than_the_memory_are_refused_on_the_npu_only(models: Path, catalog: Catalog) -> None:
    small = model(models, catalog, "m.rkllm")
    large = replace(small, size=6 << 30)
    machine = proc(models, total_mib=4096, available_mib=3000)
    blocking = check(large, now=NOW, proc=machine).blocking
    assert blocking is not None
    assert "6.0 GiB" in blocking
    assert check(replace(large, format="gguf"), now=NOW, proc=machine).blocking is None
    assert check(replace(small, size=3500 << 20), now=NOW, proc=machine).warnings
    assert check(large, now=NOW, proc=models / "nowhere") == Check()


@pytest.mark.parametrize(
    ("made", "runtime", "blocked", "warned"),
    [
        ("1.3.0", "1.2.3", True, False),
        ("1.2.3", "1.2.1", False, True),
        ("1.2.1", "1.2.3", False, False),
        ("1.3.1", "1.3.0", False, True),
        ("1.2.3", "1.3.0", False, True),
        ("1.2.3", "1.3.1", False, False),
        ("1.3.1", None, False, False),
        ("unknown", "1.2.3", False, False),
    ],
)
def test_the_toolkit_is_compared_with_the_runtime(
    models: Path, catalog: Catalog, made: str, runtime: str | None, blocked: bool, warned: bool
) -> None:
    content = b"\x8c" * 5000 + f"rkllm-toolkit version: {made}".encode()
    found = check(model(models, catalog, "m.rkllm", content), now=NOW, runtime=runtime, proc=proc(models))
    assert (found.blocking is not None, bool(found.warnings)) == (blocked, warned)


@pytest.mark.parametrize(
    ("name", "runtime", "warned"),
    [
        ("m-rkllm1.1.4.rkllm", "1.2.3", False),
        ("m-rkllm1.1.4.rkllm", "1.3.1", True),
        ("m-rkllm-1.0.rkllm", "1.2.3", True),
        ("m-toolkit-1.3.1.rkllm", "1.2.3", True),
        ("m-toolkit-1.2.1.rkllm", "1.2.3", False),
    ],
)
def test_a_toolkit_that_only_the_name_tells_only_warns(
    models: Path, catalog: Catalog, name: str, runtime: str, warned: bool
) -> None:
    found = check(model(models, catalog, name), now=NOW, runtime=runtime, proc=proc(models))
    assert (found.blocking, bool(found.warnings)) == (None, warned)


def test_a_known_end_token_makes_an_older_model_safe_on_runtime_1_3_0(models: Path, catalog: Catalog) -> None:
    (models / "m").mkdir()
    weights = models / "m" / "w.rkllm"
    weights.write_bytes(b"\x8c" * 50 + b"rkllm-toolkit version: 1.2.3")
    (models / "m" / "Modelfile").write_text("PARAMETER eos 151645\n")
    os.utime(weights, (NOW - 100, NOW - 100))
    assert toolkit_version(weights) == (1, 2, 3)
    assert check(catalog.find("m"), now=NOW, runtime="1.3.0", proc=proc(models)) == Check()
