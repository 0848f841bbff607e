"""`GET /v1/models` and `/v1/models/{id}`."""

import pytest

from tests.api.conftest import Api
from tests.contract.openai_spec import check


def test_every_model_on_disk_is_listed(api: Api) -> None:
    body = api.get("/v1/models").json
    check(body, "ListModelsResponse")
    assert [model["id"] for model in body["data"]] == ["tiny", "org/big:7b"]
    assert {model["created"] for model in body["data"]} == {1_700_000_000}


def test_without_models_the_list_is_empty_and_not_null(api: Api) -> None:
    api.inference.catalog.models.clear()
    body = api.get("/v1/models").json
    assert (body["data"], body["first_id"], body["last_id"]) == ([], None, None)


def test_the_list_is_also_what_anthropics_sdk_reads(api: Api) -> None:
    body = api.get("/v1/models").json
    assert (body["has_more"], body["first_id"], body["last_id"]) == (False, "tiny", "org/big:7b")
    model = body["data"][0]
    assert (model["type"], model["display_name"], model["created_at"]) == ("model", "tiny", "2023-11-14T22:13:20Z")


def test_how_calls_are_read_is_told_once_it_is_known(api: Api) -> None:
    assert api.get("/v1/models/tiny").json["turns"] is None
    api.inference.prompts.reading(api.inference.find("tiny"))
    assert api.get("/v1/models/tiny").json["turns"] == {"calls": "none"}


@pytest.mark.parametrize(
    ("path", "name"),
    [("tiny", "tiny"), ("tiny:latest", "tiny:latest"), ("org%2Fbig%3A7b", "org/big:7b"), ("org/big:7b", "org/big:7b")],
)
def test_a_model_is_found_by_the_name_it_is_asked_by(api: Api, path: str, name: str) -> None:
    for prefix in ("/v1", ""):
        body = api.get(f"{prefix}/models/{path}").json
        check(body, "Model")
        assert body["id"] == name


def test_an_unknown_model_is_not_found(api: Api) -> None:
    response = api.get("/v1/models/gpt-9")
    assert response.status_code == 404
    check(response.json, "ErrorResponse")
    assert response.json["error"]["code"] == "model_not_found"
