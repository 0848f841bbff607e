"""Minutes of mixed traffic against a server of its own on the scripted runtime, with everything that goes wrong.

A third of the streams hang up, a tenth of the requests is malformed, models are switched, caches made and used, and
three crashes injected in the first fifth. Ends with 1 if an answer was not exactly its request's, if anything was
answered with a status that nobody promised, or if the last process kept something: a greenlet, a thread, a descriptor,
a job, or more than 5 % of memory beyond what it held after warming up.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from malformed import MAX_BODY
from traffic import MODELS, Traffic
from watch import PATIENCE, Holding, holding_of, rss_of, worker_of

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.serving import HOSTS, Server, start_server  # noqa: E402 - the package above has to be found

CRASHES = (0.05, 0.12, 0.2)
WARM = 0.4
"""Parts of the time: when it crashes, and when the last process counts as warm."""

GROWTH = 0.05
JUDGED_FROM = 5.0
"""Minutes: before that, memory is not warm, and its growth is told but not judged."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="of traffic (%(default)s)")
    parser.add_argument("--rate", type=float, default=8, help="requests begun per second (%(default)s)")
    parser.add_argument("--clients", type=int, default=12, help="that ask at once (%(default)s)")
    parser.add_argument("--crashes", type=int, default=3, choices=range(4), help="to inject (%(default)s)")
    parser.add_argument("--family", default="1.3", choices=("1.3", "1.2"), help="of the runtime (%(default)s)")
    parser.add_argument("--host", default="gevent", choices=("gevent", "gthread"), help="worker (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the traffic's chance (%(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rkllama-soak-") as folder:
        server = _start(Path(folder), arguments)
        try:
            return _soak(server, arguments)
        except KeyboardInterrupt:
            return 130
        finally:
            server.stop()


def _start(folder: Path, arguments: argparse.Namespace) -> Server:
    HOSTS["soak"] = [
        *HOSTS[arguments.host],
        *("--pythonpath", str(Path(__file__).parent), "counted:application"),
    ]
    library = "librkllmrt-scripted.so" if arguments.family == "1.3" else "librkllmrt-scripted-1.2.so"
    return start_server(
        folder,
        library=ROOT / "build" / library,
        host="soak",
        models={f"{name}.rkllm": "load_ms=50" for name in MODELS},
        env={
            "SOAK_COUNTS": str(folder / "counts.json"),
            "MAX_BODY_BYTES": str(MAX_BODY),
            "AUTOMATIC_CACHES_FROM": "64",
            "CACHE_MAX_BYTES": str(4 << 20),
            "RKLLM_SCRIPT_LOG": os.devnull,
        },
    )


def _soak(server: Server, arguments: argparse.Namespace) -> int:
    traffic = Traffic(server.url, server.port, rate=arguments.rate, clients=arguments.clients, seed=arguments.seed)
    seconds = arguments.minutes * 60
    begun = time.monotonic()
    traffic.start()
    for part in CRASHES[: arguments.crashes]:
        _watch(server, traffic, begun, begun + part * seconds)
        traffic.crash()
    _watch(server, traffic, begun, begun + WARM * seconds)
    warm = _at_rest(server, traffic, "warm")
    traffic.resume()
    _watch(server, traffic, begun, begun + seconds)
    last = _at_rest(server, traffic, "at the end")
    traffic.stop()
    judge_memory = arguments.minutes >= JUDGED_FROM
    breaches = [*traffic.breaches, *_kept(warm, last, judge_memory=judge_memory), *_logged(server)]
    print("\n" + ", ".join(f"{count} {what}" for what, count in sorted(traffic.counts.items())))
    for breach in breaches[:50]:
        print(f"BREACH  {breach}")
    print(f"{len(breaches)} breaches in {arguments.minutes:g} minutes of {sum(traffic.counts.values())} requests")
    return 1 if breaches else 0


def _watch(server: Server, traffic: Traffic, begun: float, until: float) -> None:
    """Let time pass, with a line now and then."""
    while (now := time.monotonic()) < until:
        time.sleep(min(10.0, until - now))
        worker = worker_of(server.process.pid)
        print(
            f"{time.monotonic() - begun:6.0f} s  {sum(traffic.counts.values()):6} requests  "
            f"{len(traffic.breaches)} breaches  {rss_of(worker or 0) / 2**20:.1f} MiB",
            flush=True,
        )


def _at_rest(server: Server, traffic: Traffic, when: str) -> Holding:
    """What the process holds when nobody asks for anything: the least within the time that leaving may take."""
    traffic.pause()
    deadline = time.monotonic() + PATIENCE
    while (health := server.get("/health").json()) and (health["busy"] or health["queue"]["waiting"]):
        if time.monotonic() > deadline:
            traffic.breaches.append(f"{when}: a job is left: {health}")
            break
        time.sleep(0.1)
    worker = worker_of(server.process.pid)
    assert worker is not None
    seen: list[Holding] = []
    for _ in range(5):
        time.sleep(0.5)
        seen.append(holding_of(worker, server.folder / "counts.json"))
    least = min(seen, key=lambda one: (one.greenlets, one.descriptors, one.native, one.rss))
    print(f"{when}: {least}", flush=True)
    return least


def _kept(warm: Holding, last: Holding, *, judge_memory: bool) -> list[str]:
    if last.pid != warm.pid:
        return ["the process was replaced without a crash having been injected"]
    kept = [
        f"{now - before} {what} more than when warm"
        for what, before, now in (
            ("descriptors", warm.descriptors, last.descriptors),
            ("threads", warm.native, last.native),
            ("greenlets", warm.greenlets, last.greenlets),
        )
        if now > before
    ]
    grown = last.rss - warm.rss
    print(f"memory: {grown / warm.rss:+.1%}")
    if judge_memory and grown > GROWTH * warm.rss:
        kept.append(f"{grown / 2**20:.1f} MiB grown")
    return kept


def _logged(server: Server) -> list[str]:
    """Whatever the server itself did not foresee stands in its log."""
    return [line for line in server.log.splitlines() if "unexpected error" in line or "Socket error" in line][:5]


if __name__ == "__main__":
    sys.exit(main())
