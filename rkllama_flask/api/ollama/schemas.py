"""The request bodies of Ollama's API: what is honoured, and what is only known and then named to the client."""

from collections.abc import Mapping
from typing import Any

from marshmallow import pre_load
from marshmallow.validate import OneOf, Range

from rkllama_flask.api.ollama.fields import Arguments, Format, KeepAlive, Think, WholeNumber
from rkllama_flask.api.schema import (
    Boolean,
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


class OllamaSchema(RequestSchema):
    """Names of fields match in any case, as in Go."""

    @pre_load
    def _lower(self, data: Any, **_: Any) -> Any:
        return {str(key).lower(): value for key, value in data.items()} if isinstance(data, Mapping) else data


class OptionsSchema(OllamaSchema):
    """`options`. What only tunes llama.cpp itself (threads, batches, memory) changes no answer and is ignored."""

    num_ctx = WholeNumber(validate=Range(min=4))
    num_predict = WholeNumber()
    temperature = Number(validate=Range(min=0))
    top_k = WholeNumber()
    top_p = Number(validate=Range(min=0, max=1))
    repeat_penalty = Number(validate=Range(min=0))
    presence_penalty = Number(validate=Range(min=-2, max=2))
    frequency_penalty = Number(validate=Range(min=-2, max=2))
    mirostat = WholeNumber(validate=OneOf([0, 1, 2]))
    mirostat_tau = Number()
    mirostat_eta = Number()
    stop = StringOrList(load_default=())
    seed = Unapplied(neutral=(-1, 0))
    min_p = Unapplied(neutral=(0, 0.0))
    typical_p = Unapplied(neutral=(1, 1.0))
    tfs_z = Unapplied(neutral=(1, 1.0))
    repeat_last_n = Unapplied(neutral=(64,))
    num_keep = Unapplied()
    penalize_newline = Unapplied()


class ModelSchema(OllamaSchema):
    """A model under either of its two names for the field."""

    model = String(load_default="")
    name = String()

    @pre_load
    def _take_name(self, data: Any, **_: Any) -> Any:
        if isinstance(data, Mapping) and not data.get("model") and data.get("name"):
            return {**data, "model": data["name"]}
        return data


class GenerationSchema(ModelSchema):
    """What generate and chat share."""

    stream = Boolean(load_default=True)
    format = Format()
    think = Think()
    keep_alive = KeepAlive()
    options = Nested(OptionsSchema, load_default=lambda: {"stop": ()})
    truncate = Boolean(load_default=True)
    use_cache = String()
    shift = Unapplied(neutral=(True, False))
    logprobs = Unapplied(neutral=(False,))
    top_logprobs = Unapplied(neutral=(0,))


class GenerateSchema(GenerationSchema):
    prompt = String(load_default="")
    suffix = String(load_default="")
    system = String()
    template = String()
    context = List(Integer(validate=Range(min=0, max=2**31 - 1)))
    raw = Boolean(load_default=False)
    images = List(String())


class CalledFunctionSchema(OllamaSchema):
    name = String(required=True)
    arguments = Arguments(load_default=dict)


class ToolCallSchema(OllamaSchema):
    id = String()
    function = Nested(CalledFunctionSchema, required=True)


class MessageSchema(OllamaSchema):
    role = String(required=True)
    content = String(load_default="")
    thinking = String()
    images = List(String())
    tool_calls = List(Nested(ToolCallSchema), load_default=())
    tool_name = String()
    tool_call_id = String()


class FunctionSchema(OllamaSchema):
    name = String(required=True)
    description = String(load_default="")
    parameters = Object(load_default=dict)


class ToolSchema(OllamaSchema):
    type = String()
    function = Nested(FunctionSchema, required=True)


class ChatSchema(GenerationSchema):
    messages = List(Nested(MessageSchema), load_default=())
    tools = List(Nested(ToolSchema), load_default=())


class ShowSchema(ModelSchema):
    verbose = Boolean(load_default=False)


class CopySchema(OllamaSchema):
    source = String(load_default="")
    destination = String(load_default="")


class CreateSchema(ModelSchema):
    class Meta(ModelSchema.Meta):
        include = {"from": String()}  # noqa: RUF012 - a word of Python's, which can't be written as the others

    template = String()
    system = String()
    parameters = Object(load_default=dict)
    messages = List(Nested(MessageSchema), load_default=())
    license = StringOrList(load_default=())
    modelfile = String()
    files = Object(load_default=dict)
    stream = Boolean(load_default=True)
