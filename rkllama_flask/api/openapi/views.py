"""What a view says of itself for the OpenAPI document: the body it accepts, and what it returns.

    @accepts(ChatSchema, examples.CHAT)
    @returns(replies.CHAT, stream=replies.CHAT_CHUNKS)
    def create_chat_completion() -> Response: ...

The decorators only leave a note on the function; `openapi_document` reads it beside routes and docstrings.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from rkllama_flask.api.web.schema import RequestSchema

JsonSchema = Mapping[str, Any]
View = TypeVar("View", bound=Callable[..., Any])

_NOTE = "openapi"


class Stream(NamedTuple):
    """A reply in pieces: what they are, and how the first of them look on the wire."""

    content_type: str
    description: str
    example: str


@dataclass(frozen=True)
class Operation:
    """What one view says of itself. `status` is that of success, `refused` of a view that can only refuse, else 0.

    `reply` is the JSON Schema of a JSON reply; without one the reply has the type `content_type`, or no content.
    """

    accepts: type[RequestSchema] | None = None
    example: Mapping[str, Any] | None = None
    reply: JsonSchema | None = None
    stream: Stream | None = None
    content_type: str | None = None
    refused: int = 0
    status: int = 200


def accepts(schema: type[RequestSchema], example: Mapping[str, Any]) -> Callable[[View], View]:
    """The view reads a JSON body of this schema; sent to the embedded model, the example succeeds."""
    return lambda view: _note(view, accepts=schema, example=example)


def returns(
    reply: JsonSchema | None = None,
    *,
    stream: Stream | None = None,
    content_type: str | None = None,
    refused: int = 0,
    status: int = 200,
) -> Callable[[View], View]:
    """The view's reply, as Operation has it."""
    said = {"stream": stream, "content_type": content_type, "refused": refused, "status": status}
    return lambda view: _note(view, reply=reply, **said)


def operation_of(view: Callable[..., Any]) -> Operation | None:
    """What the view says of itself; None for one that says nothing."""
    found: Operation | None = vars(view).get(_NOTE)
    return found


def _note(view: View, **said: Any) -> View:
    vars(view)[_NOTE] = replace(operation_of(view) or Operation(), **said)
    return view
