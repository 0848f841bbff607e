"""The request bodies of messages and token counts: what is honoured, and what is only known.

A field of the API that changes nothing in an answer (`metadata`, `speed`, …) is here for its type alone. One that would
change the answer and can't be honoured is `Unapplied`: its name is told to the client.
"""

from typing import Any

from marshmallow import ValidationError, validates_schema
from marshmallow.validate import Length, OneOf, Range

from rkllama_flask.api.anthropic.fields import Content, OutputFormat, SystemPrompt, is_users, unread_in
from rkllama_flask.api.web.schema import (
    Boolean,
    EitherOf,
    Integer,
    List,
    Nested,
    Number,
    Object,
    RequestSchema,
    String,
    Unapplied,
)
from rkllama_flask.api.web.unread import last, placed, refuse

EFFORTS = ("low", "medium", "high", "xhigh", "max")

_NAME = Length(min=1, max=256, error="must have 1 to 256 characters")
_NOT_EMPTY = Length(min=1, error="must not be empty")


class MessageSchema(RequestSchema):
    """One message. Current clients also send `system` amid the conversation."""

    role = String(required=True, validate=OneOf(["user", "assistant", "system"]))
    content = Content(required=True, error_messages={"required": "is required"})


class ToolSchema(RequestSchema):
    """A tool. Those of Anthropic's own have a dated type and no schema: this server can't offer them."""

    type = String(load_default="custom")
    name = String(validate=_NAME)
    description = String(load_default="")
    input_schema = Object()
    strict = Boolean(load_default=False)

    @validates_schema
    def _check_custom(self, data: dict[str, Any], **_: Any) -> None:
        if data.get("type") != "custom" and "input_schema" not in data:
            return
        for name in ("name", "input_schema"):
            if name not in data:
                raise ValidationError("is required", name)


class ToolChoiceSchema(RequestSchema):
    type = String(required=True, validate=OneOf(["auto", "any", "tool", "none"]))
    name = String()
    disable_parallel_tool_use = Boolean(load_default=False)

    @validates_schema
    def _check_name(self, data: dict[str, Any], **_: Any) -> None:
        if data.get("type") == "tool" and "name" not in data:
            raise ValidationError("is required", "name")


class ThinkingSchema(RequestSchema):
    type = String(required=True, validate=OneOf(["enabled", "disabled", "adaptive"]))
    budget_tokens = Integer(validate=Range(min=0))
    display = String(validate=OneOf(["summarized", "omitted"]))


class OutputConfigSchema(RequestSchema):
    effort = String(validate=OneOf(EFFORTS))
    format = OutputFormat()


class CountSchema(RequestSchema):
    """`POST /v1/messages/count_tokens`: all that the prompt is made of."""

    model = String()
    messages = List(Nested(MessageSchema), required=True, validate=_NOT_EMPTY)
    system = SystemPrompt()
    tools = List(Nested(ToolSchema), load_default=list)
    tool_choice = Nested(ToolChoiceSchema)
    thinking = Nested(ThinkingSchema)
    output_config = Nested(OutputConfigSchema)
    output_format = OutputFormat()

    cache_control = Object()
    speed = String()

    container = Unapplied(EitherOf(String(), Object(), invalid="must be a string or an object"))
    context_management = Unapplied(Object(), neutral=({},))
    mcp_servers = Unapplied(List(Object()), neutral=([],))

    @validates_schema
    def _check_last_turn(self, data: dict[str, Any], **_: Any) -> None:
        index = last(data.get("messages", ()), is_users)
        if index is not None:
            refuse(placed(unread_in(data["messages"][index]["content"]), "messages", index, "content"))


class MessagesSchema(CountSchema):
    """`POST /v1/messages`."""

    max_tokens = Integer(required=True, validate=Range(min=1))
    stream = Boolean(load_default=False)
    stop_sequences = List(String(), load_default=list)
    temperature = Number(validate=Range(0, 2))
    top_p = Number(validate=Range(0, 1))
    top_k = Integer(validate=Range(min=-1))
    use_cache = String(validate=_NOT_EMPTY)
    thread = Object()

    metadata = Object()
    service_tier = String()
    inference_geo = String()
