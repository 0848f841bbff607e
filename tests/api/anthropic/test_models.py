"""`GET /v1/models` and `/v1/models/{id}` as Anthropic's clients ask."""

from typing import Any

import pytest

from tests.api.conftest import Api
from tests.api.stub import make_model
from tests.contract.anthropic_spec import check

VERSION = {"anthropic-version": "2023-06-01"}


def listed(api: Api, query: str = "") -> Any:
    response = api.get(f"/v1/models{query}", headers=VERSION)
    assert response.status_code == 200, response.text
    for model in response.json["data"]:
        check(model, "ModelInfo")
    return response.json


def test_the_list_has_this_apis_shape_and_no_other(api: Api) -> None:
    body = listed(api)
    assert set(body) == {"data", "has_more", "first_id", "last_id"}
    assert body["data"][0] == {
        "type": "model",
        "id": "tiny",
        "display_name": "tiny",
        "created_at": "2023-11-14T22:13:20Z",
        "lifecycle": "active",
        "max_input_tokens": 4096,
        "max_tokens": 4096,
    }


def test_without_models_the_list_is_empty(api: Api) -> None:
    api.inference.catalog.models.clear()
    assert listed(api) == {"data": [], "has_more": False, "first_id": None, "last_id": None}


@pytest.mark.parametrize(
    ("query", "names", "more"),
    [
        ("", "abcde", False),
        ("?limit=2", "ab", True),
        ("?limit=2&after_id=b", "cd", True),
        ("?limit=2&after_id=c", "de", False),
        ("?after_id=e", "", False),
        ("?limit=2&before_id=d", "bc", True),
        ("?limit=2&before_id=c", "ab", False),
        ("?limit=1000", "abcde", False),
    ],
)
def test_pages(api: Api, query: str, names: str, more: bool) -> None:
    api.inference.catalog.models[:] = [make_model(name) for name in "abcde"]
    body = listed(api, query)
    assert ("".join(model["id"] for model in body["data"]), body["has_more"]) == (names, more)
    assert (body["first_id"], body["last_id"]) == ((names[0], names[-1]) if names else (None, None))


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "limit=²", "after_id=nobody", "before_id="])
def test_a_page_that_cannot_be_is_refused_in_this_shape(api: Api, query: str) -> None:
    response = api.get(f"/v1/models?{query}", headers=VERSION)
    assert response.status_code == 400
    check(response.json, "ErrorResponse")


@pytest.mark.parametrize("name", ["tiny", "tiny:latest", "org/big:7b"])
def test_a_model_is_found_by_the_name_it_is_asked_by(api: Api, name: str) -> None:
    body = api.get(f"/v1/models/{name}", headers=VERSION).json
    check(body, "ModelInfo")
    assert body["id"] == name


def test_an_unknown_model_is_not_found_in_this_shape(api: Api) -> None:
    response = api.get("/v1/models/claude-9", headers=VERSION)
    assert (response.status_code, response.json["error"]["type"]) == (404, "not_found_error")
    check(response.json, "ErrorResponse")
