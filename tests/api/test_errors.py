"""Every error is JSON in the shape of the API that was asked, and tells no more than it should."""

import logging
from typing import Any

import pytest
from flask import abort

from rkllama_flask.api.web import errors
from rkllama_flask.errors import (
    AnswerUnfit,
    ContextLengthExceeded,
    ModelUnusable,
    QueueFull,
    RkllamaError,
    RuntimeFailed,
    TimedOut,
)
from rkllama_flask.generation.events import Text
from tests.api.conftest import Api
from tests.contract import anthropic_spec

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}


def failing(api: Api, error: Exception) -> Any:
    api.inference.early = error
    return api.post("/v1/chat/completions", CHAT)


def test_an_unknown_path_is_a_json_error(api: Api) -> None:
    response = api.get("/v1/unheard-of")
    assert response.status_code == 404
    assert response.json["error"] == {
        "message": "There is nothing at GET /v1/unheard-of.",
        "type": "invalid_request_error",
        "param": None,
        "code": "not_found",
    }


def test_a_wrong_method_is_a_json_error_that_names_the_right_ones(api: Api) -> None:
    response = api.get("/v1/chat/completions")
    assert response.status_code == 405
    assert "POST" in response.headers["Allow"]
    assert response.json["error"]["type"] == "invalid_request_error"


def test_a_full_queue_tells_when_to_come_again(api: Api) -> None:
    response = failing(api, QueueFull("3 requests are waiting.", retry_after=7))
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "7"
    assert "x-should-retry" not in response.headers
    assert response.json["error"]["type"] == "server_error"


def test_what_a_model_has_answered_is_told_to_its_client_alone(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    unfit = AnswerUnfit("The answer is not valid at $.name: 'Ann' is too short")
    assert "Ann" in failing(api, unfit).text
    api.inference.early, api.inference.script = None, (Text("{"), unfit)
    assert "Ann" in api.post("/v1/chat/completions", CHAT | {"stream": True}).text
    assert caplog.text.count("AnswerUnfit: only the client was told why") == 2
    assert "Ann" not in caplog.text


@pytest.mark.parametrize("error", [RuntimeFailed("no"), TimedOut("no"), ModelUnusable("no")])
def test_what_would_only_fail_again_is_not_to_be_retried(api: Api, error: RkllamaError) -> None:
    response = failing(api, error)
    assert response.status_code == error.status
    assert response.headers["x-should-retry"] == "false"


def test_a_prompt_that_is_too_long_tells_both_counts(api: Api) -> None:
    error = failing(api, ContextLengthExceeded(5000, 4092)).json["error"]
    assert error["code"] == "context_length_exceeded"
    assert error["param"] == "messages"
    assert (error["n_prompt_tokens"], error["n_ctx"]) == (5000, 4092)
    assert "5000" in error["message"]
    assert "4092" in error["message"]


def test_an_unforeseen_error_tells_where_to_look_and_nothing_else(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        response = failing(api, ZeroDivisionError("/secret/path"))
    assert response.status_code == 500
    assert "secret" not in response.text
    assert response.headers["x-request-id"] in response.json["error"]["message"]
    assert response.headers["x-request-id"] in caplog.text
    assert "/secret/path" in caplog.text


def test_an_error_of_http_itself_keeps_its_status(api: Api) -> None:
    api.app.get("/teapot")(lambda: abort(418))
    assert api.get("/teapot").status_code == 418
    assert set(api.get("/teapot").json["error"]) == {"message", "type", "param", "code"}


def test_each_response_has_a_request_id_of_its_own(api: Api) -> None:
    first, second = (api.get("/health").headers["x-request-id"] for _ in range(2))
    assert first != second


def test_a_clients_own_request_id_is_kept(api: Api) -> None:
    headers = api.get("/health", headers={"X-Request-Id": "abc-123"}).headers
    assert headers["x-request-id"] == headers["request-id"] == "abc-123"


@pytest.mark.parametrize("hostile", ["a b", "a\tb", "x" * 200, "é"])
def test_a_request_id_that_could_harm_a_log_is_replaced(api: Api, hostile: str) -> None:
    assert api.get("/health", headers={"X-Request-Id": hostile}).headers["x-request-id"].startswith("req_")


class OtherDialect:
    prefixes = ("/other", "/v1/other")
    header = "x-other"

    def render_error(self, error: RkllamaError, _request_id: str, /) -> dict[str, str]:
        return {"other": error.message}


@pytest.mark.parametrize(
    ("path", "header", "other"),
    [
        ("/other/x", "", True),
        ("/v1/other", "", True),
        ("/v1/others", "", False),
        ("/", "", False),
        ("/v1/others", "x-other", True),
        ("/v1/chat/completions", "x-other", False),
    ],
)
def test_the_path_decides_the_shape_and_where_it_is_shared_the_client(
    api: Api, path: str, header: str, other: bool
) -> None:
    from rkllama_flask.api.openai import dialect

    api.app.extensions["rkllama_dialects"] = (dialect, OtherDialect())
    with api.app.test_request_context(path, headers={header: "1"} if header else {}):
        assert isinstance(errors.dialect_of(path), OtherDialect) == other


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/models/load", {"POST"}),
        ("GET", "/v1/models/unload", {"POST"}),
        ("GET", "/models/download", {"POST"}),
        ("DELETE", "/v1/models/load", {"POST"}),
        ("POST", "/v1/models/loaded", {"GET", "HEAD"}),
        ("POST", "/v1/models", {"GET", "HEAD"}),
        ("DELETE", "/v1/models/tiny", {"GET", "HEAD"}),
        ("PUT", "/v1/responses/input_tokens", {"POST"}),
    ],
)
def test_a_known_path_says_which_methods_it_takes(api: Api, method: str, path: str, allowed: set[str]) -> None:
    response = api.client.open(path, method=method)
    assert response.status_code == 405
    assert {name.strip() for name in response.headers["Allow"].split(",")} == allowed | {"OPTIONS"}
    assert api.client.options(path).status_code == 200


def test_an_anthropic_client_is_answered_in_its_own_shape_wherever_it_asks(api: Api) -> None:
    headers = {"anthropic-version": "2023-06-01"}
    api.configure(api_keys=("secret",))
    refusals = [api.get("/v1/models", headers=headers), api.get("/v1/models/x", headers=headers)]
    headers["x-api-key"] = "secret"
    refusals += [api.get("/v1/models/x", headers=headers), api.client.delete("/v1/models/x", headers=headers)]
    refusals.append(api.get("/v1/files", headers=headers))
    assert [one.status_code for one in refusals] == [401, 401, 404, 405, 404]
    for refusal in refusals:
        anthropic_spec.check(refusal.json, "ErrorResponse")
