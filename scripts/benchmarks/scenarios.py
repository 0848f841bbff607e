"""What is measured of a server: one client, caches, many clients, loading. Each is a question of its own."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from scripts.benchmarks import processes
from scripts.benchmarks.bench import Bench, Plan
from scripts.benchmarks.client import Answer, ServerError
from scripts.benchmarks.prompts import conversation
from scripts.benchmarks.results import BARE, HTTP, RATIO, Results

OUTPUT = 32
"""Tokens of an answer where its length is not what is measured."""

CACHED = 576
"""Tokens of the system prompt whose caches are measured."""


def single(bench: Bench, plan: Plan) -> None:
    """One client: every prompt length with short answers, every answer length with a short prompt. All cold."""
    settings = [("prompt", n, n, OUTPUT) for n in plan.prompts] + [("output", n, 64, n) for n in plan.outputs]
    pairs: dict[tuple[str, int], list[tuple[Answer, Answer | None]]] = {(kind, n): [] for kind, n, _, _ in settings}
    tokens, used = 0, 0.0
    refused = set()
    for turn in range(plan.rounds):
        for number, (kind, n, prompt, output) in enumerate(settings):
            bench.progress(f"{kind} of {n} tokens")
            if (kind, n) in refused:
                continue
            before = processes.cpu_seconds(bench.pids)
            try:
                answer, other = bench.pair(conversation(bench.fresh(prompt)), output, first=bool((turn + number) % 2))
            except ServerError as error:
                bench.results.notes.append(f"{kind} of {n} tokens: {error}")
                refused.add((kind, n))
                continue
            used += processes.cpu_seconds(bench.pids) - before
            tokens += answer.completion_tokens
            pairs[kind, n].append((answer, other))
    for (kind, n), both in pairs.items():
        _keep_pairs(bench.results, both, **{kind: n})
    _keep_ratios(bench.results, [pair for both in pairs.values() for pair in both])
    if bench.pids and tokens:
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
    _keep_ratios(results, both, **setting)
    if others and any(answer.text != other.text for answer, other in both if other):
        results.notes.append(
            f"{setting}: the bare library's answers differ from the server's, so they may be paired ill."
        )


def _keep_ratios(results: Results, both: Sequence[tuple[Answer, Answer | None]], **setting: int) -> None:
    rates = [
        answer.tokens_per_second / other.tokens_per_second
        for answer, other in both
        if other and answer.tokens_per_second and other.tokens_per_second
    ]
    results.add("tokens per second", RATIO, "", rates, **setting)
    added = [answer.ttft - other.ttft for answer, other in both if other]
    results.add("time to first token beyond the bare library", RATIO, "s", added, **setting)


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


SCENARIOS: dict[str, Callable[[Bench, Plan], None]] = {
    "single": single,
    "caches": caches,
    "clients": together,
    "loading": loading,
}


def steps(plan: Plan, chosen: Sequence[str]) -> int:
    """How often `progress` is called."""
    each = {
        "single": plan.rounds * (len(plan.prompts) + len(plan.outputs)),
        "caches": 3 * plan.rounds,
        "clients": len(plan.clients) * max(1, plan.rounds // 2),
        "loading": plan.rounds,
    }
    return sum(each[name] for name in chosen)
