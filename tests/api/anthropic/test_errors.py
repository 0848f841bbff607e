"""Errors in Anthropic's shape, on its own paths."""

from typing import Any

import pytest

from rkllama_flask.api.anthropic.errors import dialect
from rkllama_flask.errors import (
    Forbidden,
    InvalidRequest,
    ModelNotFound,
    ModelUnusable,
    PayloadTooLarge,
    QueueFull,
    RequestTimedOut,
    RkllamaError,
    RuntimeFailed,
    TimedOut,
    Unauthorized,
)
from tests.api.anthropic.reading import HI
from tests.api.conftest import Api
from tests.contract.anthropic_spec import check


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidRequest("x"), "invalid_request_error"),
        (ModelUnusable("x"), "invalid_request_error"),
        (RequestTimedOut("x"), "invalid_request_error"),
        (Unauthorized("x"), "authentication_error"),
        (Forbidden("x"), "permission_error"),
        (ModelNotFound("x"), "not_found_error"),
        (PayloadTooLarge("x"), "request_too_large"),
        (QueueFull("x"), "overloaded_error"),
        (RuntimeFailed("x"), "api_error"),
        (TimedOut("x"), "timeout_error"),
    ],
)
def test_the_type_follows_the_status(error: RkllamaError, kind: str) -> None:
    body = dialect.render_error(error, "req_1")
    assert body == {"type": "error", "error": {"type": kind, "message": error.message}, "request_id": "req_1"}
    if kind != "request_too_large":  # the SDK's models don't list it
        check(body, "ErrorResponse")


@pytest.mark.parametrize("prefix", ["/v1", ""])
def test_every_error_below_messages_has_this_shape(api: Api, prefix: str) -> None:
    for status, response in [
        (404, api.post(f"{prefix}/messages", {"model": "gpt-9", "max_tokens": 9, "messages": HI})),
        (404, api.post(f"{prefix}/messages/batches", {})),
        (405, api.get(f"{prefix}/messages")),
    ]:
        assert response.status_code == status
        check(response.json, "ErrorResponse")
        assert response.json["request_id"] == response.headers["request-id"]


@pytest.mark.parametrize("header", [{"x-api-key": "wrong"}, {"Authorization": "Bearer wrong"}, {}])
def test_a_wrong_key_is_refused_in_this_shape(api: Api, header: dict[str, str]) -> None:
    api.configure(api_keys=("secret",))
    response = api.post("/v1/messages", {"model": "tiny", "max_tokens": 9, "messages": HI}, headers=header)
    assert (response.status_code, response.json["error"]["type"]) == (401, "authentication_error")


@pytest.mark.parametrize("header", [{"x-api-key": "secret"}, {"Authorization": "Bearer secret"}])
def test_the_key_may_come_in_either_header(api: Api, header: dict[str, str]) -> None:
    api.configure(api_keys=("secret",))
    body: Any = {"model": "tiny", "max_tokens": 9, "messages": HI}
    assert api.post("/v1/messages", body, headers=header).status_code == 200


def test_a_full_queue_says_when_to_come_again(api: Api) -> None:
    api.inference.early = QueueFull("full", retry_after=3)
    response = api.post("/v1/messages", {"model": "tiny", "max_tokens": 9, "messages": HI})
    assert (response.status_code, response.headers["Retry-After"]) == (503, "3")


def test_a_conversation_of_which_only_the_end_is_sent_is_refused_in_words_that_the_client_knows(api: Api) -> None:
    for thread in ({"type": "create"}, {"type": "continue", "previous_message_id": "msg_1"}):
        response = api.post("/v1/messages", {"model": "tiny", "max_tokens": 9, "messages": HI, "thread": thread})
        assert response.status_code == 400
        error = response.json["error"]
        assert error["type"] == "invalid_request_error"
        assert error["details"] == {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
    assert (
        api.post("/v1/messages", {"model": "tiny", "max_tokens": 9, "messages": HI, "thread": None}).status_code == 200
    )
