"""`POST /v1/completions`: prompts as text or token ids, whole and streamed."""

from typing import Any

import pytest

from rkllama_flask.errors import ContextLengthExceeded, RuntimeFailed
from rkllama_flask.generation.events import Text
from tests.api.conftest import Api
from tests.api.openai.reading import read_chunks, read_events
from tests.api.stub import finished, say
from tests.contract.openai_spec import check


def post(api: Api, **fields: Any) -> Any:
    return api.post("/v1/completions", {"model": "tiny", "prompt": "Once"} | fields)


def ask(api: Api, **fields: Any) -> Any:
    response = post(api, **fields)
    assert response.status_code == 200, response.text
    check(response.json, "CreateCompletionResponse")
    return response.json


def ask_streamed(api: Api, **fields: Any) -> list[dict[str, Any]]:
    return read_chunks(post(api, stream=True, **fields).data, "CreateCompletionResponse")


def texts(chunks: list[dict[str, Any]]) -> dict[int, str]:
    joined: dict[int, str] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            joined[choice["index"]] = joined.get(choice["index"], "") + choice["text"]
    return joined


@pytest.fixture(autouse=True)
def lenient_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    """The description forgets that a chunk before the last has no reason for an end yet."""
    import tests.contract.openai_spec as spec

    schemas = spec._SPEC["components"]["schemas"]
    choice = schemas["CreateCompletionResponse"]["properties"]["choices"]["items"]["properties"]
    monkeypatch.setitem(choice, "finish_reason", {"enum": ["stop", "length", "content_filter", None]})


def test_a_whole_completion(api: Api) -> None:
    body = ask(api, max_tokens=5)
    assert body["object"] == "text_completion"
    assert body["id"].startswith("cmpl-")
    assert body["choices"] == [{"index": 0, "text": "Hello world", "logprobs": None, "finish_reason": "stop"}]
    request = api.inference.requests[0]
    assert (request.messages, request.prompt, request.max_tokens) == (None, "Once", 5)


def test_a_streamed_completion(api: Api) -> None:
    chunks = ask_streamed(api)
    assert [chunk["choices"][0]["text"] for chunk in chunks] == ["Hello", " world", ""]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, "stop"]
    assert all(chunk["object"] == "text_completion" for chunk in chunks)


def test_usage_of_a_streamed_completion_is_its_last_chunk(api: Api) -> None:
    *chunks, last = ask_streamed(api, stream_options={"include_usage": True})
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 7)
    assert all("usage" not in chunk for chunk in chunks)


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("", [""]),
        (["a", "b"], ["a", "b"]),
        ([1, 2, 3], [(1, 2, 3)]),
        ([[1, 2], [3]], [(1, 2), (3,)]),
    ],
)
def test_a_prompt_in_each_of_its_forms(api: Api, prompt: Any, prompts: list[Any]) -> None:
    assert len(ask(api, prompt=prompt)["choices"]) == len(prompts)
    assert [request.prompt for request in api.inference.requests] == prompts


def test_choices_run_over_prompts_and_their_repeats(api: Api) -> None:
    scripts = [(Text(text), finished(prompt=prompt)) for text, prompt in zip("wxyz", (3, 3, 4, 4), strict=True)]
    api.inference.scripts = list(scripts)
    body = ask(api, prompt=["a", "b"], n=2)
    assert [(choice["index"], choice["text"]) for choice in body["choices"]] == list(enumerate("wxyz"))
    assert body["usage"]["prompt_tokens"] == 7
    assert body["usage"]["completion_tokens"] == 8
    assert [request.prompt for request in api.inference.requests] == ["a", "a", "b", "b"]
    api.inference.scripts = list(scripts)
    assert texts(ask_streamed(api, prompt=["a", "b"], n=2)) == dict(enumerate("wxyz"))


def test_an_echoed_prompt_comes_first(api: Api) -> None:
    assert ask(api, echo=True)["choices"][0]["text"] == "OnceHello world"
    assert texts(ask_streamed(api, echo=True, prompt=["a", "b"])) == {0: "aHello world", 1: "bHello world"}


def test_an_echo_comes_first_even_where_nothing_follows(api: Api) -> None:
    api.inference.script = (finished(completion=0),)
    assert texts(ask_streamed(api, echo=True)) == {0: "Once"}


def test_echoed_token_ids_are_text(api: Api) -> None:
    assert ask(api, model="org/big:7b", echo=True, prompt=[7, 8])["choices"][0]["text"] == "<7><8>Hello world"


def test_token_ids_cannot_be_echoed_without_a_tokenizer(api: Api) -> None:
    response = post(api, echo=True, prompt=[7, 8])
    assert response.status_code == 400
    assert response.json["error"]["code"] == "unsupported"


def test_a_suffix_reaches_the_prompt(api: Api) -> None:
    post(api, suffix="the end")
    assert api.inference.requests[-1].suffix == "the end"
    post(api)
    assert api.inference.requests[-1].suffix == ""


def test_a_prompt_that_is_too_long_names_the_prompt(api: Api) -> None:
    api.inference.early = ContextLengthExceeded(5000, 4000)
    assert post(api).json["error"]["param"] == "prompt"


def test_an_error_amid_a_stream_is_its_last_event(api: Api) -> None:
    api.inference.script = (Text("a"), RuntimeFailed("broken"))
    assert read_events(post(api, stream=True).data)[-1]["error"]["message"] == "broken"


def test_what_cannot_be_honoured_is_named(api: Api) -> None:
    response = post(api, logprobs=0, best_of=2, seed=5)
    assert set(response.headers["X-Unapplied-Parameters"].split(", ")) == {"logprobs", "best_of", "seed"}


def test_a_neutral_best_of_is_not_named(api: Api) -> None:
    assert "X-Unapplied-Parameters" not in post(api, best_of=1).headers


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": [True]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [2**31]}, "prompt"),
        ({"prompt": {"a": 1}}, "prompt"),
        ({"echo": "yes"}, "echo"),
        ({"suffix": 1}, "suffix"),
    ],
)
def test_what_is_wrong_is_refused_by_its_name(api: Api, fields: dict[str, Any], param: str) -> None:
    response = post(api, **fields)
    assert response.status_code == 400
    assert response.json["error"]["param"] == param


def test_the_route_without_its_prefix(api: Api) -> None:
    api.inference.script = say("a")
    assert api.post("/completions", {"model": "tiny", "prompt": "x"}).json["choices"][0]["text"] == "a"
