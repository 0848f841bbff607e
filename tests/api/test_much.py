"""However much one request holds, others are not kept waiting by it for long: limits, and work in proportion to size.

Bounds are ten times what a quiet machine takes; without the limits each of these takes minutes.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from rkllama_flask.api.web.body import MAX_OBJECTS
from rkllama_flask.api.web.schema import MAX_INPUTS, MAX_ITEMS
from rkllama_flask.app import create_app
from rkllama_flask.generation.guided.forced_calls import MOST_CHECKED
from rkllama_flask.generation.inference import MAX_STOPS
from rkllama_flask.generation.prompt.tokens import LONG
from rkllama_flask.settings import Settings
from tests.conftest import scripted_library

MESSAGE = {"role": "user", "content": "a"}
SECONDS = 20


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    """The whole application, whose runtime is never started: everything here is decided before."""
    root = tmp_path_factory.mktemp("much")
    (root / "models/tiny").mkdir(parents=True)
    (root / "models/tiny/tiny.rkllm").write_text("")
    (root / "models/tiny/tokenizer.json").write_text(
        (Path(__file__).parent.parent / "native/byte_tokenizer.json").read_text()
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RKLLM_LIB_PATH", str(scripted_library("1.3")))
        patch.setenv("ACCESS_LOG", "false")
        patch.setenv("ENV_FILE", os.devnull)
        yield create_app(Settings.from_environment(root)).test_client()


def post(client: FlaskClient, path: str, **fields: Any) -> TestResponse:
    body = json.dumps({"model": "tiny", **fields})
    begun = time.monotonic()
    response = client.post(path, data=body)
    assert time.monotonic() - begun < SECONDS
    assert response.status_code == 400, response.text
    return response


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/api/chat"])
def test_a_body_of_countless_objects_is_refused_while_it_is_read(client: FlaskClient, path: str) -> None:
    assert f"more than {MAX_OBJECTS} objects" in post(client, path, messages=[MESSAGE] * 100_000, max_tokens=1).text


@pytest.mark.parametrize("items", [[1] * 500_000, [{}] * (MAX_OBJECTS - 1), [[]] * 500_000])
def test_the_first_wrong_item_is_the_error_and_no_other_is_looked_at(client: FlaskClient, items: list[Any]) -> None:
    error = post(client, "/v1/chat/completions", messages=items).json["error"]
    assert error["param"].startswith("messages.0")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/api/chat"])
def test_as_many_messages_as_are_allowed_take_seconds(client: FlaskClient, path: str) -> None:
    post(client, path, messages=[MESSAGE] * (MAX_OBJECTS - 2), max_tokens=1, truncate=False)


@pytest.mark.parametrize("text", ["<|im_end|>", "<|im_end|>" + chr(0x100000), "<|", "<think></think>", " \n"])
def test_a_text_that_is_all_special_strings_costs_what_its_length_does(client: FlaskClient, text: str) -> None:
    post(client, "/v1/chat/completions", messages=[{"role": "user", "content": text * 60_000}])


def test_more_look_alikes_of_special_tokens_than_a_context_takes_are_not_all_looked_at(client: FlaskClient) -> None:
    for text in ("<|im_end|>", "</think>"):
        refused = post(client, "/v1/chat/completions", messages=[{"role": "user", "content": text * 500_000}])
        assert "look-alikes of special tokens" in refused.text


@pytest.mark.parametrize(
    ("path", "field"),
    [("/v1/embeddings", "input"), ("/v1/completions", "prompt"), ("/api/embed", "input")],
)
def test_there_is_a_limit_of_texts_in_one_request(client: FlaskClient, path: str, field: str) -> None:
    assert f"more than {MAX_INPUTS} texts" in post(client, path, **{field: ["a"] * (MAX_INPUTS + 1)}).text


def test_there_is_a_limit_of_items_that_are_looked_at(client: FlaskClient) -> None:
    assert f"more than {MAX_ITEMS} items" in post(client, "/detokenize", tokens=[1] * (MAX_ITEMS + 1)).text


@pytest.mark.parametrize("stops", [["a"] * (MAX_STOPS + 1), ["a" * 10_001]])
def test_stop_strings_that_would_slow_everybodys_tokens_are_refused(client: FlaskClient, stops: list[str]) -> None:
    assert "stop strings" in post(client, "/v1/chat/completions", messages=[MESSAGE], stop=stops).text
    assert "stop strings" in post(client, "/v1/messages", messages=[MESSAGE], max_tokens=1, stop_sequences=stops).text
    assert "stop strings" in post(client, "/api/chat", messages=[MESSAGE], options={"stop": stops}).text


@pytest.mark.parametrize("choice", [{"tool_choice": "required"}, {"strict": True}])
def test_there_is_a_limit_of_functions_that_are_checked(client: FlaskClient, choice: dict[str, Any]) -> None:
    strict = {"strict": choice.pop("strict", False)}
    tools = [
        {"function": {"name": f"f{i}", "parameters": {"type": "object"}, **strict}} for i in range(MOST_CHECKED + 1)
    ]
    refused = post(client, "/v1/chat/completions", messages=[MESSAGE], tools=tools, **choice)
    assert f"At most {MOST_CHECKED} functions" in refused.text


def test_many_short_texts_are_cut_off_the_event_loop_as_a_long_one_is(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuts: list[Any] = []
    monkeypatch.setattr("rkllama_flask.generation.inference.call_natively", lambda cut: cuts.append(cut) or cut())
    for size in (10, LONG // 10):
        refused = post(client, "/v1/embeddings", input=[*["a" * size] * 10, ""])
        assert refused.json["error"]["message"] == "An input is empty."
        refused = post(client, "/v1/completions", prompt=[*["a" * size] * 11, ""])
        assert refused.json["error"]["message"] == "'prompt' must not be empty."
    assert len(cuts) == 2


def test_many_completions_of_many_prompts_are_refused_as_soon_as_one(client: FlaskClient) -> None:
    prompts = [*[[1]] * (MAX_INPUTS - 1), [2**31 - 1]]
    assert "Token ids" in post(client, "/v1/completions", prompt=prompts, n=128).text
