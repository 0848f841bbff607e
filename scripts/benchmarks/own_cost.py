"""What our own server adds to the runtime: measured on the scripted one, whose journal tells its own times."""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from scripts.benchmarks.bars import Row, table
from scripts.benchmarks.client import Answer, ServerError, read
from scripts.benchmarks.figures import Figure
from scripts.benchmarks.processes import cpu_seconds, pss_mb
from scripts.benchmarks.scripted_server import MODEL, Run, ScriptedServer, floor_server, scripted_server
from scripts.benchmarks.wire import Connection, Reply, ask_all

SHORT = "decode_ms=5 tokens=20"
AT_ONCE = "prefill_ms=0 decode_ms=0"

FLOODERS = 8

PAUSE = 0.02
"""Seconds between two requests of one client, so that what the server does after an answer is not added to the next."""


class Effort(NamedTuple):
    """How much is measured. `usual` is a script, then repetitions, tokens of a long answer, seconds."""

    usual: str
    repeat: int
    tokens: int
    seconds: float


FULL = Effort("prefill_ms=100 decode_ms=10 tokens=60", repeat=40, tokens=15_000, seconds=5.0)
QUICK = Effort("prefill_ms=20 decode_ms=2 tokens=10", repeat=3, tokens=500, seconds=0.3)

Scenario = Callable[[Effort], Iterator[Row]]


def warm_stream(effort: Effort) -> Iterator[Row]:
    """One client that keeps its connection, one answer after another."""
    with scripted_server(effort.usual) as server:
        connection = Connection(server.client.address)
        streamed, runs = _answers(server, connection, effort.repeat, stream=True)
        answers = [read(reply) for reply in streamed]
        pairs = list(zip(answers, runs, strict=True))
        added = [(a.token_times[0] - a.begun - (r.callbacks[0] - r.begun)) / 1e6 for a, r in pairs]
        yield Row("added time to first token, warm, 1 client", "ms", Figure.of(added), (2.0, 3.5), "p95")
        yield Row("lag of a token, callback to client", "ms", Figure.of(_lags(pairs)), (0.35, 0.7), "p99")
        later = Figure.of(_lags(pairs, first=1))
        yield Row("for comparison: the same without each answer's first token", "ms", later)
        beyond = [(a.ended - a.begun) / 1e6 - r.seconds * 1e3 for a, r in pairs]
        yield Row("whole stream beyond the run", "ms", Figure.of(beyond), (4.0,))
        whole, runs = _answers(server, connection, effort.repeat, stream=False)
        beyond = [(w.ended_at - w.sent_at) / 1e6 - r.seconds * 1e3 for w, r in zip(whole, runs, strict=True)]
        yield Row("whole unstreamed answer beyond the run", "ms", Figure.of(beyond), (3.0,))


def floor(effort: Effort) -> Iterator[Row]:
    """The same request to an application of three lines, with the pauses that a runtime's prefill makes."""
    with floor_server() as client:
        connection = Connection(client.address)
        request = client.chat_request({"model": MODEL, "messages": _SAY})
        connection.ask(request)
        times = []
        for _ in range(2 * effort.repeat):
            time.sleep(0.1)
            reply = connection.ask(request)
            times.append((reply.ended_at - reply.sent_at) / 1e6)
        connection.close()
    yield Row("for comparison: an application of three lines, request to answer", "ms", Figure.of(times))


def hot_stream(effort: Effort) -> Iterator[Row]:
    """One request right after another, so that all caches of the processor are warm: the work without the waking up."""
    with scripted_server(f"{AT_ONCE} tokens=3") as server:
        connection = Connection(server.client.address)
        replies, runs = _answers(server, connection, 5 * effort.repeat, stream=True, pause=0)
        pairs = zip(map(read, replies), runs, strict=True)
        added = [(a.token_times[0] - a.begun - (r.callbacks[0] - r.begun)) / 1e6 for a, r in pairs]
        connection.close()
    yield Row("for comparison: added time to first token, requests back to back", "ms", Figure.of(added))


