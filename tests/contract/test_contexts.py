"""What one client's `num_ctx` does to others: it never shrinks what they get, and nobody reloads back and forth."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import scripted_library
from tests.native import journal
from tests.serving import ROOT, Server, start_server

COUNTED = "counted"
"""Has a tokenizer of one token a byte, so that a prompt's length is known before it runs."""

TEXT = "text"
"""Has none: only the runtime counts."""

LARGE = "large-16k"
"""Counts as well, and takes more than MAX_CONTEXT_LENGTH lets it have unasked."""

LONG = {COUNTED: "x" * 3000, TEXT: "word " * 3000}
SHORT = {COUNTED: "x" * 300, TEXT: "word " * 300}


@pytest.fixture(scope="module")
def started(family: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("contexts")
    for name in (COUNTED, LARGE):
        (folder / "models" / name).mkdir(parents=True)
        shutil.copy(ROOT / "tests" / "native" / "byte_tokenizer.json", folder / "models" / name / "tokenizer.json")
    models = {
        f"{COUNTED}/{COUNTED}.rkllm": "tokens=1",
        f"{TEXT}.rkllm": "tokens=1",
        f"{LARGE}/{LARGE}.rkllm": "tokens=1\ncontext_limit=16384",
    }
    env = {"MAX_CONTEXT_LENGTH": "4096"}
    server = start_server(folder, library=scripted_library(family), models=models, env=env)
    yield server
    server.end()


@pytest.fixture
def server(started: Server) -> Server:
    """With nothing in memory."""
    started.post("/v1/models/unload")
    return started


def loads(server: Server) -> int:
    return [entry.what for entry in journal.parse(server.calls)].count("init")


def context(server: Server) -> int:
    (listed,) = server.get("/api/ps").json()["models"]
    return int(listed["context_length"])


def ollama(server: Server, model: str, prompt: str, **options: Any) -> Any:
    """An answer of Ollama's chat; fields beside `num_ctx` and `num_predict` are the request's own."""
    asked = {key: options.pop(key) for key in ("num_ctx", "num_predict") if key in options}
    messages = [{"role": "user", "content": prompt}]
    body = {"model": model, "messages": messages, "stream": False, "options": asked} | options
    reply = server.post("/api/chat", body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def ask_openai(server: Server, model: str, prompt: str) -> int:
    messages = [{"role": "user", "content": prompt}]
    reply = server.post("/v1/chat/completions", {"model": model, "messages": messages})
    assert reply.status_code == 200, reply.text
    return int(reply.json()["usage"]["prompt_tokens"])


def stream_openai(server: Server, model: str, prompt: str) -> int:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "stream": True}
    reply = server.post("/v1/chat/completions", body)
    assert reply.status_code == 200, reply.text
    assert "[DONE]" in reply.text
    assert '"error"' not in reply.text
    return 3000


def ask_anthropic(server: Server, model: str, prompt: str) -> int:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 10}
    reply = server.post("/v1/messages", body)
    assert reply.status_code == 200, reply.text
    return int(reply.json()["usage"]["input_tokens"])


def ask_ollama(server: Server, model: str, prompt: str) -> int:
    return int(ollama(server, model, prompt)["prompt_eval_count"])


def embed_openai(server: Server, model: str, prompt: str) -> int:
    reply = server.post("/v1/embeddings", {"model": model, "input": [prompt, "short"]})
    assert reply.status_code == 200, reply.text
    return int(reply.json()["usage"]["prompt_tokens"])


def embed_ollama(server: Server, model: str, prompt: str) -> int:
    reply = server.post("/api/embed", {"model": model, "input": [prompt]})
    assert reply.status_code == 200, reply.text
    return int(reply.json()["prompt_eval_count"])


Ask = Callable[[Server, str, str], int]
WAYS = [ask_openai, stream_openai, ask_anthropic, ask_ollama, embed_openai, embed_ollama]


@pytest.mark.parametrize("ask", WAYS)
@pytest.mark.parametrize("model", [COUNTED, TEXT])
def test_who_names_no_context_has_the_models_own_whatever_another_client_has_asked_for(
    server: Server, model: str, ask: Ask
) -> None:
    ollama(server, model, "Hi", num_ctx=1024, keep_alive=-1)
    before = loads(server)
    assert ask(server, model, LONG[model]) >= 3000  # all of it: nothing has been cut either
    assert (context(server), loads(server)) == (4096, before + 1)
    ollama(server, model, "Hi", num_ctx=1024)
    assert ask(server, model, LONG[model]) >= 3000
    assert (context(server), loads(server)) == (4096, before + 1)
    (listed,) = server.get("/api/ps").json()["models"]
    assert listed["expires_at"] > "2200"  # it was to stay, and does


