import os
from pathlib import Path

import pytest

from rkllama_flask.inference_config import LiveConfig, parse
from tests.serving import ROOT

SEED_EXAMPLE = """{
  "inference_params": {"top_k": 20, "top_p": 0.95, "temperature": 0.6, "repeat_penalty": 0.9},
  "hardware": {
    "num_npu_cores": 3,
    "enabled_cpus_mask": 240,  // 0xF0 = big cores 4-7
    "num_threads": 4
  }
}"""


def test_comments_are_read_over_and_every_key_arrives() -> None:
    config = parse(SEED_EXAMPLE)
    assert config.sampling.said() == {"top_k": 20, "top_p": 0.95, "temperature": 0.6, "repeat_penalty": 0.9}
    assert (config.cpus, config.npu_cores) == ((4, 5, 6, 7), 3)


def test_slashes_and_commas_within_strings_are_no_comments() -> None:
    with pytest.raises(ValueError, match="'http://x,}' is not a section"):
        parse('{"http://x,}": {}}')


def test_the_file_as_shipped_says_nothing() -> None:
    config = parse((ROOT / "conf" / "inference_config.json").read_text())
    assert config == parse("{}")


def test_a_comma_left_after_the_last_value_is_no_error() -> None:
    assert parse('{"inference_params": {"top_k": 1, // the rest is off\n }, }').sampling.top_k == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"inference_params": {"top_k": "20"}}', "top_k must be a whole number"),
        ('{"inference_params": {"top_p": 2}}', "top_p must be a number from 0 to 1"),
        ('{"inference_params": {"temperature": true}}', "temperature must be a number"),
        ('{"inference_params": {"tmperature": 1}}', "'tmperature' is not known"),
        ('{"hardware": {"enabled_cpus_mask": 240, "num_threads": 3}}', "enables 4 CPUs"),
        ("[]", "one JSON object"),
        ("{", "Expecting"),
    ],
)
def test_a_wrong_value_is_named(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse(text)


class Edited:
    """A live file, edited two seconds after each other; `warnings` are what its reader was told."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._path = path
        self._now = 0.0
        self.warnings: list[str] = []
        monkeypatch.setattr("rkllama_flask.inference_config.time.monotonic", lambda: self._now)
        self.live = LiveConfig(path, on_warning=self.warnings.append)

    def later(self) -> None:
        self._now += 2

    def edit(self, text: str) -> None:
        self.later()
        self._path.write_text(text)
        os.utime(self._path, (self._now, self._now))


@pytest.fixture
def edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Edited:
    return Edited(tmp_path / "config.json", monkeypatch)


def test_an_edit_acts_and_a_broken_one_keeps_the_last_good_values(edited: Edited) -> None:
    live = edited.live
    assert live.current() == parse("{}")
    edited.edit('{"inference_params": {"top_k": 7}}')
    assert live.current().sampling.top_k == 7
    edited.edit('{"inference_params": {"top_k": }}')
    assert live.error is not None
    assert "config.json" in live.error
    assert live.current().sampling.top_k == 7
    edited.edit('{"inference_params": {"top_k": 9}}')
    assert (live.error, live.current().sampling.top_k) == (None, 9)


def test_each_fault_of_the_file_is_told_once(edited: Edited) -> None:
    for broken in ('{"inference_params": 1}', '{"hardware": 1}'):
        edited.edit(broken)
        for _ in range(3):
            edited.later()
            edited.live.current()
    assert len(edited.warnings) == 2
    edited.edit("{}")
    edited.live.current()
    edited.edit('{"hardware": 1}')
    edited.live.current()
    assert edited.warnings[1:] == [edited.live.error] * 2


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 100_000, b""])
def test_no_content_of_the_file_is_more_than_a_warning(edited: Edited, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    assert edited.live.current() == parse("{}")
    assert len(edited.warnings) == 1
