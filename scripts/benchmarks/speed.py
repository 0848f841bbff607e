"""How fast a model is through a server, and through the bare runtime library in the same run, in turn."""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from scripts.benchmarks import bare, processes, report
from scripts.benchmarks.client import Answer, Client, ServerError
from scripts.benchmarks.environment import describe
from scripts.benchmarks.prompts import Words, conversation
from scripts.benchmarks.results import BARE, HTTP, RATIO, Results

OUTPUT = 32
"""Tokens of an answer where its length is not what is measured."""

CACHED = 576
"""Tokens of the system prompt whose caches are measured."""

RESERVED = 64
"""Positions of a context left to the chat template and the question."""


class Plan(NamedTuple):
    """What is measured. Lengths in tokens; `rounds` go over all of it, so that a slow minute does not fall on one."""

    rounds: int
    prompts: tuple[int, ...]
    outputs: tuple[int, ...]
    clients: tuple[int, ...]
    per_client: int


FULL = Plan(5, (16, 64, 128, 256, 512, 1024, 2000), (16, 64, 256), (1, 2, 4, 8, 16, 32, 64), 16)
QUICK = Plan(2, (16, 128), (16,), (1, 4), 8)


class Bench:
    """One server, one model, and the bare library beside it where that can be had."""

    def __init__(self, client: Client, model: str, results: Results, *, progress: Callable[[str], None]) -> None:
        self.client = client
        self.model = model
        self.results = results
        self.progress = progress
        self.subject: bare.Subject | None = None
        self.bare: bare.BareRuntime | None = None
        self.pids: list[int] = []
        self._words = Words(time.time_ns())
        self._scale = 1.0

    def ask(self, messages: Sequence[dict[str, str]], max_tokens: int, **fields: Any) -> Answer:
        return self.client.chat(self.body(messages, max_tokens, **fields))

    def body(self, messages: Sequence[dict[str, str]], max_tokens: int, **fields: Any) -> dict[str, Any]:
        return {"model": self.model, "messages": messages, "max_tokens": max_tokens, **fields}

    def calibrate(self) -> None:
        """Warm up, and learn how many tokens a word is."""
        few, many = (self.ask(conversation(self._words.text(n)), 4).prompt_tokens for n in (20, 120))
        self._scale = 100 / max(1, many - few)
        self._overhead = few - 20 / self._scale
        if self.bare is not None and self.subject is not None:
            self.bare.run(self.subject.prompt(conversation(self._words.text(20))), max_tokens=4)

    def fresh(self, tokens: int) -> str:
        """Text that makes a prompt of about so many tokens, and that nobody has seen before."""
        return self._words.text(round((tokens - self._overhead) * self._scale))

    def pair(self, messages: Sequence[dict[str, str]], max_tokens: int, *, first: bool) -> tuple[Answer, Answer | None]:
        """The same answer through HTTP and from the bare library, where there is one; `first` says which begins."""
        if self.bare is None or self.subject is None:
            return self.ask(messages, max_tokens), None
        prompt = self.subject.prompt(messages)
        if first:
            other = self.bare.run(prompt, max_tokens=max_tokens)
            return self.ask(messages, max_tokens), other
        answer = self.ask(messages, max_tokens)
        return answer, self.bare.run(prompt, max_tokens=max_tokens)


def single(bench: Bench, plan: Plan) -> None:
    """One client: every prompt length with short answers, every answer length with a short prompt. All cold."""
    settings = [("prompt", n, n, OUTPUT) for n in plan.prompts] + [("output", n, 64, n) for n in plan.outputs]
    pairs: dict[tuple[str, int], list[tuple[Answer, Answer | None]]] = {(kind, n): [] for kind, n, _, _ in settings}
    tokens, used = 0, 0.0
    for turn in range(plan.rounds):
        for number, (kind, n, prompt, output) in enumerate(settings):
            bench.progress(f"{kind} of {n} tokens")
            before = processes.cpu_seconds(bench.pids)
            answer, other = bench.pair(conversation(bench.fresh(prompt)), output, first=bool((turn + number) % 2))
            used += processes.cpu_seconds(bench.pids) - before
            tokens += answer.completion_tokens
            pairs[kind, n].append((answer, other))
    for (kind, n), both in pairs.items():
        _keep_pairs(bench.results, both, **{kind: n})
    if bench.pids:
        bench.results.add("processor time for 1,000 tokens, prompts included", HTTP, "s", [used * 1000 / tokens])


