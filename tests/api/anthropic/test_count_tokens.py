"""`POST /v1/messages/count_tokens`."""

from tests.api.anthropic.reading import HI, WEATHER
from tests.api.conftest import Api
from tests.contract.anthropic_spec import check


def test_the_count_and_nothing_else(api: Api) -> None:
    response = api.post("/v1/messages/count_tokens", {"model": "org/big:7b", "messages": HI, "tools": [WEATHER]})
    check(response.json, "MessageTokensCount")
    assert response.json == {"input_tokens": 42}
    assert api.inference.requests == []


def test_a_model_without_a_tokenizer_counts_nothing(api: Api) -> None:
    response = api.post("/v1/messages/count_tokens", {"model": "tiny", "messages": HI})
    assert response.status_code == 400
    check(response.json, "ErrorResponse")
    assert "no tokenizer" in response.json["error"]["message"]


def test_a_wrong_field_is_refused(api: Api) -> None:
    response = api.post("/v1/messages/count_tokens", {"model": "tiny", "messages": []})
    assert response.json["error"]["message"] == "'messages' must not be empty."
