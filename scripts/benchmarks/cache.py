"""What a prompt cache is worth: the same prompt cold, from an automatic cache and from a named one."""

import argparse
import random
import statistics
import time
from collections.abc import Sequence
from typing import Any

from scripts.benchmarks.client import Answer, Client, ServerError

VOCABULARY = (
    "about after again air also answer around away back because before between big boat book boy build by call can "
    "change city close come country day different does down each earth end even every eye far father find first "
    "follow form found from give go good great group grow hand hard head help here high home house important keep "
    "know land large last learn leave letter life light line little live long look make man many may men might mile"
)
"""Plain words, about a token each."""

NAME = "benchmark"
IDLE = 30
"""Seconds to wait for an automatic cache; the server takes two of idleness."""


def add_to(subcommands: Any, server: argparse.ArgumentParser) -> None:
    parser = subcommands.add_parser("cache", parents=[server], help=__doc__, description=__doc__)
    parser.add_argument("--model", help="its name; without one the loaded model")
    parser.add_argument("--tokens", type=int, default=600, help="length of the system prompt, about (%(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="of which the median counts (%(default)s)")
    parser.add_argument("--max-tokens", type=int, default=16, help="length of the answers (%(default)s)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Measure and print; what it saves on the server it deletes again."""
    client = Client(arguments.url, api_key=arguments.api_key)
    model = arguments.model or client.call("GET", "/v1/models/loaded")["model_name"]
    if not model:
        raise ServerError("No model is loaded: name one with --model.")
    client.call("POST", "/v1/models/load", {"model": model})
    bench = _Bench(client, model, tokens=arguments.tokens, runs=arguments.runs, max_tokens=arguments.max_tokens)
    print(f"{model}: a system prompt of about {arguments.tokens} tokens, median of {arguments.runs}\n")
    print(f"{'':<10}{'prompt':>8}{'computed':>10}{'first token':>13}{'faster':>9}  answer")
    cold = bench.cold()
    _print("cold", cold, cold)
    _print("automatic", bench.automatic(), cold)
    _print("named", bench.named(), cold)


class _Bench:
    """Words in an order of their own, so that no cache of an earlier day helps."""

    def __init__(self, client: Client, model: str, *, tokens: int, runs: int, max_tokens: int) -> None:
        self._client = client
        self._model = model
        self._runs = range(runs)
        self._max_tokens = max_tokens
        words = random.Random(time.time_ns()).choices(VOCABULARY.split(), k=max(1, tokens - 10))
        self._system = " ".join(words)

    def cold(self) -> list[Answer]:
        """With another prompt in between, so that nothing is left of it."""
        return [self._after_another(self._whole("Tell me a story.")) for _ in self._runs]

    def automatic(self) -> list[Answer]:
        """After a second conversation has begun with the same system prompt; none if the server saves nothing then."""
        before = self._caches()
        self._client.chat(self._whole("Tell me a joke."))
        deadline = time.monotonic() + IDLE
        while not (made := self._caches() - before):
            if time.monotonic() > deadline:
                return []
            time.sleep(0.2)
        try:
            return [self._after_another(self._whole("Tell me a story.")) for _ in self._runs]
        finally:
            for name in made:
                self._delete(name)

    def named(self) -> list[Answer]:
        """After POST /v1/cache/MODEL, with `use_cache` and no system message. Raises ServerError for a miss."""
        self._client.call("POST", f"/v1/cache/{self._model}", {"cache_name": NAME, "prompt": self._system})
        try:
            asked = self._asked([{"role": "user", "content": "Tell me a story."}]) | {"use_cache": NAME}
            answers = [self._after_another(asked) for _ in self._runs]
        finally:
            self._delete(NAME)
        for answer in answers:
            if not answer.cache_hit:
                raise ServerError(f"The named cache was missed: {answer.miss_reason}")
        return answers

    def _after_another(self, asked: dict[str, Any]) -> Answer:
        another = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello."}]
        self._client.chat(self._asked(another) | {"max_tokens": 1})
        return self._client.chat(asked)

    def _whole(self, question: str) -> dict[str, Any]:
        return self._asked([{"role": "system", "content": self._system}, {"role": "user", "content": question}])

    def _asked(self, messages: Sequence[dict[str, str]]) -> dict[str, Any]:
        return {"model": self._model, "messages": messages, "max_tokens": self._max_tokens}

    def _caches(self) -> set[str]:
        found = self._client.call("GET", f"/v1/cache/{self._model}")["data"]
        return {one["cache_name"] for one in found if one["source"] == "automatic"}

    def _delete(self, name: str) -> None:
        self._client.call("DELETE", f"/v1/cache/{self._model}/{name}")


def _print(name: str, answers: Sequence[Answer], cold: Sequence[Answer]) -> None:
    if not answers:
        print(f"{name:<10}  none: the server saved nothing within {IDLE} s (see AUTOMATIC_CACHES_FROM)")
        return
    seconds, before = (statistics.median(answer.ttft for answer in each) for each in (answers, cold))
    computed = round(statistics.median(answer.computed for answer in answers))
    same = {answer.text for answer in answers} == {answer.text for answer in cold}
    print(
        f"{name:<10}{answers[0].prompt_tokens:>8}{computed:>10}{seconds * 1000:>10.0f} ms{before / seconds:>8.1f}x"
        f"  {'' if answers is cold else 'the same' if same else 'differs'}"
    )
