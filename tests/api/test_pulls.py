"""Pulls over HTTP, from a live server and a hub on a loopback port."""

import json
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import ollama
import pytest
import requests

from tests.conftest import scripted_library
from tests.hub import Hub, serve_hub
from tests.serving import Server, processes, start_server

REPO = "org/Qwen3-0.6B-rkllm"
PULL = "rkllama_flask.catalog.pull"
FILE = "Qwen3-0.6B-rk3588-w8a8.rkllm"
WEIGHTS = random.Random(2).randbytes(1_000_000)
UNKNOWN = "pull model manifest: file does not exist"

Serve = Callable[..., Server]


@pytest.fixture(scope="module")
def shared_hub() -> Iterator[Hub]:
    with serve_hub() as hub:
        yield hub


@pytest.fixture
def hub(shared_hub: Hub) -> Hub:
    """As if it had just been started, with one model."""
    vars(shared_hub).update(vars(Hub(url=shared_hub.url)))
    shared_hub.repos = {REPO: {FILE: WEIGHTS, "config.json": b"{}"}}
    return shared_hub


@pytest.fixture(scope="module")
def shared_server(shared_hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("pulls")
    server = start_server(folder, library=scripted_library("1.3"), env=environment(shared_hub, folder))
    yield server
    server.stop()


@pytest.fixture
def server(shared_server: Server, hub: Hub) -> Server:
    """With nothing in its models folder but the scripted model."""
    for name in names(shared_server):
        if name != "scripted:latest":
            shared_server.delete("/api/delete", json={"model": name})
    for path in Path(shared_server.folder, "models").glob(".*"):
        shutil.rmtree(path)
    return shared_server


def environment(hub: Hub, folder: Path) -> dict[str, str]:
    outside = {"HF_HOME": str(folder / "hf"), "HF_TOKEN": "", "NO_PROXY": "127.0.0.1"}
    return {"HF_ENDPOINT": hub.url, "NPU_PLATFORM": "rk3588"} | outside


def start(serve: Serve, hub: Hub, tmp_path: Path, **more: str) -> Server:
    return serve(**environment(hub, tmp_path), **more)


def steps(response: requests.Response) -> list[dict[str, Any]]:
    assert response.headers["Content-Type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.iter_lines()]


def names(server: Server) -> list[str]:
    return sorted(model["name"] for model in server.get("/api/tags").json()["models"])


def test_a_pull_is_told_step_by_step_and_the_model_answers(server: Server, hub: Hub) -> None:
    hub.repos[REPO][FILE] = b"load_ms=0\n" + b"#" * 2000
    told = steps(server.post("/api/pull", {"model": f"hf.co/{REPO}"}))
    assert told[0] == {"status": "pulling manifest"}
    assert told[-1] == {"status": "success"}
    assert names(server) == ["qwen3-0.6b:latest", "scripted:latest"]
    body = {"model": f"hf.co/{REPO}", "prompt": "<<script text=Hello>>", "stream": False}
    assert server.post("/api/generate", body).json()["response"] == "Hello"


def test_a_pull_can_be_waited_for(server: Server) -> None:
    response = server.post("/api/pull", {"name": REPO, "stream": False, "insecure": True})
    assert (response.status_code, response.json()) == (200, {"status": "success"})


def test_the_official_client_pulls(server: Server) -> None:
    with closing(ollama.Client(server.url)) as client:
        progress = [*client.pull(REPO, stream=True)]
        assert {step.total for step in progress if step.total} == {len(WEIGHTS), 2}
        assert progress[-1].status == "success"
        assert client.pull("qwen3-0.6b").status == "success"


def test_the_same_through_the_servers_own_api(server: Server) -> None:
    response = server.post("/v1/models/download", {"model": REPO, "file": "w8a8"})
    assert response.json() == {
        "success": True,
        "message": "Model qwen3-0.6b is here.",
        "model_name": "qwen3-0.6b",
        "filename": FILE,
        "size_mb": 0.95,
    }
    assert steps(server.post("/v1/models/download", {"model": REPO, "stream": True}))[-1] == {"status": "success"}


def test_a_model_is_made_of_one_on_the_hub_which_is_pulled_first(server: Server, hub: Hub) -> None:
    told = steps(server.post("/api/create", {"model": "mine", "from": f"hf.co/{REPO}", "system": "Be brief."}))
    assert told[0] == {"status": "pulling manifest"}
    assert [step["status"] for step in told].count("success") == 1
    assert told[-2:] == [{"status": "writing manifest"}, {"status": "success"}]
    assert names(server) == ["mine:latest", "qwen3-0.6b:latest", "scripted:latest"]
    assert server.post("/api/show", {"model": "mine"}).json()["system"] == "Be brief."
    body = {"model": "again", "from": REPO, "stream": False}
    assert server.post("/api/create", body).json() == {"status": "success"}  # it is here, so the hub isn't asked
    assert len(hub.downloads(FILE)) == 1


def test_a_model_of_one_that_the_hub_does_not_have(server: Server) -> None:
    told = steps(server.post("/api/create", {"model": "mine", "from": "org/nothing"}))
    assert told[-1]["error"].startswith(UNKNOWN)
    assert server.post("/api/create", {"model": "mine", "from": "org/nothing", "stream": False}).status_code == 404
    assert server.post("/api/create", {"model": "mine", "from": "nothing"}).status_code == 404
    assert names(server) == ["scripted:latest"]


@pytest.mark.parametrize("host", ["gevent", "gthread", "waitress"])
def test_five_who_ask_for_one_model_cause_one_download(serve: Serve, hub: Hub, tmp_path: Path, host: str) -> None:
    server = start(serve, hub, tmp_path, host=host)
    hub.hold = 500_000
    with ThreadPoolExecutor(5) as pool:
        answers = [pool.submit(lambda: steps(server.post("/api/pull", {"model": REPO}))) for _ in range(5)]
        assert hub.held.wait(30)
        hub.release.set()
        ends = [answer.result() for answer in answers]
    assert [told[-1] for told in ends] == [{"status": "success"}] * 5
    assert len(hub.downloads(FILE)) == 1


def test_a_pull_ends_when_all_have_left_and_goes_on_when_one_comes_back(server: Server, hub: Hub) -> None:
    hub.hold = 500_000
    first, second = (server.post("/api/pull", {"model": REPO}, stream=True) for _ in range(2))
    assert hub.held.wait(30)
    first.close()
    workshop = Path(server.folder, "models")
    assert not wait_until(lambda: processes(PULL, server) == 0, seconds=2)  # the second one still waits
    second.close()
    assert wait_until(lambda: processes(PULL, server) == 0)
    assert names(server) == ["scripted:latest"]
    assert [path.name[:6] for path in workshop.iterdir() if path.is_dir()] == [".pull-"]
    hub.release.set()
    assert server.post("/api/pull", {"model": REPO, "stream": False}).json() == {"status": "success"}
    assert hub.downloads(FILE)[-1].startswith("bytes=")


def test_nothing_is_listed_until_it_is_whole(server: Server, hub: Hub) -> None:
    hub.hold = 999_999
    with server.post("/api/pull", {"model": REPO}, stream=True) as response:
        assert hub.held.wait(30)
        assert names(server) == ["scripted:latest"]
        hub.release.set()
        assert steps(response)[-1] == {"status": "success"}
    assert "qwen3-0.6b:latest" in names(server)


def test_a_server_that_stops_says_so_and_leaves_no_process(serve: Serve, hub: Hub, tmp_path: Path) -> None:
    server = start(serve, hub, tmp_path)
    hub.hold = 500_000
    with server.post("/api/pull", {"model": REPO}, stream=True) as response:
        assert hub.held.wait(30)
        thread = threading.Thread(target=server.stop)
        thread.start()
        assert steps(response)[-1]["error"].startswith("The server is stopping.")
        thread.join()
    assert processes(PULL, server) == 0


# Errors


def test_an_unknown_model_is_told_in_the_stream_or_as_500(server: Server) -> None:
    for name in ("org/nothing", "nothing"):
        response = server.post("/api/pull", {"model": name})
        assert response.status_code == 200
        told = steps(response)
        assert told[0] == {"status": "pulling manifest"}
        assert told[-1]["error"].startswith(UNKNOWN)
        response = server.post("/api/pull", {"model": name, "stream": False})
        assert response.status_code == 500
        assert response.json()["error"].startswith(UNKNOWN)


def test_the_servers_own_api_has_truer_statuses(server: Server, hub: Hub) -> None:
    response = server.post("/v1/models/download", {"model": "org/nothing"})
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "pull_failed"
    hub.listed_sizes[FILE] = 10**15
    assert server.post("/v1/models/download", {"model": REPO}).status_code == 507
    told = steps(server.post("/v1/models/download", {"model": REPO, "stream": True}))
    assert "GiB are needed" in told[-1]["error"]["message"]
    assert server.post("/v1/models/download").status_code == 400


def test_a_name_that_can_be_none_is_refused(server: Server, hub: Hub) -> None:
    for name in ("", "../x", "/etc/passwd", "org/../../x", "a\0b", "org/" + "x" * 300, "\uff4frg/repo"):
        for path in ("/api/pull", "/v1/models/download"):
            response = server.post(path, {"model": name})
            assert response.status_code == 400
            assert "invalid model name" in response.text
    for file in ("../x", "/etc/passwd", "a/../../x", "a\0b", "x" * 300, "a\\b", ".hidden"):
        assert server.post("/v1/models/download", {"model": REPO, "file": file}).status_code == 400
    assert hub.requests == []


def test_there_is_an_end_to_pulls_at_once(server: Server, hub: Hub) -> None:
    for n in range(5):
        hub.repos[f"org/m{n}"] = {f"m{n}-rk3588.rkllm": b"%d" % n * 5000}
    hub.hold = 100
    running = [server.post("/api/pull", {"model": f"org/m{n}"}, stream=True) for n in range(4)]
    refused = server.post("/api/pull", {"model": "org/m4"})
    assert (refused.status_code, "busy" in refused.json()["error"]) == (503, True)
    hub.release.set()
    for response in running:
        with response:
            assert steps(response)[-1] == {"status": "success"}
    assert server.post("/api/pull", {"model": "org/m4", "stream": False}).status_code == 200


def test_without_the_hub_a_model_that_is_here_stays_usable(serve: Serve, hub: Hub, tmp_path: Path) -> None:
    server = start(serve, hub, tmp_path)
    assert server.post("/api/pull", {"model": REPO, "stream": False}).status_code == 200
    hub.repos.clear()
    models = server.folder / "models"
    server.stop()
    offline = start(serve, hub, tmp_path, MODELS_DIR=str(models), HF_HUB_OFFLINE="1")
    assert offline.post("/api/pull", {"model": REPO, "stream": False}).json() == {"status": "success"}
    refused = offline.post("/api/pull", {"model": "org/other", "stream": False})
    assert refused.status_code == 500
    assert "can't be reached (HF_HUB_OFFLINE is set)" in refused.json()["error"]


def wait_until(condition: Callable[[], bool], *, seconds: float = 15) -> bool:
    """Whether it becomes true in time."""
    over = threading.Event()
    for _ in range(int(seconds * 20)):
        if condition():
            return True
        over.wait(0.05)
    return condition()
