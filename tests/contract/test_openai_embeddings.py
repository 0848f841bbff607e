"""The official `openai` client asks for embeddings, on the scripted runtime of each family."""

import math
from collections.abc import Callable, Iterator

import openai
import pytest

from tests.contract.openai_spec import check
from tests.serving import Server


@pytest.fixture
def client(scripted: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{scripted.url}/v1", api_key="any", max_retries=0) as client:
        yield client


def test_what_the_client_asks_for_by_default_equals_floats(client: openai.OpenAI) -> None:
    texts = ["one two", "three", "one two"]
    by_default = client.embeddings.create(model="scripted", input=texts)
    floats = client.embeddings.create(model="scripted", input=texts, encoding_format="float")
    check(floats.model_dump(exclude_unset=True), "CreateEmbeddingResponse")
    assert [one.embedding for one in by_default.data] == [one.embedding for one in floats.data]
    assert [one.index for one in floats.data] == [0, 1, 2]
    assert floats.data[0].embedding == floats.data[2].embedding != floats.data[1].embedding
    assert floats.usage == by_default.usage
    assert (floats.usage.prompt_tokens, floats.usage.total_tokens) == (5, 5)


def test_a_vector_has_length_one_also_after_a_cut(client: openai.OpenAI) -> None:
    whole = client.embeddings.create(model="scripted", input="one two").data[0].embedding
    cut = client.embeddings.create(model="scripted", input="one two", dimensions=8).data[0].embedding
    assert (len(whole), len(cut)) == (64, 8)
    assert math.hypot(*whole) == pytest.approx(1)
    assert math.hypot(*cut) == pytest.approx(1)
    assert cut == pytest.approx([value / math.hypot(*whole[:8]) for value in whole[:8]], abs=1e-6)


def test_token_ids_are_an_input(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="scripted", input=[[5, 6, 7], [8]])
    assert (len(answer.data), answer.usage.prompt_tokens) == (2, 4)


def test_a_text_that_is_too_long_is_refused_with_both_counts(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.embeddings.create(model="scripted", input=["short", "word " * 5000])
    assert (refusal.value.code, refusal.value.param) == ("context_length_exceeded", "input")
    assert isinstance(refusal.value.body, dict)
    assert refusal.value.body["n_prompt_tokens"] > refusal.value.body["n_ctx"] > 4000


def test_a_text_that_is_too_long_is_cut_where_that_is_asked_for(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="scripted", input="word " * 5000, extra_body={"truncate": True})
    assert 3000 < answer.usage.prompt_tokens <= 4096


def test_more_dimensions_than_the_model_has_are_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.embeddings.create(model="scripted", input="one", dimensions=65)
    assert refusal.value.param == "dimensions"


def test_an_encoder_does_not_chat(serve: Callable[..., Server]) -> None:
    server = serve(models={"bge-small.rkllm": "load_ms=0"})
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        assert client.embeddings.create(model="bge-small", input="one").model == "bge-small"
        with pytest.raises(openai.BadRequestError, match="does not support chat"):
            client.chat.completions.create(model="bge-small", messages=[{"role": "user", "content": "Hi"}])