def flooded_stream(effort: Effort) -> Iterator[Row]:
    """The same while others ask something trivial as fast as they can."""
    with scripted_server(effort.usual) as server:
        client = server.client
        trivial = client.request("GET", "/api/version")
        stream = client.chat_request({"model": MODEL, "messages": _SAY})
        connections = [Connection(client.address) for _ in range(FLOODERS + 1)]
        client.ask(stream)
        server.forget_runs()
        streamed = []
        for _ in range(max(1, effort.repeat // 4)):
            done = False

            def again(index: int, _reply: Reply) -> bytes | None:
                nonlocal done
                done = done or index == 0
                return None if done else trivial

            streamed.append(ask_all(connections, [stream] + [trivial] * FLOODERS, again=again)[0])
        pairs = list(zip(map(read, streamed), server.runs(), strict=True))
        figure = Figure.of(_lags(pairs))
        yield Row(f"lag of a token while {FLOODERS} clients flood /api/version", "ms", figure, (15.0, 30.0), "p99")


def throughput(effort: Effort) -> Iterator[Row]:
    """A runtime that takes no time at all, so that only the server's own shows."""
    with scripted_server(f"{AT_ONCE} tokens={effort.tokens} context_limit=16384", journal=False) as server:
        body = {"model": MODEL, "messages": _SAY, "max_tokens": effort.tokens}
        server.client.call("POST", "/v1/models/load", {"model": MODEL, "context_length": 16384})
        server.client.chat(body | {"max_tokens": 200})
        rates, costs = [], []
        for _ in range(max(2, effort.repeat // 8)):
            before = cpu_seconds(server.processes)
            answer = server.client.chat(body)
            costs.append((cpu_seconds(server.processes) - before) * 1000 / answer.completion_tokens)
            rates.append(answer.completion_tokens / answer.seconds)
        yield Row("throughput at 0 ms per token, streamed", "tokens/s", Figure.of(rates), (15_000,), at_least=True)
        yield Row("processor time for 1,000 tokens there", "s", Figure.of(costs), (0.065,))


def many_clients(effort: Effort) -> Iterator[Row]:
    """All at once: how the total stands to what the runtime alone would take, one after another."""
    with scripted_server(SHORT) as server:
        server.client.chat({"model": MODEL, "messages": _SAY})
        gaps: list[float] = []
        for count in (32, 64):
            ratios, in_order = [], []
            for _ in range(max(1, effort.repeat // 10)):
                server.forget_runs()
                answers = server.client.chat_at_once([{"model": MODEL, "messages": _SAY}] * count)
                runs = server.runs()
                ratios.append((max(a.ended for a in answers) - answers[0].begun) / 1e9 / sum(r.seconds for r in runs))
                first = [answer.token_times[0] for answer in answers]
                in_order.append(float(first == sorted(first)))
                gaps += [(after.begun - before.ended) / 1e6 for before, after in pairwise(runs)]
            yield Row(f"{count} clients at once ÷ the sum of their runs", "x", Figure.of(ratios), (1.05,))
            yield Row(
                f"{count} clients answered in order of arrival", "share", Figure.of(in_order), (1,), at_least=True
            )
        yield Row("gap between two runs with a full queue", "ms", Figure.of(gaps), (1.0,))


def clients_that_leave(effort: Effort) -> Iterator[Row]:
    """How long a run goes on for nobody."""
    with scripted_server("prefill_ms=20 decode_ms=10 tokens=400") as server:
        client = server.client
        stream = client.chat_request({"model": MODEL, "messages": _SAY})
        whole = client.request("POST", "/v1/chat/completions", {"model": MODEL, "messages": _SAY})
        client.ask(client.chat_request({"model": MODEL, "messages": _SAY, "max_tokens": 1}))
        repeat = max(2, effort.repeat // 4)
        left = [_leave(server, stream, after=5) for _ in range(repeat)]
        yield Row("run over after its client left, mid-stream", "ms", Figure.of(left), (40.0,))
        left = [_leave(server, whole, after=0) for _ in range(repeat)]
        yield Row("run over after its client left, unstreamed", "ms", Figure.of(left), (600.0,))
        tokens = [float(_leave_queue(server, stream)) for _ in range(max(2, repeat // 2))]
        yield Row("tokens made for a client that left while queued", "tokens", Figure.of(tokens), (0,))


def lifetime(effort: Effort) -> Iterator[Row]:
    """From nothing to an answer, and what the set-up takes."""
    memory, starts = [], []
    for _ in range(max(2, effort.repeat // 8)):
        with scripted_server("tokens=5") as server:
            answered = server.client.chat({"model": MODEL, "messages": _SAY}).ended
            starts.append((answered - server.spawned) / 1e9)
            used = pss_mb(server.processes)
            if used is not None:
                memory.append(used)
    if memory:
        yield Row("memory (PSS) of all its processes, no model", "MB", Figure.of(memory), (70.0,))
    yield Row("start to first answer", "s", Figure.of(starts), (1.0,))


def other_requests(effort: Effort) -> Iterator[Row]:
    """What else is asked while an answer runs, and while many wait."""
    with scripted_server("prefill_ms=20 decode_ms=10 tokens=10000 context_limit=16384") as server:
        client = server.client
        stream = client.chat_request({"model": MODEL, "messages": _SAY})
        models = client.request("GET", "/v1/models")
        client.ask(models)
        times: list[float] = []
        streaming, asking = Connection(client.address), [Connection(client.address) for _ in range(2)]
        streaming.send(stream)
        streaming.read()
        begun = time.monotonic()

        def again(_index: int, reply: Reply) -> bytes | None:
            times.append((reply.ended_at - reply.sent_at) / 1e6)
            return models if time.monotonic() - begun < effort.seconds else None

        ask_all(asking, [models] * len(asking), again=again)
        rate = len(times) / (time.monotonic() - begun)
        yield Row("GET /v1/models beside a stream", "per s", Figure.of([rate]), (1200,), at_least=True)
        yield Row("one answer of GET /v1/models beside a stream", "ms", Figure.of(times), (3.0, 3.0), "p99")
        waiting = [Connection(client.address) for _ in range(16)]
        for connection in waiting:
            connection.send(stream)
        time.sleep(0.2)
        slowest = []
        for _ in range(effort.repeat):
            reply = asking[0].ask(models)
            slowest.append((reply.ended_at - reply.sent_at) / 1e6)
            time.sleep(0.01)
        yield Row("the slowest of GET /v1/models with 16 clients waiting", "ms", Figure.of([max(slowest)]), (5.0,))
        for connection in [*waiting, streaming]:
            connection.close()


SCENARIOS: dict[str, Scenario] = {
    "warm": warm_stream,
    "floor": floor,
    "hot": hot_stream,
    "flood": flooded_stream,
    "throughput": throughput,
    "clients": many_clients,
    "leaving": clients_that_leave,
    "lifetime": lifetime,
    "others": other_requests,
}

_SAY = [{"role": "user", "content": "Say something."}]


def _answers(
    server: ScriptedServer, connection: Connection, count: int, *, stream: bool, pause: float = PAUSE
) -> tuple[list[Reply], list[Run]]:
    """So many answers one after another, the first not counted, and their runs."""
    make = server.client.chat_request if stream else _whole(server)
    request = make({"model": MODEL, "messages": _SAY})
    connection.ask(request)
    server.forget_runs()
    replies = []
    for _ in range(count):
        time.sleep(pause)
        replies.append(connection.ask(request))
    return replies, server.runs()


def _whole(server: ScriptedServer) -> Callable[[dict[str, Any]], bytes]:
    return lambda body: server.client.request("POST", "/v1/chat/completions", body)


def _lags(pairs: Sequence[tuple[Answer, Run]], *, first: int = 0) -> list[float]:
    """Of every token from number `first` on, in ms."""
    return [
        (arrived - called) / 1e6
        for answer, run in pairs
        for arrived, called in zip(answer.token_times[first:], run.callbacks[first:], strict=True)
    ]


def _leave(server: ScriptedServer, request: bytes, *, after: int) -> float:
    """Hang up `after` so many pieces, 0: in the middle of a whole answer; ms until the run is over."""
    server.forget_runs()
    connection = Connection(server.client.address)
    connection.send(request)
    while connection.arrived() < after:
        connection.read()
    if not after:
        time.sleep(0.1)
    left = connection.close()
    return (_wait_for_runs(server, 1)[0].ended - left) / 1e6


def _leave_queue(server: ScriptedServer, request: bytes) -> int:
    """Hang up while another answer runs; the tokens that were made all the same."""
    server.forget_runs()
    running, waiting = Connection(server.client.address), Connection(server.client.address)
    running.send(request)
    running.read()
    waiting.send(request)
    time.sleep(0.1)
    waiting.close()
    time.sleep(0.7)
    running.close()
    server.client.chat({"model": MODEL, "messages": _SAY, "max_tokens": 1})
    runs = _wait_for_runs(server, 2)
    return sum(len(run.callbacks) for run in runs[1:-1])


def _wait_for_runs(server: ScriptedServer, count: int) -> list[Run]:
    deadline = time.monotonic() + 10
    while len(runs := server.runs()) < count:
        if time.monotonic() > deadline:
            raise ServerError("A run did not end within 10 seconds after its client left.")
        time.sleep(0.005)
    return runs


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser("own-cost", help=__doc__, description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few repetitions: to see that it works")
    parser.add_argument(
        "--only", choices=[*SCENARIOS], nargs="+", default=[*SCENARIOS], metavar="WHAT", help="of: %(choices)s"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    effort = QUICK if arguments.quick else FULL
    rows: list[Row] = []
    for name in tqdm(arguments.only, unit="scenario", leave=False, disable=None):
        rows += SCENARIOS[name](effort)
    print(table(rows))
    if arguments.json:
        arguments.json.write_text(
            json.dumps([row._asdict() | {"figure": row.figure._asdict()} for row in rows], indent=1)
        )
