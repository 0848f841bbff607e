"""What a dialect asks for, in words that belong to none of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rkllama_flask.catalog.model import Model
from rkllama_flask.sampling import Sampling

Role = Literal["system", "user", "assistant", "tool"]


UNLIMITED = -1
"""A token limit that is none: the answer may go on until the context is full."""


@dataclass(frozen=True)
class ToolCall:
    """A call the model made: `arguments` is the JSON text of an object."""

    name: str
    arguments: str
    id: str | None = None


@dataclass(frozen=True)
class Message:
    """One turn. `name` is who speaks, where that is told; of role `tool` it is the function's name, and `tool_call_id`
    says which call it answers.
    """

    role: Role
    content: str = ""
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class Tool:
    """A function on offer; `parameters` is its JSON Schema."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    strict: bool = False


@dataclass(frozen=True)
class ToolChoice:
    """`auto`, `none`, `required`, or `named` with the function's name."""

    mode: Literal["auto", "none", "required", "named"] = "auto"
    name: str | None = None


@dataclass(frozen=True)
class JsonFormat:
    """The answer is one JSON value; `schema` None means any object."""

    schema: Mapping[str, Any] | bool | None = None


@dataclass(frozen=True)
class GenerationRequest:
    """One answer to be generated.

    Either `messages` (rendered with the model's chat template) or `prompt` (text as it is, or token ids) is given; what
    `suffix` holds comes after the answer to a prompt of text.
    `context` are the token ids of earlier turns, which stand before the messages.
    `max_tokens` None leaves it to the model's files and the configuration, UNLIMITED to the context. `thinking` None
    leaves it to the model; a string is an effort level for the template. With `calls_first` the model is told of the
    format, and is still free to call. `keep_alive` is in seconds, None the default, infinity for ever. `client` is who
    asks, for fair queueing. `timeout` is in seconds, for the run alone.
    """

    model: Model
    messages: tuple[Message, ...] | None = None
    prompt: str | tuple[int, ...] | None = None
    suffix: str = ""
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool = True
    thinking: bool | str | None = None
    template: str | None = None
    template_arguments: Mapping[str, Any] = field(default_factory=dict)
    context: tuple[int, ...] = ()
    format: JsonFormat | None = None
    calls_first: bool = False
    sampling: Sampling = Sampling()
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    context_length: int | None = None
    keep_alive: float | None = None
    use_cache: str | None = None
    client: str = ""
    timeout: float | None = None

    @property
    def cutting_stops(self) -> frozenset[str]:
        """The stop strings that cut the answer; those of the model's own files are how it ends its turn."""
        return frozenset(self.stop) - frozenset(self.model.modelfile.stop)
