"""The official `ollama` client drives the whole server, on the scripted runtime of each family and on a real model."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

import ollama
import pytest
import requests

from tests.conftest import scripted_library
from tests.contract.ollama_spec import check
from tests.native import journal
from tests.serving import Server, start_server

REAL = "smollm2-135m-instruct"
THINKER = "qwen3-0.6b"
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather somewhere.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture
def client(scripted: Server) -> Iterator[ollama.Client]:
    with closing(ollama.Client(scripted.url)) as client:
        yield client


@pytest.fixture(scope="module")
def thinking_server(family: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose model has a template that knows tools and thoughts."""
    folder = tmp_path_factory.mktemp(f"thinker-{family}")
    server = start_server(folder, library=scripted_library(family), models={f"{THINKER}.rkllm": "load_ms=0"})
    yield server
    server.stop()


@pytest.fixture
def thinker(thinking_server: Server) -> Iterator[tuple[ollama.Client, Server]]:
    """With nothing in memory."""
    thinking_server.post("/v1/models/unload")
    with closing(ollama.Client(thinking_server.url)) as client:
        yield client, thinking_server


@pytest.fixture
def real_client(real: Server) -> Iterator[ollama.Client]:
    with closing(ollama.Client(real.url)) as client:
        yield client


def script(**keys: Any) -> str:
    """A prompt that tells the scripted runtime what to do."""
    return f"<<script {' '.join(f'{key}={quote(str(value))}' for key, value in keys.items())}>>"


def saying(prompt: str) -> Any:
    return [{"role": "user", "content": prompt}]


def checked(reply: Any, schema: str) -> Any:
    check(reply.model_dump(exclude_none=True, mode="json"), schema)
    return reply


def stream(parts: Iterator[Any], schema: str = "ChatStreamEvent") -> list[Any]:
    found = [checked(part, schema) for part in parts]
    assert [part.done for part in found] == [False] * (len(found) - 1) + [True]
    return found


def loads(server: Server) -> int:
    """How often the runtime was told to load a model."""
    return [entry.what for entry in journal.parse(server.calls)].count("init")


def check_figures(last: Any) -> None:
    assert last.total_duration >= last.load_duration + last.prompt_eval_duration + last.eval_duration
    assert min(last.load_duration, last.prompt_eval_duration, last.eval_duration, last.prompt_eval_count) > 0
    created = datetime.fromisoformat(last.created_at[:26]).replace(tzinfo=timezone.utc)
    assert abs(created.timestamp() - time.time()) < 60


