"""What the engine is asked for, and what it says back."""

import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from rkllama_flask.engine.mailbox import Mailbox, open_mailbox
from rkllama_flask.errors import RkllamaError
from rkllama_flask.promptcache.entry import Draft
from rkllama_flask.promptcache.prefix import Content
from rkllama_flask.sampling import Sampling


@dataclass(frozen=True)
class ModelSpec:
    """All that is needed to load a model.

    `identity` changes when the file does. `context_length` in tokens is what a load takes, `size` in bytes.
    `sampling` is used at load where the runtime fixes it there. `cpus` are core numbers, None its own choice.
    `adapters` are (LoRA path, scale).
    """

    name: str
    path: Path
    format: Literal["rkllm", "gguf"]
    identity: str
    context_length: int
    size: int = 0
    sampling: Sampling = Sampling()
    eos_token_ids: frozenset[int] = frozenset()
    adapters: tuple[tuple[Path, float], ...] = ()
    cpus: tuple[int, ...] | None = None

    def same_weights(self, other: "ModelSpec") -> bool:
        """Whether a handle loaded for `other` holds what this one asks for, its context length aside."""
        return (self.path, self.identity, self.adapters) == (other.path, other.identity, other.adapters)


class JobState(Enum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


@dataclass(eq=False, kw_only=True)
class Job:
    """One piece of work for the engine thread. `client` is whom it is for; times are `time.monotonic_ns()`."""

    client: str = ""
    mailbox: Mailbox = field(default_factory=open_mailbox)
    state: JobState = JobState.QUEUED
    cancelled: bool = False
    finished_early: bool = False
    submitted_at: int = field(default_factory=time.monotonic_ns)


class CacheWish(NamedTuple):
    """What a prompt has to do with prompt caches.

    `name` is the named cache that was asked for, `refusal` why it can't be used. `template` is a digest of the chat
    template. `opening` is what the prompt begins with before anything of its user's, `opening_length` its source in
    characters, `conversation` tells one beginning of a user's from another.
    """

    template: str = ""
    name: str | None = None
    refusal: str | None = None
    opening: Content | None = None
    opening_length: int = 0
    conversation: str = ""


class Step(NamedTuple):
    """A run: its whole prompt, and how many tokens it may have at most. `again`: what it said last would not do.

    `too_long`: where it reaches its limit the whole answer ends there, with `length`.
    """

    prompt: str | Sequence[int]
    max_tokens: int | None = None
    again: bool = False
    too_long: bool = False


class Steps(Protocol):
    """What decides about the runs. Pure Python, because the engine thread calls it, partly in the runtime's callback.

    `step` is the next run, None once the answer is whole. `tokens` counts the answer so far, what is fixed with what
    was said, None without a tokenizer. Raises RkllamaError where the answer can't be had.
    """

    @property
    def step(self) -> Step | None: ...

    @property
    def tokens(self) -> int | None: ...

    def feed(self, text: str) -> bool:
        """More text of this run; whether it has said enough."""

    def cut_by(self, stop: str) -> bool:
        """Whether this stop string, which the model says next, cuts the answer; else it only ends the run."""

    def end(self) -> None:
        """The run is over: what follows is decided now."""

    def take(self) -> str:
        """What has been decided since the last call, for the client."""


@dataclass(eq=False, kw_only=True)
class Generate(Job):
    """One answer. `sampling` is in force where the runtime can change it, `requested` the client's own part of it.

    `prompt` is text or token ids; `max_tokens` None means until the end or a full context. A handle with fewer than
    `least_context` tokens is loaded again, a larger one is taken as it is. `keep_alive` in seconds sets how long the
    model stays afterwards, None leaves that as it is. `timeout` in seconds bounds the run itself. `content_hash` stands
    for the prompt wherever it must be remembered. With `steps` the answer is made of several
    runs, of which `prompt` is the first.
    """

    spec: ModelSpec
    prompt: str | Sequence[int]
    sampling: Sampling = Sampling()
    requested: Sampling = Sampling()
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    least_context: int = 0
    keep_alive: float | None = None
    timeout: float | None = None
    content_hash: str = ""
    cache: CacheWish = field(default_factory=CacheWish)
    steps: Steps | None = None


@dataclass(eq=False, kw_only=True)
class Embed(Job):
    """A vector for each of several prompts, one after another.

    `pool` makes it of the hidden states, one row a token; it runs on the engine thread. With `truncate` a prompt
    that is too long is cut at its end until it fits. The rest is as in Generate; `timeout` bounds all runs together.
    """

    spec: ModelSpec
    prompts: Sequence[str | Sequence[int]]
    pool: Callable[[Sequence["array[float]"]], "array[float]"]
    truncate: bool = False
    least_context: int = 0
    keep_alive: float | None = None
    timeout: float | None = None
    content_hash: str = ""


@dataclass(eq=False, kw_only=True)
class SaveCache(Job):
    """Make a prompt cache. The rest is as in Generate."""

    spec: ModelSpec
    draft: Draft
    least_context: int = 0
    keep_alive: float | None = None


@dataclass(eq=False, kw_only=True)
class Load(Job):
    """Load a model; with `only_first` only where none is loaded. The rest is as in Generate."""

    spec: ModelSpec
    least_context: int = 0
    keep_alive: float | None = None
    only_first: bool = False


@dataclass(eq=False, kw_only=True)
class Unload(Job):
    """Unload the model at `path`, or all of them."""

    path: Path | None = None


@dataclass(eq=False, kw_only=True)
class Forgive(Job):
    """Forget which loads and requests have crashed the runtime; the result is how many there were."""


@dataclass(eq=False, kw_only=True)
class Settle(Job):
    """Nothing is done: it is over when what came before it is, a model's restoring too."""


class Started(NamedTuple):
    """The run begins. `unapplied` names what the client asked for and this handle can't change; times in ns."""

    unapplied: tuple[str, ...]
    queued_ns: int
    load_ns: int


class Piece(NamedTuple):
    """New text, and how many tokens were generated since the last piece."""

    text: str
    tokens: int


class CacheOutcome(NamedTuple):
    """The named cache that was asked for was not computed again if `reason` is None; else that says why it was."""

    name: str
    reason: str | None


class RunResult(NamedTuple):
    """How a run ended. Tokens of the prompt are None where the runtime did not tell; times in ns.

    `prefill_ns` holds the loading of a prompt cache; `cache` is None unless a named one was asked for.
    """

    reason: Literal["stop", "length"]
    stop_string: str | None
    prompt_tokens: int | None
    prefill_tokens: int | None
    generated_tokens: int
    prefill_ns: int
    decode_ns: int
    queued_ns: int
    load_ns: int
    cache: CacheOutcome | None = None


class EmbedRunResult(NamedTuple):
    """The vectors in the order of their prompts, and the tokens of these; times in ns."""

    vectors: "tuple[array[float], ...]"
    prompt_tokens: int
    run_ns: int
    queued_ns: int
    load_ns: int


class Done(NamedTuple):
    """The job is over: a RunResult, an EmbedRunResult, a load time in ns, the paths unloaded, or a CacheEntry."""

    result: object


class Failed(NamedTuple):
    error: RkllamaError