def _keep_pairs(results: Results, both: Sequence[tuple[Answer, Answer | None]], **setting: int) -> None:
    answers = [answer for answer, _ in both]
    others = [other for _, other in both if other is not None]
    for source, ones in ((HTTP, answers), (BARE, others)):
        results.add("prompt tokens", source, "tokens", [one.prompt_tokens for one in ones], **setting)
        results.add("computed tokens", source, "tokens", [one.computed for one in ones], **setting)
        results.add("time to first token", source, "s", [one.ttft for one in ones], **setting)
        results.add("tokens per second", source, "/s", [one.tokens_per_second for one in ones], **setting)
        results.add("gap between tokens", source, "s", [gap for one in ones for gap in one.gaps], **setting)
    rates = [
        answer.tokens_per_second / other.tokens_per_second
        for answer, other in both
        if other and answer.tokens_per_second and other.tokens_per_second
    ]
    results.add("tokens per second", RATIO, "", rates, **setting)
    added = [answer.ttft - other.ttft for answer, other in both if other]
    results.add("time to first token beyond the bare library", RATIO, "s", added, **setting)
    if others and any(answer.text != other.text for answer, other in both if other):
        results.notes.append(
            f"{setting}: the bare library's answers differ from the server's, so they may be paired ill."
        )


def caches(bench: Bench, plan: Plan) -> None:
    """A long system prompt: cold, again with another question, and after another prompt, from a file."""
    text, rounds = bench.fresh(CACHED), range(plan.rounds)
    whole = conversation(text)
    found = {"cold": [_after_another(bench, whole) for _ in rounds]}
    bench.ask(whole, 1)
    found["same system prompt, other question"] = [
        bench.ask(conversation(text, f"Tell me joke number {turn}."), OUTPUT) for turn in rounds
    ]
    if _saves_by_itself(bench, text):
        found["the same after another prompt, automatic cache"] = [_after_another(bench, whole) for _ in rounds]
    with _named_cache(bench, text) as name:
        if name:
            found["the same after another prompt, named cache"] = [
                _after_another(bench, whole[1:], use_cache=name) for _ in rounds
            ]
    cold = found["cold"]
    for name, answers in found.items():
        bench.results.add("prompt tokens", HTTP, "tokens", [a.prompt_tokens for a in answers], cache=name)
        bench.results.add("computed tokens", HTTP, "tokens", [a.computed for a in answers], cache=name)
        bench.results.add("time to first token", HTTP, "s", [a.ttft for a in answers], cache=name)
        if answers is not cold:
            times = [c.ttft / a.ttft for c, a in zip(cold, answers, strict=True)]
            bench.results.add("times faster than cold", HTTP, "x", times, cache=name)
        if "after another" in name and {a.text for a in answers} != {a.text for a in cold}:
            bench.results.notes.append(f"{name}: the answer is not the one that was given cold.")


def _after_another(bench: Bench, messages: Sequence[dict[str, str]], **fields: Any) -> Answer:
    """With another prompt in between, so that the runtime holds nothing of this one."""
    bench.progress("caches")
    bench.ask(conversation("Be brief.", "Say hello."), 1)
    return bench.ask(messages, OUTPUT, **fields)


def _saves_by_itself(bench: Bench, text: str) -> bool:
    """Whether the server keeps the system prompt when a second conversation has begun with it."""
    try:
        before = len(bench.client.call("GET", f"/v1/cache/{bench.model}")["data"])
    except (ServerError, KeyError, TypeError):
        return False
    bench.ask(conversation(text, "What is a cat?"), 1)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if len(bench.client.call("GET", f"/v1/cache/{bench.model}")["data"]) > before:
            return True
        time.sleep(0.2)
    bench.results.notes.append("No automatic cache: the server saved none within 30 s (see AUTOMATIC_CACHES_FROM).")
    return False


