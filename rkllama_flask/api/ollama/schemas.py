"""The request bodies: what is honoured, and what is only known and then named to the client.

A field that changes nothing in an answer (`insecure`, `width`, …) is accepted by not being here.
"""

from collections.abc import Mapping
from typing import Any

from marshmallow import pre_load

from rkllama_flask.api.ollama.fields import Arguments, ContextField, Format, Inputs, OptionsField, Role, TopLogprobs
from rkllama_flask.api.ollama.options import Options
from rkllama_flask.api.web.body import parse_object, read_bytes
from rkllama_flask.api.web.ollama_fields import KeepAlive, Think
from rkllama_flask.api.web.schema import (
    Boolean,
    Integer,
    List,
    Nested,
    Object,
    RequestSchema,
    String,
    StringOrList,
    Unapplied,
)
from rkllama_flask.errors import InvalidRequest


class OllamaSchema(RequestSchema):
    """Field names match in any case, as in Go; the exact spelling goes first."""

    @pre_load
    def _match_case(self, data: Any, **_: Any) -> Any:
        return {key.lower(): value for key, value in data.items()} | data if isinstance(data, dict) else data

    def read_body(self) -> dict[str, Any]:
        """The checked fields of this request's body. Raises as `read_bytes`, and InvalidRequest."""
        raw = read_bytes()
        if not raw.strip():
            raise InvalidRequest("missing request body")
        return self.read(parse_object(raw))


class NamedSchema(OllamaSchema):
    """A body that names a model; some clients call the field `name`."""

    model = String(load_default="")
    name = String(load_default="")


def model_name(fields: Mapping[str, Any]) -> str:
    """The name in a checked body, as it was sent; empty where there is none."""
    name: str = fields["model"] or fields["name"]
    return name if name.strip(" ") else ""


class CalledFunctionSchema(OllamaSchema):
    name = String(required=True)
    arguments = Arguments(load_default="{}")


class ToolCallSchema(OllamaSchema):
    id = String()
    function = Nested(CalledFunctionSchema, required=True)


class MessageSchema(OllamaSchema):
    role = Role(required=True)
    content = String(load_default="")
    thinking = String()
    images = List(String(), load_default=())
    tool_calls = List(Nested(ToolCallSchema), load_default=())
    tool_name = String()
    tool_call_id = String()


class FunctionSchema(OllamaSchema):
    name = String(required=True)
    description = String(load_default="")
    parameters = Object(load_default=dict)


class ToolSchema(OllamaSchema):
    function = Nested(FunctionSchema, required=True)


class AnswerSchema(NamedSchema):
    """What generate and chat share. `use_cache`, the name of a prompt cache, is this server's own."""

    stream = Boolean(load_default=True)
    format = Format()
    keep_alive = KeepAlive()
    options = OptionsField(load_default=Options())
    think = Think()
    truncate = Boolean(load_default=True)
    use_cache = String()

    shift = Unapplied(neutral=(False,))
    logprobs = Unapplied(neutral=(False,))
    top_logprobs = TopLogprobs(neutral=(0,))
    render_only = Boolean(data_key="_debug_render_only", load_default=False)


class GenerateSchema(AnswerSchema):
    """`POST /api/generate`."""

    prompt = String(load_default="")
    suffix = String(load_default="")
    images = List(String(), load_default=())
    system = String(load_default="")
    template = String(load_default="")
    context = ContextField(load_default=())
    raw = Boolean(load_default=False)


class ChatSchema(AnswerSchema):
    """`POST /api/chat`."""

    messages = List(Nested(MessageSchema), load_default=())
    tools = List(Nested(ToolSchema), load_default=())


class EmbedSchema(NamedSchema):
    """`POST /api/embed`."""

    input = Inputs(load_default=())
    truncate = Boolean(load_default=True)
    dimensions = Integer(load_default=0)
    keep_alive = KeepAlive()
    options = OptionsField(load_default=Options())


class EmbeddingsSchema(NamedSchema):
    """`POST /api/embeddings`."""

    prompt = String(load_default="")
    keep_alive = KeepAlive()
    options = OptionsField(load_default=Options())


class ShowSchema(NamedSchema):
    """`POST /api/show`. What it would be like with other words is not shown."""

    system = Unapplied(neutral=("",))
    template = Unapplied(neutral=("",))
    options = Unapplied(neutral=({},))
    verbose = Unapplied(neutral=(False,))


class CopySchema(OllamaSchema):
    """`POST /api/copy`."""

    source = String(load_default="")
    destination = String(load_default="")


class TurnSchema(OllamaSchema):
    role = Role(required=True)
    content = String(load_default="")


class CreateSchema(NamedSchema):
    """`POST /api/create`. `modelfile` is a Modelfile's text, which the other fields go before."""

    source = String(data_key="from")
    modelfile = String(load_default="")
    files = Object(load_default=dict)
    adapters = Object(load_default=dict)
    template = String()
    system = String()
    parameters = Object(load_default=dict)
    messages = List(Nested(TurnSchema), load_default=())
    license = StringOrList(load_default=())
    quantize = String(load_default="")
    quantization = String(load_default="")
    stream = Boolean(load_default=True)

    renderer = Unapplied(neutral=("",))
    parser = Unapplied(neutral=("",))
    requires = Unapplied(neutral=("",))
    info = Unapplied(neutral=({},))
    draft_files = Unapplied(neutral=({},))
    draft_quantize = Unapplied(neutral=("",))
    remote_host = Unapplied(neutral=("",))
