"""A real embedding model finds paraphrases; skipped unless scripts/embedding-model has installed it."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from rkllama_flask.settings import Settings
from tests.serving import Server, start_server

NAME = "all-minilm-l6-v2"
FOLDER = Settings.from_environment().models_dir / NAME
PARAPHRASES = {
    "A cat sits on the mat.": "A feline is resting on a rug.",
    "The stock market fell today.": "Share prices dropped this afternoon.",
    "How do I bake bread?": "What is the recipe for a loaf?",
    "The board has an NPU with six TOPS.": "A neural accelerator is built into this computer.",
    "He broke his leg while skiing.": "A fracture ended his winter holiday.",
    "The train to Paris was late.": "Our railway journey to France was delayed.",
    "She plays the violin in an orchestra.": "The musician performs with a string instrument.",
    "It will rain all weekend.": "Wet weather is forecast for Saturday and Sunday.",
}

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="needs scripts/embedding-model")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    folder = tmp_path_factory.mktemp("embedding")
    (folder / "models").mkdir()
    (folder / "models" / NAME).symlink_to(FOLDER)
    server: Server = start_server(
        folder, library=Path("/nowhere"), models={}, env={"RKLLM_CPU_THREADS": "1", "MAX_CONTEXT_LENGTH": "256"}
    )
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        yield client
    server.end()


def test_each_sentence_is_nearest_to_its_paraphrase(client: openai.OpenAI) -> None:
    texts = [*PARAPHRASES, *PARAPHRASES.values()]
    vectors = [one.embedding for one in client.embeddings.create(model=NAME, input=texts).data]
    here, there = vectors[: len(PARAPHRASES)], vectors[len(PARAPHRASES) :]
    for place, one in enumerate(here):
        likeness = [sum(a * b for a, b in zip(one, other, strict=True)) for other in there]
        assert likeness.index(max(likeness)) == place


def test_it_counts_the_tokens_that_its_authors_would(client: openai.OpenAI) -> None:
    assert client.embeddings.create(model=NAME, input="Hello world").usage.prompt_tokens == 4


def test_it_refuses_to_chat(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="only makes embeddings"):
        client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "Hi"}])
