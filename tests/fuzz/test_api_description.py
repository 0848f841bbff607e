"""Whatever fits the published description of the API, or just misses it, is answered in that API's own way.

RKLLAMA_FUZZ_EXAMPLES sets how many requests each operation gets; by default a few, so that the suite stays quick.
"""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from rkllama_flask.api.anthropic.errors import dialect as anthropic
from rkllama_flask.api.ollama.errors import PREFIX
from tests.conftest import scripted_library
from tests.serving import Server, start_server

EXAMPLES = int(os.environ.get("RKLLAMA_FUZZ_EXAMPLES", "6"))
ANY = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
NOWHERE = "http://127.0.0.1:9"
MODEL_FILE = "load_ms=0\ntokens=2"
REACHES_OUT = {"/api/pull": {500}, "/v1/models/download": {502, 504}}
"""What is answered where the hub can't be reached."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("fuzz")
    started = start_server(
        folder,
        library=scripted_library("1.3"),
        models={"tiny.rkllm": MODEL_FILE, "other.rkllm": MODEL_FILE},
        env={"HF_ENDPOINT": NOWHERE, "HF_HOME": str(folder / "hf"), "NO_PROXY": "127.0.0.1", "DEFAULT_MODEL": "tiny"},
    )
    yield started
    assert "unexpected error" not in started.log
    assert "Error handling request" not in started.log
    started.stop()


def assert_in_order(path: str, status: int, headers: dict[str, list[str]], body: bytes) -> None:
    """No 5xx but those that are promised, and errors in the shape of the API that was asked."""
    busy = status == 503 and "retry-after" in headers  # a load that fails has the process replaced
    assert status < 500 or busy or status in REACHES_OUT.get(path, ()), body
    if status < 400 or not body:  # HEAD has no body
        return
    assert headers["content-type"] == ["application/json"]
    error = json.loads(body)
    if path.startswith(PREFIX):
        assert isinstance(error["error"], str)
    elif path.startswith(anthropic.prefixes):
        assert error["type"] == "error"
        assert {"type", "message"} <= set(error["error"])
    else:
        assert {"message", "type", "param", "code"} <= set(error["error"])


def test_no_request_that_the_description_allows_or_just_misses_breaks_the_server(server: Server) -> None:
    schema = schemathesis.openapi.from_dict(server.get("/openapi.json").json())
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 30
    for operation in operations:

        @ANY
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            reply = case.call(base_url=server.url, timeout=30)
            assert_in_order(case.path, reply.status_code, reply.headers, reply.content)

        ask()
        for name in ("tiny", "other"):  # what the one before has deleted
            (server.folder / "models" / f"{name}.rkllm").write_text(MODEL_FILE)
