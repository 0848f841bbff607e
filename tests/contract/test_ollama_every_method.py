"""Every method of the official Ollama clients, in Node.js and in Python, over a real socket: none may fail."""

import asyncio
import json
import os
import shutil
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import ollama
import pytest

from tests.contract.conftest import MODEL, OTHER_REPO, REPO
from tests.contract.ollama_spec import check
from tests.serving import ROOT, Server

NPM = Path(__file__).parent / "npm"

ELSEWHERE = {"web_search", "web_fetch", "webSearch", "webFetch"}
"""Methods that ask ollama.com, not a server."""

NOT_OLLAMAS = {"systemone"}
"""A route that Ollama's own description doesn't have."""

INTERNAL = {"constructor", "close", "processStreamableRequest", "fileExists"}


@pytest.fixture(scope="session")
def npm_packages() -> Path:
    """The clients that package.json names, installed once into the build folder."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("Node.js is not installed")
    wanted = (NPM / "package.json").read_text()
    place = ROOT / "build" / "npm"
    if not (place / "installed").exists() or (place / "installed").read_text() != wanted:
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(NPM / "package.json", place)
        options = ["--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
        done = subprocess.run(
            [npm, "install", *options], cwd=place, capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode:
            pytest.skip(f"npm can't install the clients: {done.stderr[-500:]}")
        (place / "installed").write_text(wanted)
    return place


def test_the_npm_package(hub_server: Server, npm_packages: Path) -> None:
    done = subprocess.run(
        ["node", NPM / "ollama.mjs", hub_server.url, OTHER_REPO, npm_packages / "package.json"],
        env={name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) <= INTERNAL | ELSEWHERE | NOT_OLLAMAS


class Counted:
    """A client that knows which of its methods were called."""

    def __init__(self, client: ollama.Client) -> None:
        self._client = client
        self.called: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.called.add(name)
        return getattr(self._client, name)


def script(**keys: Any) -> str:
    return f"<<script {' '.join(f'{key}={quote(str(value))}' for key, value in keys.items())}>>"


def test_the_python_package(hub_server: Server, tmp_path: Path) -> None:
    with closing(ollama.Client(hub_server.url)) as plain:
        client = Counted(plain)
        saying = [{"role": "user", "content": script(text="Good day")}]
        assert client.chat(MODEL, saying, think=False).message.content == "Good day"
        assert client.generate(MODEL, script(text="Hello"), think=False).response == "Hello"
        assert len(client.embed(MODEL, ["one", "two"]).embeddings) == 2
        assert len(client.embeddings(MODEL, "one").embedding) > 0
        steps = [*client.pull(REPO, stream=True)]
        for step in steps:
            check(step.model_dump(exclude_none=True), "StatusEvent")
        assert steps[-1].status == "success"
        assert client.pull(REPO).status == "success"
        (tmp_path / "own.rkllm").write_text("load_ms=0\n# made in Python")
        for _ in range(2):  # the client never looks whether a file is there
            digest = client.create_blob(tmp_path / "own.rkllm")
        assert client.create("own", files={"own.rkllm": digest}, system="Be brief.").status == "success"
        for step in client.create("own", from_="own", adapters={"style.rkllm": digest}, stream=True):
            check(step.model_dump(exclude_none=True), "StatusEvent")
        assert client.show("own").modelfile.count("ADAPTER") == 1
        assert client.copy("own", "other").status == "success"
        assert {f"{name}:latest" for name in (MODEL, "own", "other")} <= {one.model for one in client.list().models}
        assert MODEL in client.ps().models[0].name
        for stream in (True, False):
            with pytest.raises(ollama.ResponseError, match="no registry") as refusal:
                [*client.push("own", stream=stream)]
            assert refusal.value.status_code == 400
        for name in ("own", "other"):
            assert client.delete(name).status == "success"
    methods = {name for name in vars(ollama.Client) if not name.startswith("_")}
    assert methods - client.called <= INTERNAL | ELSEWHERE | NOT_OLLAMAS


def test_the_asynchronous_python_client(hub_server: Server, tmp_path: Path) -> None:
    async def talk() -> str:
        async with ollama.AsyncClient(hub_server.url) as client:
            messages = [{"role": "user", "content": script(text="One two")}]
            stream = await client.chat(MODEL, messages, think=False, stream=True)
            said = [part.message.content or "" async for part in stream]
            (tmp_path / "x.rkllm").write_text("load_ms=0\n# made asynchronously")
            digest = await client.create_blob(tmp_path / "x.rkllm")
            await client.create("asynchronous", files={"x.rkllm": digest})
            await client.delete("asynchronous")
        return "".join(said)

    assert asyncio.run(talk()) == "One two"
