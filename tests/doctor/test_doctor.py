"""scripts/doctor on folders that look like boards, and with servers that run, crash or are missing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rkllama_flask.doctor.__main__ import main
from rkllama_flask.doctor.trial import generate
from rkllama_flask.settings import Settings
from tests import boards
from tests.conftest import scripted_library
from tests.serving import Server

Examine = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def examine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Examine:
    """Run the doctor on a root, as a user without rights, with one good model and settings of one's own."""
    (tmp_path / "models").mkdir()
    weights = boards.write(tmp_path, "models/m-rk3588-w8a8.rkllm", "load_ms=0")
    settings = {
        "MODELS_DIR": str(weights.parent),
        "CACHE_DIR": str(tmp_path / "cache"),
        "NPU_LOCK": str(tmp_path / "lock"),
        "RKLLM_LIB_PATH": str(scripted_library("1.3")),
        "PORT": "0",
    }

    def run(root: Path, *arguments: str, **env: str) -> tuple[int, dict[str, Any]]:
        for name, value in (settings | env).items():
            monkeypatch.setenv(name, value)
        code = main(["--json", "--root", str(root), "--user", "nobody", *arguments])
        return code, json.loads(capsys.readouterr().out)

    return run


def levels(report: dict[str, Any]) -> dict[str, str]:
    """The worst of each subject."""
    order = ["ok", "note", "warning", "error"]
    worst: dict[str, str] = {}
    for one in report["findings"]:
        worst[one["subject"]] = max(one["level"], worst.get(one["subject"], "ok"), key=order.index)
    return worst


def test_a_good_board_is_well(examine: Examine, tmp_path: Path) -> None:
    code, report = examine(boards.board(tmp_path / "root", device_mode=0o666))
    worst = levels(report)
    worst.pop("models")  # written just now, so it may still be being copied
    assert set(worst.values()) == {"ok"}, report
    assert (code, report["ok"]) == (0, True)


@pytest.mark.parametrize(
    ("fault", "subject", "level", "advice"),
    [
        ({"driver": "0.8.2"}, "driver", "error", "vendor image"),
        ({"driver": "0.9.2"}, "driver", "warning", "vendor image"),
        ({"driver": "0.9.7"}, "driver", "note", "0.9.8"),
        ({"driver": None}, "driver", "error", "modprobe rknpu"),
        ({"device_mode": 0o600}, "devices", "error", "step 2"),
        ({"governor": "powersave"}, "clocks", "warning", "scripts/clocks fix"),
        ({"governor": "ondemand"}, "clocks", "note", "scripts/clocks fix"),
        ({"chip": "rk3576"}, "models", "warning", "made for RK3588"),
    ],
)
def test_what_is_wrong_with_a_board_is_told_with_what_to_do(
    examine: Examine, tmp_path: Path, fault: dict[str, Any], subject: str, level: str, advice: str
) -> None:
    code, report = examine(boards.board(tmp_path / "root", **({"device_mode": 0o666} | fault)))
    assert levels(report)[subject] == level
    assert any(advice in one["do"] for one in report["findings"] if one["subject"] == subject), report
    assert code == (1 if level == "error" else 0)


def test_the_most_important_comes_first(examine: Examine, tmp_path: Path) -> None:
    root = boards.board(tmp_path / "root", driver="0.8.2", governor="powersave", device_mode=0o666)
    _, report = examine(root, CACHE_DIR="cache", HOST="0.0.0.0")
    order = [next(one for one in report["findings"] if one["do"] == do)["level"] for do in report["todo"]]
    assert order == sorted(order, key=["error", "warning", "note"].index)
    assert "vendor image" in report["todo"][0]
    assert any("API_KEYS" in do for do in report["todo"])


def test_a_mainline_kernel_is_named_as_what_it_is(examine: Examine, tmp_path: Path) -> None:
    root = boards.board(tmp_path / "root", driver=None)
    boards.write(root, "sys/bus/platform/drivers/rocket/uevent", "")
    _, report = examine(root)
    assert any("rocket" in one["says"] for one in report["findings"])


def test_a_laptop_needs_no_npu(examine: Examine, tmp_path: Path) -> None:
    code, report = examine(boards.laptop(tmp_path / "root"), RKLLM_LIB_PATH="", MODELS_DIR=str(tmp_path / "none"))
    assert code == 0
    assert levels(report)["chip"] == "note"
    assert levels(report)["CPU runtime"] == "ok"
    assert "scripts/serve brings a small one" in report["todo"][0]