TEXTS = [
    "Hello world!",
    "日本語 と Ünïcode 😀👩‍👩‍👧",
    '{"a": "b\\n"}',
    "line\nline\r\n\r\nli\u2028ne\u0085",
    "  spaces  ",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("split", ["no", "bytes", "waiting", "partial"])
def test_streamed_and_whole_say_the_same(client: ollama.Client, text: str, split: str) -> None:
    prompt = script(text=text, split=split) if split != "no" else script(text=text)
    whole = checked(client.chat("scripted", saying(prompt)), "ChatResponse")
    parts = stream(client.chat("scripted", saying(prompt), stream=True))
    assert whole.message.content == "".join(part.message.content for part in parts) == text
    assert (parts[-1].eval_count, parts[-1].prompt_eval_count) == (whole.eval_count, whole.prompt_eval_count)
    for last in (whole, parts[-1]):
        assert (last.model, last.done_reason) == ("scripted", "stop")
        check_figures(last)
    generated = checked(client.generate("scripted", prompt), "GenerateResponse")
    pieces = stream(client.generate("scripted", prompt, stream=True), "GenerateStreamEvent")
    assert generated.response == "".join(part.response for part in pieces) == text
    check_figures(pieces[-1])


def test_the_counts_are_the_runtimes_own(client: ollama.Client) -> None:
    assert client.chat("scripted", saying(script(tokens=12))).eval_count == 12


def test_a_token_limit_ends_by_length(client: ollama.Client) -> None:
    last = client.chat("scripted", saying(script(tokens=12)), options={"num_predict": 5})
    assert (last.eval_count, last.done_reason) == (5, "length")
    for unlimited in (-1, -2, 0):
        last = client.chat("scripted", saying(script(tokens=12)), options={"num_predict": unlimited})
        assert (last.eval_count, last.done_reason) == (12, "stop")


@pytest.mark.parametrize("stop", [["w5"], ["x", "w5"], ["5"]])
def test_a_stop_string_never_leaks(client: ollama.Client, stop: list[str]) -> None:
    parts = stream(client.chat("scripted", saying(script(tokens=12)), options={"stop": stop}, stream=True))
    text = "".join(part.message.content for part in parts)
    assert text == ("w0 w1 w2 w3 w4 w" if stop == ["5"] else "w0 w1 w2 w3 w4 ")
    assert parts[-1].done_reason == "stop"


def test_a_raw_prompt(client: ollama.Client) -> None:
    reply = client.generate("scripted", script(tokens=2), raw=True)
    assert (reply.response, reply.context) == ("w0 w1", None)


def test_thoughts_have_a_field_of_their_own(thinker: tuple[ollama.Client, Server]) -> None:
    client, _ = thinker
    prompt = script(text="<think>\nHm, well.\n</think>\n\nYes.")
    for think in (None, True, "high"):
        message = client.chat(THINKER, saying(prompt), think=think).message
        assert (message.thinking, message.content) == ("Hm, well.", "Yes.")
    parts = stream(client.chat(THINKER, saying(prompt), stream=True))
    assert "".join(part.message.thinking or "" for part in parts) == "Hm, well."
    assert "".join(part.message.content or "" for part in parts) == "Yes."
    pieces = stream(client.generate(THINKER, prompt, stream=True), "GenerateStreamEvent")
    assert "".join(part.thinking or "" for part in pieces) == "Hm, well."
    with pytest.raises(ollama.ResponseError, match="invalid think value"):
        client.chat(THINKER, saying(prompt), think="hard")


def test_tools_are_called_with_objects_and_their_answers_go_back(thinker: tuple[ollama.Client, Server]) -> None:
    client, _ = thinker
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>'
    messages = saying(script(text=f"Let me look.\n{call}\n{call}"))
    reply = checked(client.chat(THINKER, messages, tools=[WEATHER], think=False), "ChatResponse")
    assert reply.message.content.strip() == "Let me look."
    assert [(one.function.name, one.function.arguments) for one in reply.message.tool_calls] == [
        ("weather", {"city": "Köln"})
    ] * 2
    assert reply.done_reason == "stop"
    parts = stream(client.chat(THINKER, messages, tools=[WEATHER], think=False, stream=True))
    assert sum(len(part.message.tool_calls or ()) for part in parts) == 2
    assert "tool_call>" not in "".join(part.message.content or "" for part in parts)
    answered = [*messages, reply.message, {"role": "tool", "content": "Rain.", "tool_name": "weather"}]
    assert client.chat(THINKER, [*answered, *saying(script(text="It rains."))]).message.content == "It rains."


def test_a_python_function_is_a_tool(thinker: tuple[ollama.Client, Server]) -> None:
    def add(a: int, b: int) -> int:
        """Add two numbers.

        Args:
          a: The first
          b: The second
        """
        return a + b

    client, _ = thinker
    messages = saying(script(text='<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'))
    calls = client.chat(THINKER, messages, tools=[add], think=False).message.tool_calls
    assert calls is not None
    assert add(**calls[0].function.arguments) == 3


@pytest.mark.parametrize("form", ["json", {"type": "object", "properties": {"a": {"type": "integer"}}}])
def test_json(client: ollama.Client, form: Any) -> None:
    reply = client.chat("scripted", saying(script(text='{"a": 1}')), format=form)
    assert json.loads(reply.message.content or "") == {"a": 1}


def test_loading_and_unloading(thinker: tuple[ollama.Client, Server]) -> None:
    client, server = thinker
    before = loads(server)
    assert client.ps().models == []
    assert checked(client.generate(THINKER), "GenerateResponse").done_reason == "load"
    listed = checked(client.ps(), "PsResponse").models
    assert [model.name for model in listed] == [f"{THINKER}:latest"]
    assert listed[0].context_length > 0
    assert 250 < listed[0].expires_at.timestamp() - time.time() <= 301
    client.chat(THINKER, [], keep_alive=-1)
    assert client.ps().models[0].expires_at.year > datetime.now().year + 200
    assert client.chat(THINKER, [], keep_alive=0).done_reason == "unload"
    assert client.ps().models == []
    assert client.generate(THINKER, keep_alive=0).done_reason == "unload"
    client.chat(THINKER, saying("Hi"), keep_alive=0, think=False)
    assert client.ps().models == []
    assert loads(server) == before + 2


def test_a_models_time_runs_out(thinker: tuple[ollama.Client, Server]) -> None:
    client, _ = thinker
    client.chat(THINKER, [], keep_alive="200ms")
    begun = time.monotonic()
    while client.ps().models:
        assert time.monotonic() - begun < 10
        time.sleep(0.05)


def test_another_context_is_another_load(thinker: tuple[ollama.Client, Server]) -> None:
    client, server = thinker
    before = loads(server)
    client.chat(THINKER, saying("Hi"), options={"num_ctx": 1024})
    assert client.ps().models[0].context_length == 1024
    client.chat(THINKER, saying("Hi"), options={"num_ctx": 1_000_000})
    assert client.ps().models[0].context_length == 4096
    client.chat(THINKER, saying("Hi"))
    assert client.ps().models[0].context_length == 4096
    assert loads(server) == before + 2


def test_the_oldest_turns_of_a_long_conversation_are_left_out(client: ollama.Client) -> None:
    turns = [{"role": ("user", "assistant")[n % 2], "content": f"turn {n} " + "word " * 100} for n in range(100)]
    last = client.chat("scripted", [*turns, *saying(script(tokens=3))])
    assert last.message.content == "w0 w1 w2"
    assert 2000 < last.prompt_eval_count < 4096
    with pytest.raises(ollama.ResponseError, match="the prompt is longer than the context length") as refusal:
        client.chat("scripted", saying("word " * 5000))
    assert refusal.value.status_code == 400


def test_models_are_listed_shown_copied_made_and_deleted(thinker: tuple[ollama.Client, Server]) -> None:
    client, _ = thinker

    def names() -> set[str]:
        return {str(model.model) for model in checked(client.list(), "ListResponse").models}

    assert names() == {f"{THINKER}:latest"}
    shown = checked(client.show(THINKER), "ShowResponse")
    assert shown.capabilities == ["completion", "tools", "thinking"]
    assert shown.details.family == "qwen3"
    assert shown.modelinfo["qwen3.context_length"] == 4096
    assert client.copy(THINKER, "org/copy:v1").status == "success"
    assert client.create("pirate", from_=THINKER, system="Arr.", parameters={"temperature": 0.5}).status == "success"
    made = [part.status for part in client.create("pirate", from_=THINKER, system="Arr!", stream=True)]
    assert made[-1] == "success"
    assert names() == {f"{THINKER}:latest", "org/copy:v1", "pirate:latest"}
    assert "Arr!" in str(client.show("pirate").modelfile)
    reply = client.chat("pirate", saying(script(tokens=2)), think=False)
    assert (reply.model, reply.message.content) == ("pirate", "w0 w1")
    for name in ("org/copy:v1", "pirate"):
        assert client.delete(name).status == "success"
    assert names() == {f"{THINKER}:latest"}


def test_embeddings(client: ollama.Client) -> None:
    reply = checked(client.embed("scripted", ["one", "two words"], truncate=True), "EmbedResponse")
    assert len(reply.embeddings) == 2
    assert sum(x * x for x in reply.embeddings[0]) == pytest.approx(1, abs=1e-5)
    assert len(client.embed("scripted", "one", dimensions=8).embeddings[0]) == 8
    assert len(client.embeddings("scripted", "one").embedding) == len(reply.embeddings[0])


def test_refusals(client: ollama.Client) -> None:
    def refusal(call: Callable[[], Any]) -> tuple[int, str]:
        with pytest.raises(ollama.ResponseError) as caught:
            call()
        return caught.value.status_code, caught.value.error

    assert refusal(lambda: client.chat("nope", saying("Hi"))) == (404, "model 'nope' not found")
    assert refusal(lambda: list(client.chat("nope", saying("Hi"), stream=True)))[0] == 404
    assert refusal(lambda: client.show("nope")) == (404, "model 'nope:latest' not found")
    assert refusal(lambda: client.delete("nope")) == (404, "model 'nope' not found")
    assert refusal(lambda: client.copy("nope", "new")) == (404, 'model "nope" not found')
    assert refusal(lambda: client.embed("nope", "Hi")) == (404, 'model "nope" not found, try pulling it first')
    assert refusal(lambda: client.chat("scripted", saying("Hi"), think=True))[0] == 400
    assert refusal(lambda: client.chat("scripted", saying("Hi"), tools=[WEATHER]))[1].endswith("does not support tools")
    assert refusal(lambda: client.generate("scripted", "a", suffix="b"))[1].endswith("does not support insert")
    assert refusal(lambda: client.push("scripted"))[0] == 400
    assert refusal(lambda: client.chat("scripted", saying("Hi"), keep_alive="10"))[0] == 400


def test_failures(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError) as failure:
        list(client.chat("scripted", saying(script(fail="prefill")), stream=True))
    assert failure.value.status_code == 500
    parts = client.chat("scripted", saying(script(tokens=9, fail=5)), stream=True)
    assert next(parts).message.content
    with pytest.raises(ollama.ResponseError) as failure:
        list(parts)
    assert failure.value.status_code == -1


def test_what_the_runtime_cannot_honour_is_named(scripted: Server, family: str) -> None:
    body = {"model": "scripted", "messages": saying("Hi"), "options": {"seed": 1, "num_gpu": 2, "temperature": 0.123}}
    for streamed in (True, False):
        response = requests.post(f"{scripted.url}/api/chat", json=body | {"stream": streamed}, timeout=30)
        named = set(response.headers["X-Unapplied-Parameters"].split(", "))
        assert named == {"seed", "num_gpu"} | (set() if family == "1.3" else {"temperature"})


def test_a_stream_is_lines_without_gaps(scripted: Server) -> None:
    body = {"model": "scripted", "messages": saying(script(tokens=5))}
    response = requests.post(f"{scripted.url}/api/chat", data=json.dumps(body), timeout=30)
    assert response.headers["Content-Type"] == "application/x-ndjson"
    assert response.headers["X-Accel-Buffering"] == "no"
    assert response.headers["Transfer-Encoding"] == "chunked"
    assert all(json.loads(line) for line in response.content.removesuffix(b"\n").split(b"\n"))


# A real model


def test_a_real_model_chats_and_goes_on_from_a_context(real_client: ollama.Client) -> None:
    client = real_client
    options = {"temperature": 0, "num_predict": 8}
    first = checked(client.generate(REAL, "Say the word blue.", options=options), "GenerateResponse")
    check_figures(first)
    assert first.context is not None
    assert len(first.context) >= first.prompt_eval_count + 1
    second = client.generate(REAL, "And now red.", context=first.context, options=options)
    assert second.prompt_eval_count > len(first.context)
    assert second.context is not None
    assert second.context[: len(first.context)] == first.context
    with pytest.raises(ollama.ResponseError, match="Token ids"):
        client.generate(REAL, "And now red.", context=[10**9])
    whole = client.chat(REAL, saying("Say the word blue."), options=options)
    assert whole.message.content == first.response
    assert whole.prompt_eval_count == first.prompt_eval_count
    text = "".join(
        part.message.content or ""
        for part in client.chat(REAL, saying("Say the word blue."), options=options, stream=True)
    )
    assert text == whole.message.content


def test_a_real_model_is_known_by_its_file(real_client: ollama.Client) -> None:
    shown = real_client.show(REAL)
    assert shown.details is not None
    assert (shown.details.family, shown.details.parameter_size) == ("llama", "134.52M")
    assert shown.modelinfo is not None
    assert shown.modelinfo["llama.context_length"] == 8192
    assert shown.modelinfo["general.parameter_count"] == 134_515_008
