"""`POST /api/generate`, whole and streamed, as Ollama's clients use it."""

from typing import Any

import pytest

from rkllama_flask.errors import ContextLengthExceeded
from rkllama_flask.generation.events import Reasoning, Text
from rkllama_flask.generation.request import UNLIMITED, JsonFormat, Message
from tests.api.ollama.conftest import OllamaApi
from tests.api.ollama.reading import check_answer, read_answer
from tests.api.stub import finished


def post(api: OllamaApi, **fields: Any) -> Any:
    return api.post("/api/generate", {"model": "tiny", "prompt": "Once"} | fields)


def ask(api: OllamaApi, **fields: Any) -> Any:
    response = post(api, stream=False, **fields)
    assert response.status_code == 200, response.text
    check_answer(response.json, "Generate")
    return response.json


def ask_streamed(api: OllamaApi, **fields: Any) -> list[dict[str, Any]]:
    response = post(api, **fields)
    assert response.status_code == 200, response.text
    assert response.content_type == "application/x-ndjson"
    return read_answer(response.data, "Generate")


def refuse(api: OllamaApi, status: int = 400, **fields: Any) -> str:
    response = post(api, **fields)
    assert response.status_code == status, response.text
    assert api.inference.requests == []
    return str(response.json["error"])


def requested(api: OllamaApi, **fields: Any) -> Any:
    ask(api, **fields)
    return api.inference.requests[-1]


def test_an_answer_whole_and_streamed(api: OllamaApi) -> None:
    assert ask(api)["response"] == "Hello world"
    lines = ask_streamed(api)
    assert [line["response"] for line in lines] == ["Hello", " world", ""]
    assert lines[-1]["done_reason"] == "stop"


def test_thoughts_have_a_field_of_their_own(api: OllamaApi) -> None:
    api.inference.script = (Reasoning("Hm."), Text("Yes"), finished())
    body = ask(api)
    assert (body["thinking"], body["response"]) == ("Hm.", "Yes")
    assert [line.get("thinking") for line in ask_streamed(api)] == ["Hm.", None, None]


def test_a_prompt_is_a_conversation_of_one_message(api: OllamaApi) -> None:
    assert requested(api).messages == (Message("user", "Once"),)
    request = requested(api, system="Be brief.", template="{{ messages }}", format="json", think=False)
    assert request.messages == (Message("system", "Be brief."), Message("user", "Once"))
    assert request.template == "{{ messages }}"
    assert request.format == JsonFormat()
    assert request.thinking is False


def test_a_raw_prompt_goes_in_as_it_is(api: OllamaApi) -> None:
    api.inference.context = [1, 2]
    request = requested(api, raw=True)
    assert (request.prompt, request.messages, request.template) == ("Once", None, None)
    assert "context" not in ask(api, raw=True)


@pytest.mark.parametrize("fields", [{"template": "x"}, {"system": "x"}, {"context": [1]}])
def test_a_raw_prompt_has_nothing_around_it(api: OllamaApi, fields: dict[str, Any]) -> None:
    assert refuse(api, raw=True, **fields) == "raw mode does not support template, system, or context"


def test_a_reply_can_be_gone_on_from_by_its_context(api: OllamaApi) -> None:
    api.inference.context = [1, 2]
    assert ask(api)["context"] == [1, 2, 11]
    lines = ask_streamed(api, context=[1, 2, 11])
    assert [line.get("context") for line in lines] == [None, None, [1, 2, 11, 1, 2, 11]]
    assert api.inference.requests[-1].context == (1, 2, 11)


@pytest.mark.parametrize("asked", [ask, lambda *args, **fields: ask_streamed(*args, **fields)[-1]])
def test_what_was_left_out_is_not_in_the_context_either(api: OllamaApi, asked: Any) -> None:
    api.inference.context = [1, 2]
    api.inference.scripts = [(ContextLengthExceeded(30, 20),)]
    assert asked(api, context=[*range(100, 120)])["context"] == [*range(115, 120), 1, 2, 11]


def test_a_model_that_knows_no_tokens_has_no_context(api: OllamaApi) -> None:
    assert "context" not in ask(api)
    assert all("context" not in line for line in ask_streamed(api))


def test_an_answer_without_limit_has_none_even_where_the_modelfile_sets_one(api: OllamaApi) -> None:
    assert requested(api, model="tuned").max_tokens is None
    for unlimited in (-1, -2, 0):
        assert requested(api, model="tuned", options={"num_predict": unlimited}).max_tokens == UNLIMITED
    assert requested(api, model="tuned", options={"num_predict": 3}).max_tokens == 3


def test_a_context_is_no_larger_than_the_models(api: OllamaApi) -> None:
    assert requested(api, options={"num_ctx": 2048}).context_length == 2048
    assert requested(api, options={"num_ctx": 131072}).context_length == 4096
    assert requested(api, options={"num_ctx": 0}).context_length is None


def test_no_model_is_not_found(api: OllamaApi) -> None:
    assert refuse(api, 404, model="") == "model '' not found"
    assert refuse(api, 404, model=None) == "model '' not found"
    assert refuse(api, 404, model="nope:1b") == "model 'nope:1b' not found"
    assert refuse(api, model="../x") == "invalid model name"


def test_what_the_model_cannot_do(api: OllamaApi) -> None:
    assert refuse(api, suffix="end") == "registry.ollama.ai/library/tiny:latest does not support insert"
    assert refuse(api, images=["aGk="]) == '"tiny" reads no images, only text'
    api.inference.abilities = ("embedding",)
    assert refuse(api) == '"tiny" does not support generate'


@pytest.mark.parametrize("context", [[-1], ["1"], [1.5], [2**31], 1, [True]])
def test_a_context_is_a_list_of_token_ids(api: OllamaApi, context: Any) -> None:
    assert refuse(api, context=context) == "context must be a list of token ids"


def test_a_prompt_that_is_too_long_is_refused_where_nothing_may_be_left_out(api: OllamaApi) -> None:
    api.inference.early = ContextLengthExceeded(5000, 4092)
    for field in ({"truncate": False}, {"shift": False}):
        assert refuse(api, **field).startswith("the prompt is longer than the context length")
        assert refuse(api, raw=True, **field).startswith("the prompt is longer than the context length")


@pytest.mark.parametrize("path", ["generate", "chat"])
def test_a_prompt_can_be_looked_at_without_an_answer(api: OllamaApi, path: str) -> None:
    messages = [{"role": "user", "content": "Once"}]
    body = {"model": "tiny", "prompt": "Once", "messages": messages, "_debug_render_only": True}
    response = api.post(f"/api/{path}", body)
    assert response.content_type == "application/json"
    assert response.json["_debug_info"] == {"rendered_template": "<user>Once"}
    assert response.json["model"] == "tiny"
    assert api.inference.requests == []


def test_what_comes_before_a_gap_and_behind_it(api: OllamaApi) -> None:
    api.inference.abilities = ("completion", "insert")
    request = requested(api, suffix="end")
    assert (request.messages, request.prompt, request.suffix) == (None, "Once", "end")
    response = api.post("/api/generate", {"model": "tiny", "prompt": "Once", "suffix": "end", "system": "Be brief."})
    assert response.headers["X-Unapplied-Parameters"] == "system"


def test_empty_strings_are_as_if_they_were_not_sent(api: OllamaApi) -> None:
    request = requested(api, suffix="", images=[], system="", template="", context=[], format="")
    assert request.messages == (Message("user", "Once"),)
    assert (request.template, request.context, request.format) == (None, (), None)
