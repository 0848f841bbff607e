"""The request bodies of chat completions, completions and embeddings: what is honoured, and what is only known.

A field of the specification that changes nothing in an answer (`user`, `store`, …) is here for its type alone. One that
would change the answer and can't be honoured is `Unapplied`: its name is told to the client.
"""

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields, pre_load, validates_schema
from marshmallow.validate import Length, OneOf, Range

from rkllama_flask.api.openai.fields import Content, FunctionChoice, Prompts, ResponseFormat, ToolChoiceField
from rkllama_flask.api.web.ollama_fields import KeepAlive, Think
from rkllama_flask.api.web.schema import (
    Arguments,
    Boolean,
    EitherOf,
    Integer,
    List,
    Nested,
    Number,
    Object,
    RequestSchema,
    String,
    StringOrList,
    Unapplied,
)
from rkllama_flask.api.web.unread import Path, last, place_of_last, placed, refuse
from rkllama_flask.generation.request import UNLIMITED

VERBOSITIES = ("low", "medium", "high")
CALLABLE = ("function", "custom")
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

_NAME = Length(min=1, max=256, error="must have 1 to 256 characters")
_NOT_EMPTY = Length(min=1, error="must not be empty")


class CalledFunctionSchema(RequestSchema):
    name = String(required=True, validate=_NAME)
    arguments = Arguments(load_default="{}")


class CustomCallSchema(RequestSchema):
    name = String(required=True, validate=_NAME)
    input = String(load_default="")


class ToolCallSchema(RequestSchema):
    """An old call. One of a type that is not known here is left out."""

    id = String()
    type = String(load_default="function")
    function = Nested(CalledFunctionSchema)
    custom = Nested(CustomCallSchema)

    @validates_schema
    def _check_kind(self, data: dict[str, Any], **_: Any) -> None:
        check_kind(data)


class MessageSchema(RequestSchema):
    """One message of any role. Only an assistant's needs no content: it can consist of calls. Null is an empty text."""

    role = String(required=True, validate=OneOf(["developer", "system", "user", "assistant", "tool", "function"]))
    content = Content()
    refusal = String()
    reasoning_content = String()
    reasoning = String()
    name = String()
    tool_calls = List(Nested(ToolCallSchema))
    function_call = Nested(CalledFunctionSchema)
    tool_call_id = String()

    @pre_load
    def _drop_nulls(self, data: Any, **_: Any) -> Any:
        found = super()._drop_nulls(data)
        return found | {"content": ""} if isinstance(found, dict) and data.get("content", "") is None else found

    @validates_schema
    def _check_content(self, data: dict[str, Any], **_: Any) -> None:
        if "content" not in data and data.get("role") != "assistant":
            raise ValidationError("is required", "content")


class FunctionSchema(RequestSchema):
    name = String(required=True, validate=_NAME)
    description = String(load_default="")
    parameters = Object(load_default=dict)
    strict = Boolean(load_default=False)


class ToolSchema(RequestSchema):
    """A tool. Custom ones are free text that only a grammar could keep in form: they can't be offered."""

    type = String(load_default="function", validate=OneOf(CALLABLE))
    function = Nested(FunctionSchema)
    custom = Object()

    @validates_schema
    def _check_kind(self, data: dict[str, Any], **_: Any) -> None:
        check_kind(data)


def check_kind(data: Mapping[str, Any]) -> None:
    """Raises ValidationError where what the type says is missing."""
    kind = data["type"]
    if kind in CALLABLE and kind not in data:
        raise ValidationError("is required", kind)


class StreamOptionsSchema(RequestSchema):
    include_usage = Boolean(load_default=False)
    include_obfuscation = Boolean()


class ReasoningSchema(RequestSchema):
    effort = String(validate=OneOf(EFFORTS))


