"""llama-server's small endpoints: tokens, and what a template makes of a conversation."""

import pytest

from tests.api.conftest import Api
from tests.contract.openai_spec import check

BIG = "org/big:7b"
CHAT = {"model": BIG, "messages": [{"role": "user", "content": "Hi"}]}


def test_a_text_as_tokens(api: Api) -> None:
    assert api.post("/tokenize", {"model": BIG, "content": "Hi"}).json == {"tokens": [72, 105]}
    with_beginning = api.post("/tokenize", {"model": BIG, "content": "Hi", "add_special": True}).json
    assert with_beginning == {"tokens": [1, 72, 105]}


def test_tokens_as_a_text(api: Api) -> None:
    assert api.post("/detokenize", {"model": BIG, "tokens": [7, 8]}).json == {"content": "<7><8>"}


def test_a_conversation_as_a_prompt(api: Api) -> None:
    assert api.post("/apply-template", CHAT).json == {"prompt": "<user>Hi"}


def test_the_tokens_of_a_chat(api: Api) -> None:
    body = api.post("/v1/chat/completions/input_tokens", CHAT).json
    check(body, "TokenCountsResource")
    assert body["input_tokens"] == 2


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {"content": 5}, "content"),
        ("/tokenize", {}, "content"),
        ("/detokenize", {"tokens": ["a"]}, "tokens.0"),
        ("/detokenize", {"tokens": [-1]}, "tokens.0"),
        ("/apply-template", {"messages": []}, "messages"),
    ],
)
def test_a_wrong_field_is_refused_by_its_name(api: Api, path: str, body: dict[str, object], param: str) -> None:
    response = api.post(path, {"model": BIG} | body)
    assert (response.status_code, response.json["error"]["param"]) == (400, param)


@pytest.mark.parametrize("path", ["/tokenize", "/detokenize", "/chat/completions/input_tokens"])
def test_a_model_without_a_tokenizer_says_so(api: Api, path: str) -> None:
    response = api.post(path, CHAT | {"model": "tiny", "content": "Hi", "tokens": [7]})
    assert (response.status_code, response.json["error"]["code"]) == (400, "unsupported")