@contextmanager
def _named_cache(bench: Bench, text: str) -> Iterator[str | None]:
    """A named cache of the system prompt, and none of this benchmark afterwards; None where the server has none."""
    name = "benchmark"
    try:
        bench.client.call("POST", f"/v1/cache/{bench.model}", {"cache_name": name, "prompt": text})
    except ServerError as error:
        bench.results.notes.append(f"No named cache: {error}")
        yield None
        return
    try:
        yield name
    finally:
        for entry in bench.client.call("GET", f"/v1/cache/{bench.model}")["data"]:
            if entry["cache_name"] == name or entry.get("source") == "automatic":
                bench.client.call("DELETE", f"/v1/cache/{bench.model}/{entry['cache_name']}")


def together(bench: Bench, plan: Plan) -> None:
    """Many clients at once, each with a short question of its own."""
    for count in plan.clients:
        totals, waits = [], []
        for _ in range(max(1, plan.rounds // 2)):
            bench.progress(f"{count} clients")
            bodies = [bench.body(conversation(bench.fresh(32)), plan.per_client) for _ in range(count)]
            try:
                answers = bench.client.chat_at_once(bodies)
            except ServerError as error:
                bench.results.notes.append(f"{count} clients at once: {error}")
                return
            span = (max(a.ended for a in answers) - min(a.begun for a in answers)) / 1e9
            totals.append(sum(a.completion_tokens for a in answers) / span)
            waits += [a.ttft for a in answers]
        bench.results.add("tokens per second, all together", HTTP, "/s", totals, clients=count)
        bench.results.add("time to first token", HTTP, "s", waits, clients=count)


def loading(bench: Bench, plan: Plan) -> None:
    """How long a load takes, and what the server's processes take before and after."""
    client, results = bench.client, bench.results
    if bench.pids:
        results.add("memory (PSS), model loaded", HTTP, "MB", [processes.pss_mb(bench.pids)])
    if bench.bare is not None:
        results.add("memory (PSS), model loaded", BARE, "MB", [processes.pss_mb([bench.bare.pid])])
        results.add("model load", BARE, "s", [bench.bare.load_seconds])
    taken, empty = [], []
    for _ in range(plan.rounds):
        bench.progress("loading")
        try:
            client.call("POST", "/v1/models/unload", {"model": bench.model})
            empty.append(processes.pss_mb(bench.pids) if bench.pids else None)
            taken.append(client.call("POST", "/v1/models/load", {"model": bench.model})["load_ms"] / 1000)
        except (ServerError, KeyError, TypeError):
            results.notes.append("No load time: the server can't be told to load and unload.")
            return
    results.add("model load", HTTP, "s", taken)
    results.add("memory (PSS), model unloaded", HTTP, "MB", empty)


SCENARIOS = {"single": single, "caches": caches, "clients": together, "loading": loading}


def steps(plan: Plan, chosen: Sequence[str]) -> int:
    """How often `progress` is called."""
    each = {
        "single": plan.rounds * (len(plan.prompts) + len(plan.outputs)),
        "caches": 3 * plan.rounds,
        "clients": len(plan.clients) * max(1, plan.rounds // 2),
        "loading": plan.rounds,
    }
    return sum(each[name] for name in chosen)


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
    model = arguments.model or _the_model(client)
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


def _the_model(client: Client) -> str:
    """The loaded model, else the first one the server names."""
    models = client.call("GET", "/v1/models")["data"]
    try:
        loaded = client.call("GET", "/v1/models/loaded")["model_name"]
    except (ServerError, KeyError, TypeError):
        loaded = None
    if not loaded and not models:
        raise ServerError("The server has no model: name one with --model.")
    return str(loaded or models[0]["id"])


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
