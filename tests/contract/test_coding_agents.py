"""Coding agents do a whole task on the server: read, edit, run, look at a picture, answer.

They are not installed by the tests. `npm install --prefix FOLDER @anthropic-ai/claude-code @openai/codex opencode-ai`,
then `CODING_AGENTS=FOLDER/node_modules/.bin` for pytest. `unshare -rn sh -c 'ip link set lo up; exec "$@"' -` in front
of pytest leaves them no network but loopback.

The scripted runtime plays the model by what has come: each file, and what a command prints, tells it the next call.
"""

import json
import os
import shutil
import subprocess
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from tests.native import journal
from tests.serving import Server

FOLDER = os.environ.get("CODING_AGENTS", "")
MODEL = "qwen3-16k"
ANSWER = "The program says goodbye now, and the picture is red."


class Agent(NamedTuple):
    """A program: its settings for a server at a URL, with `home` as its home folder, and how it does each thing."""

    program: str
    arguments: tuple[str, ...]
    set_up: Callable[[str, Path], Mapping[str, str]]
    read: Callable[[Path], dict[str, Any]]
    edit: Callable[[Path, str, str], dict[str, Any]]
    run: Callable[[str], dict[str, Any]]
    look: Callable[[Path], dict[str, Any]]


def set_up_claude(url: str, home: Path) -> Mapping[str, str]:
    return {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_AUTH_TOKEN": "any",
        "ANTHROPIC_MODEL": MODEL,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": MODEL,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }


def set_up_codex(url: str, home: Path) -> Mapping[str, str]:
    (home / ".codex").mkdir()
    (home / ".codex" / "config.toml").write_text(f"""
model = "{MODEL}"
model_provider = "board"
model_context_window = 16384
check_for_update_on_startup = false

[model_providers.board]
name = "board"
base_url = "{url}/v1"
wire_api = "responses"

[analytics]
enabled = false
""")
    return {}


def set_up_opencode(url: str, home: Path) -> Mapping[str, str]:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": f"{url}/v1", "apiKey": "any"},
        "models": {MODEL: {"limit": {"context": 16384, "output": 2000}}},
    }
    folder = home / ".config" / "opencode"
    folder.mkdir(parents=True)
    (folder / "opencode.json").write_text(
        json.dumps({"provider": {"board": provider}, "model": f"board/{MODEL}", "permission": {"*": "allow"}})
    )
    switches = ("MODELS_FETCH", "AUTOUPDATE", "DEFAULT_PLUGINS", "LSP_DOWNLOAD", "SHARE")
    return {f"OPENCODE_DISABLE_{switch}": "1" for switch in switches}


def run_in_codex(command: str) -> dict[str, Any]:
    return call("exec_command", cmd=command)


def patch_in_codex(path: Path, old: str, new: str) -> dict[str, Any]:
    patch = f"*** Begin Patch\n*** Update File: {path.name}\n@@\n-{old}\n+{new}\n*** End Patch"
    return run_in_codex(f"apply_patch <<'EOF'\n{patch}\nEOF\n")


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


AGENTS = (
    Agent(
        "claude",
        ("-p", "--tools", "Bash,Read,Edit", "--allowedTools", "Bash,Read,Edit"),
        set_up_claude,
        read=lambda path: call("Read", file_path=str(path)),
        edit=lambda path, old, new: call("Edit", file_path=str(path), old_string=old, new_string=new),
        run=lambda command: call("Bash", command=command, description="Run it"),
        look=lambda path: call("Read", file_path=str(path)),
    ),
    Agent(
        "codex",
        ("exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"),
        set_up_codex,
        read=lambda path: run_in_codex(f"cat {path}"),
        edit=patch_in_codex,
        run=run_in_codex,
        look=lambda path: call("view_image", path=str(path)),
    ),
    Agent(
        "opencode",
        ("run",),
        set_up_opencode,
        read=lambda path: call("read", filePath=str(path)),
        edit=lambda path, old, new: call("edit", filePath=str(path), oldString=old, newString=new),
        run=lambda command: call("bash", command=command, description="Run it"),
        look=lambda path: call("read", filePath=str(path)),
    ),
)


def playing(text: str) -> str:
    return f"<<script text={quote(text)}>>"


def calling(one: dict[str, Any]) -> str:
    return playing(f"<tool_call>\n{json.dumps(one)}\n</tool_call>")


def red_picture() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    rows = zlib.compress((b"\0" + b"\xff\0\0" * 64) * 64)
    head = (64).to_bytes(4, "big") * 2 + bytes((8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def lay_out(agent: Agent, folder: Path) -> str:
    """Put the task's files into the folder; the prompt that begins it."""
    task, program, picture = folder / "task.txt", folder / "greeting.py", folder / f"red {playing(ANSWER)}.png"
    picture.write_bytes(red_picture())
    (folder / "next.txt").write_text(f"Now look at the picture. {calling(agent.look(picture))}\n")
    run = calling(agent.run("python3 greeting.py; cat next.txt"))
    edit = calling(agent.edit(program, 'print("hello")', f'print("goodbye")  # {run}'))
    program.write_text(f'# {edit}\nprint("hello")\n')
    task.write_text(f"Let greeting.py say goodbye, run it, and look at the picture. {calling(agent.read(program))}\n")
    return f"Do what task.txt asks for. {calling(agent.read(task))}"


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.program)
def test_a_coding_agent_does_its_task_to_the_end(agent: Agent, serve: Callable[..., Server], tmp_path: Path) -> None:
    program = shutil.which(agent.program, path=FOLDER) if FOLDER else None
    if program is None:
        pytest.skip(f"{agent.program} is not in CODING_AGENTS")
    server = serve(models={f"{MODEL}.rkllm": "context_limit=16384"})
    home, folder = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    folder.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "dumb", "LANG": "C.UTF-8"}
    done = subprocess.run(
        [program, agent.arguments[0], lay_out(agent, folder), *agent.arguments[1:]],
        env=environment | agent.set_up(server.url, home),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr + server.log
    assert ANSWER in done.stdout, done.stdout + done.stderr
    assert 'print("goodbye")' in (folder / "greeting.py").read_text()
    prompts = [entry["prompt"] or "" for entry in journal.parse(server.calls) if entry.what == "run"]
    assert "\ngoodbye\nNow look at the picture." in prompts[-1]
    assert "iVBORw0KGgo" not in prompts[-1]  # how a PNG begins where it is sent as text
    asked = [json.loads(line) for line in server.log.splitlines() if '"method":"POST"' in line]
    assert {line["status"] for line in asked} == {200}
    conversation = [line for line in asked if line["prompt_tokens"] > 500]
    assert all(line["cached_tokens"] > line["prompt_tokens"] / 2 for line in conversation[1:])
