"""Every reply and every event of every endpoint, as it is on the wire, is valid by its API's own description."""

import json
from typing import Any
from urllib.parse import quote

import pytest
import requests

from tests.api.anthropic import reading as anthropic_reading
from tests.api.openai.reading import read_chunks, read_events, read_response_events
from tests.contract import anthropic_spec, openai_spec
from tests.generation.test_tool_calls import BOTH, TOOLS, TWO_CALLS
from tests.serving import Server

PLAIN = "日本語 と Ünïcode 😀👩‍👩‍👧\n{} <b>"
THOUGHT = f"<think>\nLet me see.\n</think>\n\n{PLAIN}"


def script(text: str, **keys: Any) -> str:
    return f"<<script {' '.join(f'{key}={quote(str(value))}' for key, value in (keys | {'text': text}).items())}>>"


class Endpoint:
    """One way to ask for an answer. `whole` and `streamed` give it as (thoughts, text, calls), everything checked."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def whole(self, prompt: str, *, tools: bool = False, **fields: Any) -> tuple[str, str, list[Any]]:
        return self.read(self._post(self.body(prompt, tools=tools) | fields).json())

    def streamed(self, prompt: str, *, tools: bool = False, **fields: Any) -> tuple[str, str, list[Any]]:
        response = self._post(self.body(prompt, tools=tools) | fields | {"stream": True})
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert response.headers["Cache-Control"] == "no-cache"
        return self.read_stream(response.content)

    def _post(self, body: dict[str, Any]) -> requests.Response:
        response = self.server.post(self.path, body)
        assert response.status_code == 200, response.text
        assert response.headers["x-request-id"] == response.headers["request-id"]
        return response

    path: str

    def body(self, prompt: str, *, tools: bool) -> dict[str, Any]:
        raise NotImplementedError

    def read(self, body: Any) -> tuple[str, str, list[Any]]:
        raise NotImplementedError

    def read_stream(self, raw: bytes) -> tuple[str, str, list[Any]]:
        raise NotImplementedError


class Chat(Endpoint):
    path = "/v1/chat/completions"

    def body(self, prompt: str, *, tools: bool) -> dict[str, Any]:
        functions = [{"name": tool.name, "parameters": tool.parameters} for tool in TOOLS] if tools else []
        return {
            "model": "scripted",
            "messages": [{"role": "user", "content": prompt}],
            "tools": [{"type": "function", "function": function} for function in functions],
        }

    def read(self, body: Any) -> tuple[str, str, list[Any]]:
        openai_spec.check(body, "CreateChatCompletionResponse")
        message = body["choices"][0]["message"]
        calls = [call["function"] for call in message.get("tool_calls", [])]
        assert body["choices"][0]["finish_reason"] == ("tool_calls" if calls else "stop")
        found = [(call["name"], json.loads(call["arguments"])) for call in calls]
        return message.get("reasoning_content", ""), message["content"] or "", found

    def read_stream(self, raw: bytes) -> tuple[str, str, list[Any]]:
        thoughts, text, calls = "", "", []
        chunks = read_chunks(raw)
        for delta in (choice["delta"] for chunk in chunks for choice in chunk["choices"]):
            thoughts += delta.get("reasoning_content", "")
            text += delta.get("content") or ""
            for call in delta.get("tool_calls", []):
                if "id" in call:
                    assert call["index"] == len(calls)
                    calls.append([call["function"]["name"], ""])
                assert call["index"] == len(calls) - 1
                calls[-1][1] += call["function"]["arguments"]
        return thoughts, text, [(name, json.loads(arguments)) for name, arguments in calls]


class Responses(Endpoint):
    path = "/v1/responses"

    def body(self, prompt: str, *, tools: bool) -> dict[str, Any]:
        functions = [{"name": tool.name, "parameters": tool.parameters} for tool in TOOLS] if tools else []
        return {
            "model": "scripted",
            "input": prompt,
            "tools": [{"type": "function", "strict": False} | function for function in functions],
        }

    def read(self, body: Any) -> tuple[str, str, list[Any]]:
        openai_spec.check(body, "Response")
        assert body["status"] == "completed"
        output: dict[str, list[Any]] = {"reasoning": [], "message": [], "function_call": []}
        for item in body["output"]:
            output[item["type"]].append(item)
        thoughts = "".join(part["text"] for item in output["reasoning"] for part in item["summary"])
        text = "".join(part["text"] for item in output["message"] for part in item["content"])
        return thoughts, text, [(call["name"], json.loads(call["arguments"])) for call in output["function_call"]]

    def read_stream(self, raw: bytes) -> tuple[str, str, list[Any]]:
        events = read_response_events(raw)
        assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
        assert events[-1]["type"] == "response.completed"
        assert len({event["response"]["id"] for event in events if "response" in event}) == 1
        return self.read(events[-1]["response"])


class Messages(Endpoint):
    path = "/v1/messages"

    def body(self, prompt: str, *, tools: bool) -> dict[str, Any]:
        return {
            "model": "scripted",
            "max_tokens": 2000,
            "messages": [{"role": "user", "content": prompt}],
            "thinking": {"type": "adaptive"},
            "tools": [{"name": tool.name, "input_schema": tool.parameters} for tool in TOOLS] if tools else [],
        }

    def read(self, body: Any) -> tuple[str, str, list[Any]]:
        anthropic_spec.check(body, "Message")
        uses = [block for block in body["content"] if block["type"] == "tool_use"]
        assert body["stop_reason"] == ("tool_use" if uses else "end_turn")
        thoughts = "".join(block["thinking"] for block in body["content"] if block["type"] == "thinking")
        text = "".join(block["text"] for block in body["content"] if block["type"] == "text")
        return thoughts, text, [(use["name"], use["input"]) for use in uses]

    def read_stream(self, raw: bytes) -> tuple[str, str, list[Any]]:
        thoughts, text, calls = "", "", []
        for event in anthropic_reading.read_events(raw):
            match event:
                case {"content_block": {"type": "tool_use", "name": name}}:
                    calls.append([name, ""])
                case {"delta": {"type": "input_json_delta", "partial_json": piece}}:
                    calls[-1][1] += piece
                case {"delta": {"type": "text_delta", "text": piece}}:
                    text += piece
                case {"delta": {"type": "thinking_delta", "thinking": piece}}:
                    thoughts += piece
        return thoughts, text, [(name, json.loads(arguments or "{}")) for name, arguments in calls]


@pytest.fixture(params=[Chat, Responses, Messages])
def endpoint(request: pytest.FixtureRequest, scripted: Server) -> Endpoint:
    made: Endpoint = request.param(scripted)
    return made


@pytest.mark.parametrize("split", ["no", "bytes"])
def test_an_answer_with_thoughts(endpoint: Endpoint, split: str) -> None:
    prompt = script(THOUGHT, **({"split": split} if split != "no" else {}))
    assert endpoint.whole(prompt) == endpoint.streamed(prompt) == ("Let me see.", PLAIN, [])


@pytest.mark.parametrize("dialect", TWO_CALLS)
def test_calls_in_every_dialect_byte_by_byte(endpoint: Endpoint, dialect: str) -> None:
    prompt = script(f"{THOUGHT}\n{TWO_CALLS[dialect]}", split="single")
    thoughts, text, calls = endpoint.streamed(prompt, tools=True)
    assert (thoughts, text.strip(), calls) == ("Let me see.", PLAIN, BOTH)
    if dialect in ("hermes", "qwen3-coder", "llama3", "mistral"):
        assert endpoint.whole(prompt, tools=True) == (thoughts, text, calls)


@pytest.mark.parametrize("limit", [1, 5])
def test_an_answer_that_its_limit_cuts(scripted: Server, limit: int) -> None:
    prompt = "<<script tokens=12>>"
    user = [{"role": "user", "content": prompt}]
    chat = {"model": "scripted", "messages": user, "max_tokens": limit}
    body = scripted.post("/v1/chat/completions", chat).json()
    openai_spec.check(body, "CreateChatCompletionResponse")
    chunks = read_chunks(scripted.post("/v1/chat/completions", chat | {"stream": True}).content)
    response = {"model": "scripted", "input": prompt, "max_output_tokens": limit}
    whole = scripted.post("/v1/responses", response).json()
    openai_spec.check(whole, "Response")
    events = read_response_events(scripted.post("/v1/responses", response | {"stream": True}).content)
    message = scripted.post("/v1/messages", chat).json()
    anthropic_spec.check(message, "Message")
    streamed = anthropic_reading.read_events(scripted.post("/v1/messages", chat | {"stream": True}).content)
    assert body["choices"][0]["finish_reason"] == chunks[-1]["choices"][0]["finish_reason"] == "length"
    for one in (whole, events[-1]["response"]):
        assert (one["status"], one["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert message["stop_reason"] == streamed[-2]["delta"]["stop_reason"] == "max_tokens"


def test_several_choices_with_usage(scripted: Server) -> None:
    body = {"model": "scripted", "messages": [{"role": "user", "content": script("a b")}], "n": 3}
    openai_spec.check(scripted.post("/v1/chat/completions", body).json(), "CreateChatCompletionResponse")
    streamed = body | {"stream": True, "stream_options": {"include_usage": True}}
    chunks = read_chunks(scripted.post("/v1/chat/completions", streamed).content)
    assert {choice["index"] for chunk in chunks for choice in chunk["choices"]} == {0, 1, 2}
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["completion_tokens"]) == ([], 6)


@pytest.mark.parametrize("prompt", ["Once", ["Once", "Twice"], [5, 6], [[5, 6], [7]]])
def test_completions(scripted: Server, prompt: Any) -> None:
    body = {"model": "scripted", "prompt": prompt, "n": 2, "max_tokens": 3}
    openai_spec.check(scripted.post("/v1/completions", body).json(), "CreateCompletionResponse")
    streamed = body | {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, last, done = read_events(scripted.post("/v1/completions", streamed).content)
    assert done == "[DONE]"
    for chunk in chunks:
        [choice] = chunk["choices"]
        # The description has no null here, which the API itself sends until a choice's last chunk.
        ended = choice | {"finish_reason": choice["finish_reason"] or "stop"}
        openai_spec.check(chunk | {"choices": [ended]}, "CreateCompletionResponse")
    openai_spec.check(last, "CreateCompletionResponse")
    several = prompt in (["Once", "Twice"], [[5, 6], [7]])
    assert {choice["index"] for chunk in chunks for choice in chunk["choices"]} == set(range(4 if several else 2))
    assert last["choices"] == []


def test_the_older_functions(scripted: Server) -> None:
    functions = [{"name": tool.name, "parameters": tool.parameters} for tool in TOOLS]
    messages = [{"role": "user", "content": script(TWO_CALLS["hermes"], split="bytes")}]
    body = {"model": "scripted", "messages": messages, "functions": functions}
    choice = scripted.post("/v1/chat/completions", body).json()["choices"][0]
    chunks = read_chunks(scripted.post("/v1/chat/completions", body | {"stream": True}).content)
    pieces = [chunk["choices"][0]["delta"].get("function_call", {}).get("arguments", "") for chunk in chunks]
    assert choice["message"]["function_call"]["arguments"] == "".join(pieces)
    assert choice["finish_reason"] == chunks[-1]["choices"][0]["finish_reason"] == "function_call"


@pytest.mark.parametrize("given", ["one", ["one", "two"], [5, 6], [[5], [6, 7]]])
def test_embeddings(scripted: Server, given: Any) -> None:
    body = scripted.post("/v1/embeddings", {"model": "scripted", "input": given}).json()
    openai_spec.check(body, "CreateEmbeddingResponse")


def test_models(scripted: Server) -> None:
    openai_spec.check(scripted.get("/v1/models").json(), "ListModelsResponse")
    openai_spec.check(scripted.get("/v1/models/scripted").json(), "Model")
    headers = {"anthropic-version": "2023-06-01"}
    for model in scripted.get("/v1/models", headers=headers).json()["data"]:
        anthropic_spec.check(model, "ModelInfo")
    anthropic_spec.check(scripted.get("/v1/models/scripted", headers=headers).json(), "ModelInfo")


def test_token_counts(real: Server) -> None:
    model = "smollm2-135m-instruct"
    messages = [{"role": "user", "content": "Hi"}]
    openai_spec.check(
        real.post("/v1/responses/input_tokens", {"model": model, "input": "Hi"}).json(), "TokenCountsResource"
    )
    body = {"model": model, "messages": messages}
    anthropic_spec.check(real.post("/v1/messages/count_tokens", body).json(), "MessageTokensCount")
    counted = real.post("/v1/chat/completions/input_tokens", body).json()
    openai_spec.check(counted, "TokenCountsResource")
    prompt = real.post("/apply-template", body).json()["prompt"]
    tokens = real.post("/tokenize", {"model": model, "content": prompt}).json()["tokens"]
    assert len(tokens) == counted["input_tokens"]
    assert real.post("/detokenize", {"model": model, "tokens": tokens}).json()["content"] == prompt


@pytest.mark.parametrize("path", ["chat/completions", "completions", "embeddings", "responses", "messages"])
@pytest.mark.parametrize("stream", [False, True])
def test_errors(scripted: Server, path: str, stream: bool) -> None:
    prompts = {"chat/completions": "messages", "completions": "prompt", "responses": "input", "embeddings": "input"}
    name = prompts.get(path, "messages")

    def asking(text: str) -> dict[str, Any]:
        prompt = [{"role": "user", "content": text}] if name == "messages" else text
        return {"model": "scripted", "max_tokens": 9, name: prompt} | ({"stream": True} if stream else {})

    answers = {
        400: scripted.post(f"/v1/{path}", asking("word " * 5000)),
        404: scripted.post(f"/v1/{path}", asking("Hi") | {"model": "gpt-9"}),
        405: scripted.get(f"/v1/{path}"),
        500: scripted.post(f"/v1/{path}", asking("<<script fail=prefill>>")),
    }
    spec = anthropic_spec if path == "messages" else openai_spec
    for status, answer in answers.items():
        assert answer.status_code == status
        spec.check(answer.json(), "ErrorResponse")


@pytest.mark.parametrize("path", ["chat/completions", "messages", "responses"])
def test_an_error_amid_a_stream_is_the_apis_own_event(scripted: Server, path: str) -> None:
    prompt = "<<script tokens=9 fail=5>>"
    named = {"input": prompt} if path == "responses" else {"messages": [{"role": "user", "content": prompt}]}
    body = {"model": "scripted", "max_tokens": 99, "stream": True} | named
    raw = scripted.post(f"/v1/{path}", body).content.decode()
    *_, before, last = raw.removesuffix("\n\n").split("\n\n")
    data = json.loads(last.rpartition("data: ")[2])
    assert "[DONE]" not in raw
    if path == "messages":
        assert last.startswith("event: error\n")
        anthropic_spec.check(data, "ErrorResponse")
    elif path == "responses":
        openai_spec.check(data, "ResponseErrorEvent")
        openai_spec.check(json.loads(before.rpartition("data: ")[2]), "ResponseFailedEvent")
    else:
        openai_spec.check(data, "ErrorResponse")
