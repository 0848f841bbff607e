"""The commands against a live server on the scripted runtime, and a hub on a loopback port."""

import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from rkllama_flask.cli.__main__ import main
from rkllama_flask.cli.output import harmless, left, size
from tests.conftest import scripted_library
from tests.hub import Hub, serve_hub
from tests.serving import ROOT, Server, start_server

REPO = "org/Tiny-1B-rk3588-w8a8"

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with serve_hub() as hub:
        hub.repos = {REPO: {"Tiny-1B-rk3588-w8a8.rkllm": b"load_ms=0\n" + b"#" * 5000, "config.json": b"{}"}}
        yield hub


@pytest.fixture(scope="module")
def server(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("cli")
    env = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf"), "NPU_PLATFORM": "rk3588", "NO_PROXY": "127.0.0.1"}
    server = start_server(folder, library=scripted_library("1.3"), env=env)
    yield server
    server.stop()


@pytest.fixture
def rkllama(server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command with something in a pipe: its exit code, output, and errors."""

    def run(*arguments: str, piped: str = "", url: str = server.url) -> tuple[int, str, str]:
        monkeypatch.setenv("RKLLAMA_URL", url)
        monkeypatch.setattr("sys.stdin", io.StringIO(piped))
        capsys.readouterr()
        code = main(list(arguments))
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


def on_terminal(server: Server, *arguments: str, typed: str = "", until: str = "") -> str:
    """Run a command on a terminal of its own; all that it showed. What is `typed` is sent at the first `until`."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 25, 100, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "rkllama_flask.cli", *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=ROOT,
        env=os.environ | {"RKLLAMA_URL": server.url, "TERM": "xterm"},
        start_new_session=True,
    )
    os.close(slave)
    shown = b""
    deadline = time.monotonic() + 30
    try:
        while time.monotonic() < deadline:
            if not select.select([master], [], [], 0.1)[0]:
                continue
            try:
                shown += os.read(master, 4096)
            except OSError:  # the terminal's other end is closed
                break
            if typed and until.encode() in shown:
                os.write(master, typed.encode())
                typed = ""
    finally:
        process.kill()
        process.wait()
        os.close(master)
    return shown.decode().replace("\r\n", "\n")


# Models


def test_a_model_is_pulled_listed_shown_copied_and_deleted(rkllama: Command) -> None:
    code, output, _ = rkllama("pull", REPO)
    assert code == 0
    assert output.splitlines()[0] == "pulling manifest"
    assert output.splitlines()[-1] == "success"
    assert "\r" not in output
    assert rkllama("cp", "tiny-1b", "mine") == (0, "copied tiny-1b to mine\n", "")
    lines = rkllama("list")[1].splitlines()
    assert lines[0].split() == ["NAME", "SIZE", "PARAMETERS", "QUANTIZATION", "CONTEXT", "MODIFIED"]
    assert {line.split()[0] for line in lines[1:]} == {"mine:latest", "tiny-1b:latest", "scripted:latest"}
    assert "tiny-1b:latest   5.0 kB  1B          W8A8" in rkllama("list")[1]
    assert "quantization  W8A8" in rkllama("show", "tiny-1b")[1]
    assert rkllama("rm", "mine", "tiny-1b") == (0, "deleted mine\ndeleted tiny-1b\n", "")
    assert "tiny-1b" not in rkllama("list")[1]


def test_a_model_is_made_of_a_modelfile(rkllama: Command, tmp_path: Path) -> None:
    (tmp_path / "Modelfile").write_text("FROM scripted\nSYSTEM You are a pirate.\nPARAMETER temperature 0.5\n")
    code, output, _ = rkllama("create", "pirate", "-f", str(tmp_path / "Modelfile"))
    assert (code, output.splitlines()[-1]) == (0, "success")
    assert rkllama("show", "pirate", "--system")[1] == "You are a pirate.\n"
    assert "temperature" in rkllama("show", "pirate")[1]
    assert rkllama("create", "parrot", "-f", "-", piped="FROM scripted\nSYSTEM Squawk.\n")[0] == 0
    assert "SYSTEM Squawk." in rkllama("show", "parrot", "--modelfile")[1]
    assert rkllama("rm", "pirate", "parrot")[0] == 0


def test_files_that_a_modelfile_names_are_uploaded_once(rkllama: Command, tmp_path: Path, server: Server) -> None:
    (tmp_path / "own.rkllm").write_bytes(b"load_ms=0\n" + b"#" * 300_000)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 5}')
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "style.rkllm").write_bytes(b"lora")
    text = "FROM ./own.rkllm\nADAPTER lora/style.rkllm 0.5\nSYSTEM Squawk.\n"
    (tmp_path / "Modelfile").write_text(text)
    code, output, errors = rkllama("create", "own", "-f", str(tmp_path / "Modelfile"))
    assert (code, output.splitlines()[-1]) == (0, "success"), errors
    assert "uploading own.rkllm (300010 bytes)" in output
    assert 'ADAPTER "own/style.rkllm" 0.5' in rkllama("show", "own", "--modelfile")[1]
    folder = server.folder / "models" / "own"
    assert {path.name for path in folder.iterdir()} == {
        *("Modelfile", "own.rkllm", "generation_config.json", "style.rkllm")
    }
    again = rkllama("create", "own", "-f", str(tmp_path / "Modelfile"))[1]
    assert "uploading own.rkllm" not in again
    assert rkllama("run", "own", "<<script text=Squawk>>")[1] == "Squawk\n"
    rkllama("rm", "own")


