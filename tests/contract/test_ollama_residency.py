"""Which models are in memory, and how long: one server with room for two of three, asked over a real socket."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest

from tests.conftest import scripted_library
from tests.contract.ollama_spec import check
from tests.native import journal
from tests.serving import Server, start_server

MODELS = {f"{name}.rkllm": "load_ms=50" for name in ("one", "two", "three")} | {"slow.rkllm": "load_ms=1000"}


@pytest.fixture(scope="module")
def loaded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("residency")
    server = start_server(
        folder, library=scripted_library("1.3"), models=MODELS, env={"MAX_LOADED_MODELS": "2", "KEEP_ALIVE": "100"}
    )
    yield server
    server.end()


@pytest.fixture
def server(loaded_server: Server) -> Server:
    """With nothing in memory."""
    loaded_server.post("/v1/models/unload")
    return loaded_server


def say(server: Server, model: str, script: str = "text=Hi", **fields: Any) -> Any:
    body = {"model": model, "prompt": f"<<script {script}>>", "stream": False} | fields
    response = server.post("/api/generate", body)
    assert response.status_code == 200, response.text
    return response.json()


def resident(server: Server) -> dict[str, float]:
    """Seconds that each loaded model stays, by name, in the order of the list."""
    listed = server.get("/api/ps").json()
    check(listed, "PsResponse")
    assert all(one["size"] == one["size_vram"] in (len("load_ms=50"), len("load_ms=1000")) for one in listed["models"])
    listed = listed["models"]
    ends = [datetime.fromisoformat(one["expires_at"]).timestamp() - time.time() for one in listed]
    return dict(zip((one["name"].partition(":")[0] for one in listed), ends, strict=True))


def loads(server: Server) -> int:
    return [entry.what for entry in journal.parse(server.calls)].count("init")


def test_ten_who_ask_at_once_for_a_cold_model_cause_one_load(server: Server) -> None:
    before = loads(server)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda n: say(server, "one", f"text=answer%20{n}"), range(10)))
    assert [answer["response"] for answer in answers] == [f"answer {n}" for n in range(10)]
    assert loads(server) == before + 1
    waited = sorted(answer["load_duration"] for answer in answers)
    assert waited[-1] >= 50_000_000  # who waited for the load counts it


def test_a_model_is_listed_while_it_is_being_loaded(server: Server) -> None:
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(say, server, "slow")
        while not (listed := resident(server)):
            assert not answer.done()
        assert set(listed) == {"slow"}
        assert server.get("/v1/models/loaded").json()["models"] == []
        answer.result()
    assert set(resident(server)) == {"slow"}


def test_a_time_that_runs_out_never_ends_an_answer(server: Server) -> None:
    answer = say(server, "one", "tokens=40 decode_ms=10", keep_alive="20ms")
    assert (len(answer["response"].split()), answer["eval_count"], answer["done_reason"]) == (40, 40, "stop")
    wait_for_nothing(server)


def test_the_time_begins_when_the_last_answer_ends(server: Server) -> None:
    say(server, "one", "tokens=40 decode_ms=10")
    assert 80 < resident(server)["one"] <= 100


def test_an_unload_is_answered_when_it_is_done_and_the_answer_before_it_is_whole(server: Server) -> None:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(say, server, "one", "tokens=40 decode_ms=10")
        while not server.get("/api/ps").json()["models"]:
            time.sleep(0.01)
        unloaded = server.post("/api/generate", {"model": "one", "keep_alive": 0}).json()
        assert unloaded["done_reason"] == "unload"
        assert resident(server) == {}
        assert len(running.result()["response"].split()) == 40


def test_several_models_stay_and_the_one_used_longest_ago_makes_room(server: Server) -> None:
    say(server, "one")
    say(server, "two", keep_alive="1h")
    assert list(resident(server)) == ["two", "one"]  # the one that stays longest first
    before = loads(server)
    say(server, "one")
    assert loads(server) == before
    say(server, "three")
    assert set(resident(server)) == {"one", "three"}


def test_a_model_that_was_loaded_by_name_stays_until_it_is_unloaded(server: Server) -> None:
    server.post("/v1/models/load", {"model": "one"})
    say(server, "one")
    assert resident(server)["one"] > 200 * 365 * 86400
    say(server, "one", keep_alive=0)
    assert resident(server) == {}


def test_a_model_whose_name_is_gone_is_listed_under_another_one(server: Server) -> None:
    server.post("/api/copy", {"source": "one", "destination": "uno"})
    say(server, "uno")
    assert set(resident(server)) == {"uno"}
    assert server.delete("/api/delete", json={"model": "uno"}).status_code == 200
    assert set(resident(server)) == {"one"}
    before = loads(server)
    say(server, "one")
    assert loads(server) == before


def wait_for_nothing(server: Server) -> None:
    deadline = time.monotonic() + 10
    while resident(server):
        assert time.monotonic() < deadline
        time.sleep(0.01)