@pytest.mark.parametrize(
    ("content", "advice"),
    [(b"version https://git-lfs.github.com", "git lfs pull"), (b"\x7fELF", "shared library"), (None, "RKLLM_LIB_PATH")],
)
def test_a_library_that_is_none_is_an_error(
    examine: Examine, tmp_path: Path, content: bytes | None, advice: str
) -> None:
    library = tmp_path / "librkllmrt.so"
    if content is not None:
        library.write_bytes(content)
    code, report = examine(boards.board(tmp_path / "root"), RKLLM_LIB_PATH=str(library))
    assert code == 1
    assert any(advice in do for do in report["todo"]), report


def test_wrong_settings_and_configuration_are_told(examine: Examine, tmp_path: Path) -> None:
    config = boards.write(tmp_path, "config.json", '{"hardware": {"num_threads": 99}}')
    code, report = examine(boards.laptop(tmp_path / "root"), INFERENCE_CONFIG=str(config), DEFAULT_MODEL="nowhere")
    assert code == 1
    assert any("num_threads" in do for do in report["todo"])
    assert any("DEFAULT_MODEL" in do for do in report["todo"])
    code, report = examine(boards.laptop(tmp_path / "root"), MAX_QUEUE="none")
    assert code == 1
    assert any("MAX_QUEUE" in do for do in report["todo"])


def test_a_configuration_that_is_not_there_is_not_called_right(examine: Examine, tmp_path: Path) -> None:
    _, report = examine(boards.laptop(tmp_path / "root"), INFERENCE_CONFIG=str(tmp_path / "config.json"))
    assert levels(report)["configuration"] == "note"


def test_models_that_share_a_memory_domain_are_counted_together(examine: Examine, tmp_path: Path) -> None:
    for name in ("a.rkllm", "b.rkllm"):
        with boards.write(tmp_path, f"models/{name}", "").open("wb") as file:
            file.truncate(3 << 30)
    _, report = examine(boards.board(tmp_path / "root"), MAX_LOADED_MODELS="2")
    assert levels(report)["memory"] == "warning"


def test_an_address_that_another_program_has_is_told(examine: Examine, tmp_path: Path, scripted: Server) -> None:
    _, report = examine(boards.laptop(tmp_path / "root"), PORT=str(scripted.port))
    assert any("the server runs" in one["says"] for one in report["findings"])
    code, report = examine(boards.laptop(tmp_path / "root"), HOST="192.0.2.1")
    assert code == 1
    assert levels(report)["address"] == "error"


def test_people_read_lines_and_no_colours_in_a_pipe(
    examine: Examine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = boards.board(tmp_path / "root", driver="0.8.2")
    examine(root)
    assert main(["--root", str(root), "--user", "nobody"]) == 1
    shown = capsys.readouterr().out
    assert "ERROR    driver" in shown
    assert " 1. Install a vendor image" in shown
    assert shown.endswith("It can't work like this.\n")
    assert "\x1b" not in shown


def settings(monkeypatch: pytest.MonkeyPatch, folder: Path, **env: str) -> Settings:
    for name, value in ({"NPU_LOCK": str(folder / "lock"), "CACHE_DIR": str(folder / "cache")} | env).items():
        monkeypatch.setenv(name, value)
    return Settings.from_environment()


def test_a_running_server_is_asked_for_five_tokens(
    scripted: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = settings(monkeypatch, tmp_path, PORT=str(scripted.port), MODELS_DIR=str(scripted.folder / "models"))
    found = generate(asked, scripted.get("/health").json())
    assert found.level.value == "ok", found
    assert "5 tokens from scripted by the running server" in found.says


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("load_ms=0", "5 tokens from m by a process of its own"),
        ("segv=2", "SIGSEGV"),
        ("fail_init=invalid%20rkllm%20model!", "answers 422"),
    ],
)
def test_without_a_server_a_child_generates_so_that_a_crash_is_a_sentence(
    model: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boards.write(tmp_path, "models/m.rkllm", model)
    library = str(scripted_library("1.3"))
    found = generate(settings(monkeypatch, tmp_path, MODELS_DIR=str(tmp_path / "models"), RKLLM_LIB_PATH=library), None)
    assert says in found.says, found
    assert not (tmp_path / "cache").exists()


def test_a_model_for_embeddings_alone_is_not_asked_for_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boards.write(tmp_path, "models/bge-small.rkllm", "load_ms=0")
    library = str(scripted_library("1.3"))
    asked = settings(monkeypatch, tmp_path, MODELS_DIR=str(tmp_path / "models"), RKLLM_LIB_PATH=library)
    assert generate(asked, None).says == "not tried: there is no model that chats"
    found = generate(asked, {"models": [{"name": "bge-small"}]})
    assert (found.level.value, found.says) == ("note", "not tried: what is loaded makes embeddings")
    boards.write(tmp_path, "models/m.rkllm", "load_ms=0\n# the larger of the two")
    assert "5 tokens from m " in generate(asked, None).says