class AnswerSchema(RequestSchema):
    """What every request for an answer has."""

    user = String()
    safety_identifier = String()
    service_tier = String()
    prompt_cache_key = String()
    prompt_cache_options = Object()
    prompt_cache_retention = String()

    model = String()
    stream = Boolean(load_default=False)
    stream_options = Nested(StreamOptionsSchema)
    use_cache = String(validate=_NOT_EMPTY)
    keep_alive = KeepAlive()
    think = Think()

    temperature = Number(validate=Range(0, 2))
    top_p = Number(validate=Range(0, 1))
    top_k = Integer(validate=Range(min=-1))
    frequency_penalty = Number(validate=Range(-2, 2))
    presence_penalty = Number(validate=Range(-2, 2))
    repeat_penalty = Number(validate=Range(min=0, min_inclusive=False))
    repetition_penalty = Number(validate=Range(min=0, min_inclusive=False))
    mirostat = Integer(validate=OneOf([0, 1, 2]))
    mirostat_tau = Number(validate=Range(min=0))
    mirostat_eta = Number(validate=Range(min=0))

    seed = Unapplied(Integer())
    min_p = Unapplied(Number(), neutral=(0, 0.0))
    typical_p = Unapplied(Number(), neutral=(1, 1.0))
    tfs_z = Unapplied(Number(), neutral=(1, 1.0))
    repeat_last_n = Unapplied(Integer())
    logit_bias = Unapplied(
        EitherOf(Object(values=Number()), List(List(fields.Raw())), invalid="must be an object of numbers by token id"),
        neutral=({}, []),
    )
    grammar = Unapplied(String(), neutral=("",))
    json_schema = Unapplied(Object(), neutral=({},))
    num_ctx = Unapplied()
    options = Unapplied(neutral=({},))


def is_users(message: Mapping[str, Any]) -> bool:
    """Whether a user speaks in a message."""
    return message.get("role") == "user"


def last_turn(body: Mapping[str, Any]) -> Path:
    """Where the body of a chat has the last turn of its user."""
    return place_of_last(body, "messages", is_users)


class CommonSchema(AnswerSchema):
    """What both kinds of completion have."""

    max_tokens = Integer(validate=Range(min=UNLIMITED))
    n = Integer(load_default=1, validate=Range(1, 128))
    stop = StringOrList(load_default=())


class ChatSchema(CommonSchema):
    """`POST /v1/chat/completions`."""

    messages = List(Nested(MessageSchema), required=True, validate=_NOT_EMPTY)
    max_completion_tokens = Integer(validate=Range(min=UNLIMITED))
    tools = List(Nested(ToolSchema), load_default=list)
    tool_choice = ToolChoiceField()
    parallel_tool_calls = Boolean(load_default=True)
    functions = List(Nested(FunctionSchema), load_default=list)
    function_call = FunctionChoice()
    response_format = ResponseFormat()
    reasoning_effort = String(validate=OneOf(EFFORTS))
    reasoning = Nested(ReasoningSchema)
    enable_thinking = Boolean()
    chat_template_kwargs = Object(load_default=dict)
    modalities = List(
        String(validate=OneOf(["text"], error="must be 'text': the models here write only text")), validate=_NOT_EMPTY
    )

    @validates_schema
    def _check_last_turn(self, data: dict[str, Any], **_: Any) -> None:
        index = last(data.get("messages", ()), is_users)
        if index is not None:
            refuse(placed(data["messages"][index]["content"].unread, "messages", index, "content"))

    metadata = Object()
    store = Boolean()
    prediction = Object()

    logprobs = Unapplied(Boolean(), neutral=(False,))
    top_logprobs = Unapplied(Integer(validate=Range(0, 20)), neutral=(0,))
    verbosity = Unapplied(String(validate=OneOf(VERBOSITIES)), neutral=("medium",))
    audio = Unapplied(Object())
    web_search_options = Unapplied(Object())
    moderation = Unapplied(Object())


class CompletionSchema(CommonSchema):
    """`POST /v1/completions`."""

    prompt = Prompts(required=True)
    suffix = String(load_default="")
    echo = Boolean(load_default=False)

    logprobs = Unapplied(Integer(validate=Range(0, 5)))
    think = Unapplied(Think(), neutral=(False,))  # type: ignore[assignment]
    best_of = Unapplied(Integer(validate=Range(0, 20)), neutral=(0, 1))


class EmbeddingSchema(RequestSchema):
    """`POST /v1/embeddings`."""

    model = String()
    input = Prompts(required=True)
    encoding_format = String(load_default="float", validate=OneOf(["float", "base64"]))
    dimensions = Integer(validate=Range(min=1))
    truncate = Boolean(load_default=False)
    keep_alive = KeepAlive()
    user = String()

    num_ctx = Unapplied()
    options = Unapplied(neutral=({},))
