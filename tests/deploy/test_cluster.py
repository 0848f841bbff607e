"""Three boards behind one proxy: one dies and one is full in mid-load, and nobody notices who was not on it."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests.conftest import scripted_library
from tests.deploy import proxies
from tests.deploy.streams import assert_tokens_arrive_one_by_one, leave_a_stream
from tests.hosts.test_hosts import chat
from tests.serving import Server, start_server, wait_for

BOARDS = ("192.168.1.11:8080", "192.168.1.12:8080", "192.168.1.13:8080")

ENV = {"MAX_QUEUE": "2", "GRACEFUL_TIMEOUT": "4"}


@dataclass
class Cluster:
    url: str
    boards: list[Server]

    def ask(self, prompt: str, **headers: str) -> requests.Response:
        body = chat(prompt)
        return requests.post(f"{self.url}/v1/chat/completions", json=body, headers=headers, timeout=60)


@pytest.fixture(scope="module", params=["nginx", "haproxy"])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three servers with two places in their queues each, behind the shipped configuration."""
    if proxies.installed(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    folder = tmp_path_factory.mktemp(request.param)

    def start(name: str) -> Server:
        return start_server(folder / name, library=scripted_library("1.3"), env=ENV)

    with ThreadPoolExecutor() as starting:
        boards = list(starting.map(start, BOARDS))
    changes = {old: f"127.0.0.1:{board.port}" for old, board in zip(BOARDS, boards, strict=True)}
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "nginx":
            changes |= {old.replace(".", r"\."): changes[old] for old in BOARDS[:2]}  # in regular expressions
            patch.setenv("REQUESTS_CA_BUNDLE", str(folder / "proxy" / "fullchain.pem"))
            proxy = proxies.nginx(folder / "proxy", "cluster.conf", changes)
        else:
            proxy = proxies.haproxy(folder / "proxy", changes)
        with proxy as url:
            yield Cluster(url, boards)
    with ThreadPoolExecutor() as stopping:
        list(stopping.map(Server.stop, boards))


def runs(board: Server) -> int:
    return sum(line.split()[3] == "run" for line in board.calls)


def kill(board: Server) -> None:
    """As a power cut would: the worker too."""
    pid = board.process.pid
    for victim in (pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())):
        os.kill(victim, signal.SIGKILL)


def test_a_conversation_stays_on_its_board_and_others_are_spread(cluster: Cluster) -> None:
    for turn in range(6):
        assert cluster.ask(f"<<script text=x>> turn {turn}", **{"X-Conversation-Id": "c-1"}).status_code == 200
    before = list(map(runs, cluster.boards))
    assert sorted(before) == [0, 0, 6]
    with ThreadPoolExecutor() as clients:
        replies = list(clients.map(lambda _: cluster.ask("<<script tokens=50 decode_ms=20>>"), range(3)))
    assert [reply.status_code for reply in replies] == [200] * 3
    assert [runs(board) - earlier for board, earlier in zip(cluster.boards, before, strict=True)] == [1, 1, 1]


def test_tokens_arrive_one_by_one_and_a_client_that_leaves_frees_its_board(cluster: Cluster) -> None:
    assert_tokens_arrive_one_by_one(cluster.url)
    leave_a_stream(cluster.url)
    wait_for(lambda: not any(board.get("/health").json()["busy"] for board in cluster.boards), 20, cluster.boards[0])


def test_a_dead_and_a_full_board_fail_nobody_who_was_not_on_the_dead_one(cluster: Cluster) -> None:
    dying, full, third = cluster.boards
    # One runs for long and two wait: this board's queue is full.
    long = chat("<<script tokens=3000 decode_ms=10>>", stream=True)
    holding = full.post("/v1/chat/completions", long, stream=True)
    waiting = [
        threading.Thread(target=full.post, args=("/v1/chat/completions", chat("<<script text=late>>")), daemon=True)
        for _ in range(2)
    ]
    wait_for(lambda: bool(full.get("/health").json()["busy"]), 20, full)
    for thread in waiting:
        thread.start()
    wait_for(lambda: full.get("/health").json()["queue"]["waiting"] == 2, 20, full)
    assert full.post("/v1/chat/completions", chat("<<script text=no>>")).status_code == 503

    outcomes: list[int] = []
    killed = threading.Event()

    def client(number: int) -> None:
        for turn in range(15):
            reply = cluster.ask(f"<<script text=x tokens=5 decode_ms=2>> {number} {turn}")
            outcomes.append(reply.status_code)
            if len(outcomes) == 6 and not killed.is_set():
                killed.set()
                kill(dying)

    with ThreadPoolExecutor() as clients:
        list(clients.map(client, range(2)))
    assert killed.is_set()
    assert len(outcomes) == 30
    # Of two clients at most two requests were on the board that was killed.
    assert sum(status != 200 for status in outcomes) <= 2, Counter(outcomes)
    assert runs(third) >= 10
    holding.close()
