"""Embeddings as OpenAI's clients see them."""

import base64
from array import array
from typing import Any

import pytest

from rkllama_flask.errors import ContextLengthExceeded, UnsupportedRequest
from tests.api.conftest import Api
from tests.contract.openai_spec import check

BODY = {"model": "tiny", "input": "Once"}


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embeddings"])
def test_a_vector_and_its_usage(api: Api, path: str) -> None:
    response = api.post(path, BODY)
    check(response.json, "CreateEmbeddingResponse")
    assert response.json == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25, 0.125]}],
        "model": "tiny",
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        ([5, 6], ((5, 6),)),
        ([[5], [6, 7]], ((5,), (6, 7))),
        (["a"] * 3000, ("a",) * 3000),
    ],
)
def test_every_kind_of_input(api: Api, given: Any, read: Any) -> None:
    response = api.post("/v1/embeddings", BODY | {"input": given})
    assert response.json is not None
    assert [one["index"] for one in response.json["data"]] == list(range(len(read)))
    assert api.inference.embedded[0][1] == read


@pytest.mark.parametrize("wrong", [None, 5, {}, [], [[]], [None], [1.5], [-1], [True], ["a", [5, "b"]]])
def test_what_is_no_input_is_refused_by_its_name(api: Api, wrong: Any) -> None:
    response = api.post("/v1/embeddings", BODY | {"input": wrong})
    assert response.status_code == 400
    assert response.json is not None
    assert response.json["error"]["param"] == "input"


def test_base64_holds_the_same_numbers(api: Api) -> None:
    response = api.post("/v1/embeddings", BODY | {"encoding_format": "base64"})
    assert response.json is not None
    numbers = array("f")
    numbers.frombytes(base64.b64decode(response.json["data"][0]["embedding"]))
    assert list(numbers) == [0.5, -0.25, 0.125]


@pytest.mark.parametrize(("field", "wrong"), [("encoding_format", "hex"), ("dimensions", 0), ("dimensions", "2")])
def test_a_wrong_field_is_refused_by_its_name(api: Api, field: str, wrong: Any) -> None:
    response = api.post("/v1/embeddings", BODY | {field: wrong})
    check(response.json, "ErrorResponse")
    assert response.status_code == 400
    assert response.json is not None
    assert response.json["error"]["param"] == field


def test_dimensions_are_handed_on_as_far_as_the_model_has_them(api: Api) -> None:
    response = api.post("/v1/embeddings", BODY | {"dimensions": 2})
    assert response.json is not None
    assert response.json["data"][0]["embedding"] == [0.5, -0.25]
    refused = api.post("/v1/embeddings", BODY | {"dimensions": 4})
    assert refused.status_code == 400
    assert refused.json is not None
    assert refused.json["error"]["param"] == "dimensions"


def test_an_input_that_is_too_long_is_refused_with_both_counts(api: Api) -> None:
    api.inference.early = ContextLengthExceeded(5000, 4092)
    response = api.post("/v1/embeddings", BODY)
    assert response.status_code == 400
    assert response.json is not None
    error = response.json["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "input")
    assert (error["n_prompt_tokens"], error["n_ctx"]) == (5000, 4092)


def test_a_model_that_cannot_says_so(api: Api) -> None:
    api.inference.early = UnsupportedRequest("this model can't make embeddings", param="model")
    response = api.post("/v1/embeddings", BODY)
    check(response.json, "ErrorResponse")
    assert response.status_code == 400


def test_what_was_collected_is_closed(api: Api) -> None:
    api.post("/v1/embeddings", BODY)
    assert [one.closed for one in api.inference.generations] == [True]