def test_weights_alone_make_a_model(rkllama: Command, tmp_path: Path) -> None:
    (tmp_path / "alone v1.rkllm").write_text("load_ms=0")
    assert rkllama("create", "alone", "-f", str(tmp_path / "alone v1.rkllm"))[0] == 0
    assert rkllama("show", "alone", "--modelfile")[1].startswith("FROM ./alone/alone v1.rkllm")
    rkllama("rm", "alone")


def test_a_folder_of_several_models_says_so(rkllama: Command, tmp_path: Path) -> None:
    for name in ("a.rkllm", "b.rkllm"):
        (tmp_path / name).write_text("load_ms=0")
    code, _, errors = rkllama("create", "x", "-f", "-", piped=f"FROM {tmp_path}\n")
    assert (code, "holds 2 models" in errors) == (1, True)


def test_an_upload_on_a_terminal_draws_bars(server: Server, rkllama: Command, tmp_path: Path) -> None:
    (tmp_path / "large.rkllm").write_bytes(b"load_ms=0\n" + b"#" * 2_000_000)
    shown = on_terminal(server, "create", "large", "-f", str(tmp_path / "large.rkllm"))
    assert re.search(r"uploading large.rkllm: 100%.*2\.00M/2\.00M", shown)
    assert "success" in shown
    rkllama("rm", "large")


def test_what_is_loaded_is_listed_and_unloaded(rkllama: Command) -> None:
    rkllama("run", "scripted", "<<script text=Hi>>")
    lines = rkllama("ps")[1].splitlines()
    assert lines[0].split() == ["NAME", "SIZE", "ON", "CONTEXT", "STAYS"]
    assert re.match(r"scripted:latest +\S+ \S+ +NPU +4096 +[45]m \d+s", lines[1])
    assert rkllama("stop", "scripted") == (0, "Unloaded scripted.\n", "")
    assert len(rkllama("ps")[1].splitlines()) == 1


# Talking


def test_a_prompt_is_answered(rkllama: Command) -> None:
    assert rkllama("run", "scripted", "<<script text=Hello%20there>>") == (0, "Hello there\n", "")


def test_a_pipe_follows_the_prompt(rkllama: Command, server: Server) -> None:
    code, output, _ = rkllama("run", "scripted", "Summarise:", piped="<<script text=Short>>\n")
    assert (code, output) == (0, "Short\n")


def test_figures_are_told_if_wanted(rkllama: Command) -> None:
    _, output, errors = rkllama("run", "--verbose", "scripted", "<<script text=one%20two>>")
    assert output == "one two\n"
    assert re.search(r"prompt: \d+ tokens.*answer: 2 tokens.* s in all", errors)


def test_a_model_that_is_not_here_is_pulled_by_its_repository(rkllama: Command) -> None:
    code, output, _ = rkllama("run", REPO, "<<script text=Hello>>")
    assert code == 0
    assert output.splitlines()[-2:] == ["success", "Hello"]
    assert rkllama("run", REPO, "<<script text=Again>>")[1] == "Again\n"
    rkllama("rm", REPO)


def test_a_prompt_may_stand_behind_options(rkllama: Command) -> None:
    assert rkllama("run", "scripted", "--system", "Be brief.", "<<script", "text=Yes>>")[:2] == (0, "Yes\n")
    for wrong in (("run", "scripted", "--system", "Be brief.", "Why?", "--nothing"), ("list", "--wide", "Why?")):
        with pytest.raises(SystemExit, match="2"):
            rkllama(*wrong)


def test_a_conversation_goes_on_until_the_user_leaves(server: Server) -> None:
    shown = on_terminal(
        server,
        *("run", "scripted"),
        typed='<<script text=First>>\n/clear\n"""\n<<script text=Second>>\n"""\n/?\n/bye\n',
        until=">>> ",
    )
    assert shown.count(">>> ") >= 5
    assert "\nFirst\n" in shown
    assert "\nSecond\n" in shown
    assert "/clear   forget what was said" in shown


