"""What scenarios have at hand: a server, a model, prompts that nobody has seen, and the bare library in turn."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from scripts.benchmarks import bare
from scripts.benchmarks.client import Answer, Client
from scripts.benchmarks.prompts import Words, conversation
from scripts.benchmarks.results import Results


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
        self._scale, self._overhead = 1.0, 0.0

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