@pytest.mark.parametrize(
    ("ask", "model"), [(ask_openai, COUNTED), (ask_openai, TEXT), (embed_openai, COUNTED), (embed_ollama, TEXT)]
)
def test_what_fits_is_no_reason_to_load_again(server: Server, model: str, ask: Ask) -> None:
    ollama(server, model, "Hi", num_ctx=1024)
    before = loads(server)
    ask(server, model, SHORT[model])
    assert (context(server), loads(server)) == (1024, before)


def test_an_answer_for_which_there_would_be_no_room_does_not_fit(server: Server) -> None:
    ollama(server, COUNTED, "Hi", num_ctx=1024)
    said = ollama(server, COUNTED, f"{'x' * 880}<<script tokens=300>>")
    assert (said["done_reason"], context(server)) == ("stop", 4096)
    server.post("/v1/models/unload")
    ollama(server, COUNTED, "Hi", num_ctx=1024)
    said = ollama(server, COUNTED, f"{'x' * 300}<<script tokens=900>>", num_predict=2000)
    assert (said["done_reason"], said["eval_count"], context(server)) == ("stop", 900, 4096)


@pytest.mark.parametrize("model", [COUNTED, TEXT])
def test_a_smaller_wish_is_served_without_a_load(server: Server, model: str) -> None:
    ask_openai(server, model, "Hi")
    before = loads(server)
    for num_ctx in (2048, 512, 1024, 4096):
        assert ollama(server, model, "Hi", num_ctx=num_ctx)["message"]["content"] == "w0"
        assert server.post("/api/embed", {"model": model, "input": "Hi", "options": {"num_ctx": num_ctx}}).ok
        assert server.post("/v1/models/load", {"model": model, "context_length": num_ctx}).ok
        assert server.post("/api/generate", {"model": model, "options": {"num_ctx": num_ctx}}).ok
    assert (context(server), loads(server)) == (4096, before)


def test_who_asks_for_less_is_kept_to_that(server: Server) -> None:
    ask_openai(server, COUNTED, "Hi")
    whole = {"model": COUNTED, "stream": False, "truncate": False, "options": {"num_ctx": 1024}}
    reply = server.post("/api/chat", whole | {"messages": [{"role": "user", "content": "x" * 2000}]})
    assert reply.status_code == 400
    assert "at most 1020" in reply.json()["error"]
    cut = server.post("/api/generate", whole | {"prompt": "x" * 2000, "truncate": True})
    assert cut.json()["prompt_eval_count"] <= 1020
    said = ollama(server, COUNTED, "<<script tokens=2000>>", num_ctx=512)
    assert (said["done_reason"], said["prompt_eval_count"] + said["eval_count"]) == ("length", 508)
    vector = server.post("/api/embed", whole | {"input": "x" * 2000, "truncate": True})
    assert vector.json()["prompt_eval_count"] == 1020


def test_a_context_that_somebody_has_made_larger_stays_until_the_unload(server: Server) -> None:
    ask_openai(server, LARGE, "Hi")
    before = loads(server)
    assert context(server) == 4096
    for _ in range(3):
        ollama(server, LARGE, "Hi", num_ctx=8192)
        ask_openai(server, LARGE, "x" * 3000)
        ollama(server, LARGE, "Hi", num_ctx=1024)
    assert (context(server), loads(server)) == (8192, before + 1)
    assert ask_openai(server, LARGE, "x" * 6000) > 6000  # more than its own takes, while there is more
    server.post("/v1/models/unload")
    ask_openai(server, LARGE, "Hi")
    assert context(server) == 4096


def test_what_the_models_own_context_has_no_room_for_is_refused_without_a_load(server: Server) -> None:
    ollama(server, COUNTED, "Hi", num_ctx=1024)
    before = loads(server)
    body = {"model": COUNTED, "messages": [{"role": "user", "content": "x" * 5000}]}
    error = server.post("/v1/chat/completions", body).json()["error"]
    assert (error["code"], error["n_ctx"]) == ("context_length_exceeded", 4092)
    assert loads(server) == before


def test_a_named_cache_is_made_with_the_models_own_context(server: Server) -> None:
    ollama(server, COUNTED, "Hi", num_ctx=1024)
    made = server.post(f"/v1/cache/{COUNTED}", {"cache_name": "long", "prompt": "x" * 3000})
    assert made.status_code in (200, 201), made.text
    assert context(server) == 4096
