"""What an operator got wrong is said in a sentence that names the setting and what to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rkllama_flask.settings import Settings, SettingsError
from tests.serving import ROOT


def complaint(monkeypatch: pytest.MonkeyPatch, root: Path, name: str, value: str) -> str:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(root).make_folders()
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "99999", "less than or equal to 65535"),
        ("PORT", "http", "Not a valid integer"),
        ("MAX_BODY_BYTES", "1e6", "Not a valid integer"),
        ("REQUEST_TIMEOUT", "nan", "not permitted"),
        ("QUEUE_TIMEOUT", "0", "greater than 0"),
        ("RATE_LIMIT", "-1", "greater than or equal to 0"),
        ("CLIENT_TIMEOUT", "0", "greater than or equal to 1"),
        ("LOG_LEVEL", "loud", "debug, info, warning, error"),
    ],
)
def test_a_value_out_of_range_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str, said: str
) -> None:
    sentence = complaint(monkeypatch, tmp_path, name, value)
    assert f'"{name}" invalid: ' in sentence
    assert said in sentence
    assert sentence.endswith(".")
    assert "[" not in sentence


def test_keys_come_from_the_environment_and_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("third\n\n  fourth  \n")
    monkeypatch.setenv("API_KEYS", "first, second,")
    monkeypatch.setenv("API_KEYS_FILE", "keys")
    assert Settings.from_environment(tmp_path).api_keys == ("first", "second", "third", "fourth")


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file"), ("folder", "Is a directory"), (b"\xff\xfe", "not UTF-8"), (b"\n \n", "holds no key")],
)
def test_a_file_of_keys_that_holds_none_leaves_no_server_open_to_everybody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | str | None, said: str
) -> None:
    if content == "folder":
        (tmp_path / "keys").mkdir()
    elif isinstance(content, bytes):
        (tmp_path / "keys").write_bytes(content)
    sentence = complaint(monkeypatch, tmp_path, "API_KEYS_FILE", "keys")
    assert f"API_KEYS_FILE={tmp_path / 'keys'}" in sentence
    assert said in sentence


@pytest.mark.parametrize("place", ["nowhere", "keys"])
def test_a_named_file_of_settings_that_cannot_be_read_is_not_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    (tmp_path / "keys").mkdir()
    assert complaint(monkeypatch, tmp_path, "ENV_FILE", place).startswith(f"ENV_FILE={tmp_path / place} can't be read")


@pytest.mark.parametrize("place", ["/dev/null", "/proc/nowhere"])
def test_without_a_folder_of_models_there_is_no_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    assert complaint(monkeypatch, tmp_path, "MODELS_DIR", place).startswith(f"MODELS_DIR={place} can't be read: ")


def test_without_a_folder_for_caches_there_are_none_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CACHE_DIR", "/proc/nowhere")
    said = Settings.from_environment(tmp_path).make_folders()
    assert said is not None
    assert said.startswith("CACHE_DIR=/proc/nowhere can't be written: ")
    assert "No prompt cache is kept" in said


def test_the_server_ends_with_the_sentence_and_nothing_else(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py"],
        cwd=ROOT,
        env=os.environ | {"API_KEYS_FILE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("rkllama-flask can't start: API_KEYS_FILE=")
    assert done.stderr.count("\n") == 1
