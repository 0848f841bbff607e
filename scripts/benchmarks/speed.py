"""How fast a model is through a server, and through the bare runtime library in the same run, in turn."""

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tqdm import tqdm

from scripts.benchmarks import bare, processes, report
from scripts.benchmarks.bench import FULL, QUICK, Bench
from scripts.benchmarks.client import Client, ServerError
from scripts.benchmarks.environment import describe
from scripts.benchmarks.prompts import conversation
from scripts.benchmarks.results import Results
from scripts.benchmarks.scenarios import OUTPUT, SCENARIOS, steps

RESERVED = 64
"""Positions of a context left to the chat template and the question."""


def add_to(subcommands: Any, server: argparse.ArgumentParser) -> None:
    parser = subcommands.add_parser("speed", parents=[server], help=__doc__, description=__doc__)
    parser.add_argument("--model", help="its name; without one the loaded model")
    parser.add_argument("--quick", action="store_true", help="two rounds of a few lengths: to see that it works")
    parser.add_argument("--rounds", type=int, help="how often all is measured")
    parser.add_argument("--prompts", type=int, nargs="+", metavar="N", help="prompt lengths in tokens")
    parser.add_argument("--outputs", type=int, nargs="+", metavar="N", help="answer lengths in tokens")
    parser.add_argument("--clients", type=int, nargs="+", metavar="N", help="how many ask at once")
    parser.add_argument("--only", choices=[*SCENARIOS], nargs="+", default=[*SCENARIOS], help="a part of it")
    parser.add_argument("--no-bare", action="store_true", help="leave the bare library out: it loads the model again")
    parser.add_argument("--output", type=Path, default=Path("benchmark"), help="a folder for the results (%(default)s)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Measure, then write JSON, Markdown and plots."""
    client = Client(arguments.url, api_key=arguments.api_key)
    model = arguments.model or client.usual_model()
    plan = QUICK if arguments.quick else FULL
    said = {name: getattr(arguments, name) for name in ("rounds", "prompts", "outputs", "clients")}
    plan = plan._replace(**{name: value for name, value in said.items() if value})
    with ExitStack() as stack, tqdm(total=steps(plan, arguments.only), leave=False, disable=None) as bar:

        def progress(what: str) -> None:
            bar.set_description(what, refresh=False)
            bar.update()

        results = Results(model, {})
        bench = Bench(client, model, results, progress=progress)
        length = _prepare(bench, None if arguments.no_bare else stack)
        results.environment = describe(client, runtime=bench.subject.library if bench.subject else None)
        results.environment["model"] = model
        results.environment["context length"] = length or "unknown"
        bench.calibrate()
        if length:
            plan = plan._replace(prompts=tuple(n for n in plan.prompts if n + OUTPUT + RESERVED <= length))
        for name in arguments.only:
            SCENARIOS[name](bench, plan)
    for path in report.write(results, arguments.output):
        print(path)


def _prepare(bench: Bench, stack: ExitStack | None) -> int | None:
    """Load the model in the server and beside it; the context's length in tokens, where the server tells it."""
    bench.ask(conversation("Be brief.", "Say hello."), 1)
    pid = processes.listening(bench.client.address.port)
    bench.pids = processes.tree(pid) if pid is not None else []
    if not bench.pids:
        bench.results.notes.append("No memory and processor time: the server's processes can't be seen from here.")
    length = _context_length(bench)
    if stack is None:
        bench.results.notes.append("The bare library was left out.")
        return length
    try:
        bench.subject = bare.find(bench.model, context_length=length)
        bench.bare = bare.BareRuntime(bench.subject)
        stack.callback(bench.bare.close)
    except bare.Unavailable as error:
        bench.results.notes.append(f"The bare library was not measured: {error}")
    return length or (bench.subject.context_length if bench.subject else None)


def _context_length(bench: Bench) -> int | None:
    try:
        loaded = bench.client.call("GET", "/health")["models"]
        return next((int(one["context_length"]) for one in loaded if one["name"] == bench.model), None)
    except (ServerError, KeyError, TypeError):
        return None
