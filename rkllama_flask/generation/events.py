"""What a dialect receives, piece by piece: no tokens, no markup, no ctypes."""

from typing import Literal, NamedTuple

FinishReason = Literal["stop", "length", "tool_calls"]


class Text(NamedTuple):
    """New text of the answer; never empty, never half a character."""

    text: str


class Reasoning(NamedTuple):
    """New text of the model's thoughts; never empty."""

    text: str


class ToolCallStarted(NamedTuple):
    """A call begins, and its first arguments follow; `index` counts the calls of one answer from 0."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    id: str
    name: str


class ToolArguments(NamedTuple):
    """The next piece of a call's arguments; the pieces of one index join to the JSON text of one object."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    text: str


class ToolCallFinished(NamedTuple):
    """The call is whole: its arguments can't go on. What never gets this event is no call."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here


class ToolCallCut(NamedTuple):
    """The answer was cut within the call, so it is none; `text` is what the model wrote of it, marks included."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    text: str


class Waiting(NamedTuple):
    """Nothing new since `seconds`: the moment to look for the client, or to send a heartbeat."""

    seconds: float


class Usage(NamedTuple):
    """Token counts as the runtime has them.

    `prompt_tokens` is the whole prompt, `cached_tokens` the part whose prefill was saved. `completion_tokens`
    counts all generated tokens, `reasoning_tokens` those of the thoughts among them. `cache_hit` is None unless a
    named cache was asked for; `cache_miss_reason` says why it was not used. `estimated` marks a prompt count that
    could not be had exactly.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    cache_hit: bool | None = None
    cache_miss_reason: str | None = None
    cached_prompts: tuple[str, ...] = ()


class Timings(NamedTuple):
    """Where the time went, in nanoseconds. `load` holds the wait for a model to load, `queue` the wait for a turn."""

    total: int
    queue: int
    load: int
    prefill: int
    decode: int


class Finished(NamedTuple):
    """The answer is over: cut by its token limit (`length`) or by a stop string of the client's (`stop`), or whole.

    `stop_string` is the stop string that ended it, if one did.
    """

    reason: FinishReason
    usage: Usage
    timings: Timings
    stop_string: str | None = None


class Ended(NamedTuple):
    """How an answer or an embedding ended, for those who count: told once, also of what nobody waited for to the end.

    `reason` is a FinishReason, `done` for an embedding, else `cancelled` or `failed`; then the counts are of what came
    till then, and `prefill` and what was cached are not known. Times in nanoseconds; None is what never began.
    `first_token` counts from when it was asked for.
    """

    kind: Literal["answer", "embedding"]
    model: str
    reason: Literal[FinishReason, "done", "cancelled", "failed"]
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cache_hit: bool | None = None
    queue: int | None = None
    load: int | None = None
    prefill: int | None = None
    decode: int | None = None
    first_token: int | None = None


WholeContent = Text | Reasoning | ToolCallStarted | ToolArguments | ToolCallFinished | Finished
"""What an answer consists of once its calls are known to be whole."""

Content = WholeContent | ToolCallCut
Event = Content | Waiting
