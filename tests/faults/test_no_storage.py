"""A folder for caches that can't be written costs the caches and a warning, never an answer."""

import shutil
from collections.abc import Callable

from tests.faults.crashing import answer_of_the_next_process, ask, dies, text
from tests.hosts.test_hosts import chat
from tests.serving import Server

Serve = Callable[..., Server]
RULES = " ".join(f"rule{number}" for number in range(40))


def with_rules(server: Server) -> str:
    body = chat("<<script text=right>>")
    messages = [{"role": "system", "content": RULES}, *body["messages"]]  # type: ignore[misc]
    return text(server.post("/v1/chat/completions", body | {"messages": messages}))


def test_a_cache_folder_that_can_not_be_written_is_warned_of_and_missed_by_nobody(serve: Serve) -> None:
    server = serve(CACHE_DIR="/proc/nowhere", AUTOMATIC_CACHES_FROM="16")
    assert [with_rules(server) for _ in range(3)] == ["right"] * 3
    assert "CACHE_DIR=/proc/nowhere can't be written" in server.log
    refused = server.post("/v1/cache/scripted", {"cache_name": "rules", "prompt": RULES})
    assert (refused.status_code, refused.headers["x-should-retry"]) == (500, "false")
    assert "CACHE_DIR" in refused.json()["error"]["message"]
    assert dies(server, "<<script tokens=3 segv=2>>")
    assert text(answer_of_the_next_process(server, "<<script text=alive>>")) == "alive"


def test_a_cache_folder_that_goes_away_while_the_server_runs_is_told_once(serve: Serve) -> None:
    server = serve(AUTOMATIC_CACHES_FROM="16")
    server.post("/v1/cache/scripted", {"cache_name": "rules", "prompt": RULES})
    shutil.rmtree(server.folder / "cache")
    (server.folder / "cache").write_text("a file now")
    assert server.post("/v1/models/unload").json()["unloaded"] == ["scripted"]
    assert [with_rules(server) for _ in range(3)] == ["right"] * 3
    assert text(ask(server, "<<script text=still>>")) == "still"
    assert server.log.count("After a crash no model is loaded again") == 1