def test_what_a_model_says_can_not_command_the_terminal(server: Server) -> None:
    shown = on_terminal(server, "run", "scripted", typed="<<script text=a%1b]0;title%07b>>\n/bye\n", until=">>> ")
    assert "a]0;titleb" in shown


def test_thoughts_are_dimmed_on_a_terminal_and_left_out_of_a_pipe(server: Server, rkllama: Command) -> None:
    prompt = "<<script text=%3Cthink%3Ewell%3C/think%3EYes>>"
    assert rkllama("run", "scripted", prompt)[1].strip() == "Yes"
    shown = on_terminal(server, "run", "scripted", typed=f"{prompt}\n/bye\n", until=">>> ")
    assert re.search("\x1b\\[2mwell\\s*\x1b\\[0m\n\nYes", shown)


def test_a_pull_on_a_terminal_draws_bars(server: Server, rkllama: Command) -> None:
    shown = on_terminal(server, "pull", REPO)
    assert re.search(r"pulling [0-9a-f]{12}: 100%.*5\.01k/5\.01k", shown)
    assert "success" in shown
    rkllama("rm", "tiny-1b")


# What goes wrong


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("run", "nothing", "x"), "There is no model 'nothing' here. `list` shows what there is; `pull org/repo`"),
        (("run", "scripted"), "There is nothing to say"),
        (("show", "nothing"), "model 'nothing:latest' not found"),
        (("rm", "nothing"), "model 'nothing' not found"),
        (("rm", "../x"), "is invalid"),
        (("pull", "org/nothing"), "pull model manifest: file does not exist"),
        (("create", "x", "-f", "/nowhere/Modelfile"), "/nowhere/Modelfile can't be read"),
        (("create", "x", "-f", "-"), "neither 'from' or 'files' was specified"),
        (("create", "x", "-f", str(ROOT / "README.md")), "The Modelfile is wrong: line 3"),
    ],
)
def test_an_error_says_what_to_do(arguments: tuple[str, ...], sentence: str, rkllama: Command) -> None:
    code, _, errors = rkllama(*arguments)
    assert code == 1
    assert errors.startswith("rkllama: ")
    assert sentence in errors


def test_without_a_server_it_says_how_to_start_one(rkllama: Command) -> None:
    code, _, errors = rkllama("list", url="127.0.0.1:9")
    assert (code, errors) == (
        1,
        "rkllama: There is no server at http://127.0.0.1:9. Start it with scripts/serve, or say where it is with "
        "--server or RKLLAMA_URL.\n",
    )


def test_another_program_at_that_place_is_noticed(rkllama: Command, hub: Hub) -> None:
    assert rkllama("list", url=hub.url)[0] == 1


def test_a_server_that_wants_a_key_gets_it(
    serve: Callable[..., Server], rkllama: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = serve(API_KEYS="secret")
    code, _, errors = rkllama("list", url=locked.url)
    assert code == 1
    assert "RKLLAMA_API_KEY" in errors
    monkeypatch.setenv("RKLLAMA_API_KEY", "secret")
    assert rkllama("list", url=locked.url)[0] == 0


def test_the_server_is_found_by_its_own_settings(
    server: Server, rkllama: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOST", "0.0.0.0")
    monkeypatch.setenv("PORT", str(server.port))
    assert rkllama("list", url="")[0] == 0


@pytest.mark.parametrize("command", ["", "list", "pull", "show", "ps", "run", "rm", "cp", "create", "stop"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*([command] if command else []), "--help"])
    assert ended.value.code == 0
    assert "usage: rkllama" in capsys.readouterr().out


def test_the_script_runs_from_anywhere(server: Server, tmp_path: Path) -> None:
    (tmp_path / "Modelfile").write_text("FROM scripted\nSYSTEM from here\n")
    script, env = str(ROOT / "scripts" / "rkllama"), os.environ | {"RKLLAMA_URL": server.url}
    for arguments in (["create", "here"], ["show", "here", "--system"], ["rm", "here"]):
        done = subprocess.run([script, *arguments], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] in ("success", "from here", "deleted here")


# Small things


def test_sizes_and_times_are_for_people() -> None:
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    assert [size(count) for count in (7, 5_010, 90_300_000, 1_340_000_000)] == ["7 B", "5.0 kB", "90.3 MB", "1.3 GB"]
    spans = [timedelta(seconds=250), timedelta(hours=3, minutes=5), timedelta(seconds=-5), timedelta(days=100_000)]
    assert [left((now + span).isoformat(), now) for span in spans] == ["4m 10s", "3h 5m", "0m 0s", "for ever"]


def test_harmless_text_has_lines_and_no_commands() -> None:
    assert harmless("a\tb\nc\x1b[31m\x07\x9bd\u00e9") == "a\tb\nc[31md\u00e9"
