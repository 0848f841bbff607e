"""The stub of the floors below, which here also counts tokens."""

import pytest

from rkllama_flask.generation.request import GenerationRequest
from tests.api.conftest import Api


@pytest.fixture
def api(api: Api) -> Api:
    """`tiny` has no tokenizer, and every prompt of the other model has 42 tokens."""
    count = api.inference.count_tokens

    def count_tokens(request: GenerationRequest) -> int:
        return count(request) and 42

    api.inference.count_tokens = count_tokens  # type: ignore[attr-defined]
    return api
