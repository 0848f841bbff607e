"""Every field that an API describes is refused when its JSON type is wrong, by its name and in that API's shape."""

from typing import Any, get_type_hints

import pytest
from anthropic.types import message_create_params

from tests.api.conftest import Api
from tests.contract import anthropic_spec, openai_spec

HI = [{"role": "user", "content": "Hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "tiny", "messages": HI},
    "/v1/completions": {"model": "tiny", "prompt": "Once"},
    "/v1/embeddings": {"model": "tiny", "input": "Once"},
    "/v1/responses": {"model": "tiny", "input": "Hi"},
    "/v1/messages": {"model": "tiny", "messages": HI, "max_tokens": 9},
}
VALUES: dict[str, Any] = {"string": "x", "integer": 3, "number": 1.5, "boolean": True, "object": {"a": 1}, "list": [1]}
"""A value of each JSON type; a list holds one number, which no list of these APIs may hold but of token ids."""

SAMPLING = dict.fromkeys(("temperature", "top_p"), "number")
COMMON = SAMPLING | {
    "model": "string",
    "user": "string",
    "stream": "boolean",
    "stream_options": "object",
}
OF_A_REQUEST = {
    "metadata": "object",
    "store": "boolean",
    "service_tier": "string",
    "safety_identifier": "string",
    "prompt_cache_key": "string",
    "prompt_cache_options": "object",
    "prompt_cache_retention": "string",
    "moderation": "object",
    "top_logprobs": "integer",
    "parallel_tool_calls": "boolean",
    "tools": "",
    "tool_choice": "string object",
}
OF_COMPLETIONS = {
    "frequency_penalty": "number",
    "presence_penalty": "number",
    "max_tokens": "integer",
    "n": "integer",
    "seed": "integer",
    "stop": "string",
    "logit_bias": "object",
}
KINDS: dict[str, dict[str, str]] = {
    "/v1/chat/completions": COMMON
    | OF_A_REQUEST
    | OF_COMPLETIONS
    | {
        "messages": "",
        "max_completion_tokens": "integer",
        "logprobs": "boolean",
        "response_format": "object",
        "reasoning_effort": "string",
        "verbosity": "string",
        "modalities": "",
        "audio": "object",
        "prediction": "object",
        "web_search_options": "object",
        "functions": "",
        "function_call": "string object",
    },
    "/v1/completions": COMMON
    | OF_COMPLETIONS
    | {
        "prompt": "string list",
        "best_of": "integer",
        "echo": "boolean",
        "logprobs": "integer",
        "suffix": "string",
    },
    "/v1/embeddings": {
        "model": "string",
        "user": "string",
        "input": "string list",
        "encoding_format": "string",
        "dimensions": "integer",
    },
    "/v1/responses": COMMON
    | OF_A_REQUEST
    | {
        "input": "string",
        "instructions": "string",
        "max_output_tokens": "integer",
        "max_tool_calls": "integer",
        "text": "object",
        "reasoning": "object",
        "include": "",
        "truncation": "string",
        "background": "boolean",
        "context_management": "",
        "previous_response_id": "string",
        "conversation": "string object",
        "prompt": "object",
    },
    "/v1/messages": SAMPLING
    | {
        "model": "string",
        "stream": "boolean",
        "max_tokens": "integer",
        "messages": "",
        "system": "string",
        "stop_sequences": "",
        "top_k": "integer",
        "tools": "",
        "tool_choice": "object",
        "thinking": "object",
        "output_config": "object",
        "output_format": "object",
        "metadata": "object",
        "service_tier": "string",
        "inference_geo": "string",
        "speed": "string",
        "cache_control": "object",
        "container": "string object",
        "context_management": "object",
        "mcp_servers": "",
    },
}
"""Which of VALUES each field takes, by their names; a whole number is a number too."""

CASES = [
    (path, name, kind)
    for path, fields in KINDS.items()
    for name, taken in fields.items()
    for kind in VALUES
    if kind not in taken.split() and not (kind == "integer" and "number" in taken)
]


TOOL: dict[str, Any] = {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
RIGHT: dict[str, Any] = {
    "model": "tiny",
    "stream_options": {"include_usage": True, "include_obfuscation": False},
    "temperature": 0.5,
    "top_p": 0.5,
    "metadata": {"a": "b"},
    "service_tier": "auto",
    "prompt_cache_options": {"mode": "explicit", "ttl": "30m"},
    "prompt_cache_retention": "24h",
    "moderation": {"model": "omni-moderation-latest"},
    "tools": [{"type": "function", "function": TOOL}, {"type": "custom", "custom": {"name": "c"}}],
    "tool_choice": "auto",
    "frequency_penalty": 1,
    "presence_penalty": -1,
    "logit_bias": {"5": -100},
    "messages": HI,
    "logprobs": True,
    "response_format": {"type": "text"},
    "reasoning_effort": "minimal",
    "verbosity": "high",
    "modalities": ["text"],
    "audio": {"voice": "alloy", "format": "wav"},
    "prediction": {"type": "content", "content": "x"},
    "web_search_options": {"search_context_size": "low"},
    "functions": [TOOL],
    "function_call": "auto",
    "encoding_format": "float",
    "dimensions": 2,
    "input": "Hi",
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "include": ["reasoning.encrypted_content"],
    "truncation": "auto",
    "context_management": [{"type": "compaction", "compact_threshold": 9}],
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "output_config": {"effort": "low"},
    "output_format": None,
    "stop_sequences": ["x"],
    "mcp_servers": [{"type": "url", "name": "m", "url": "https://example.com"}],
    "suffix": "",
}
"""What a client can send under these names; of the others any value of the right type will do."""
OF_RESPONSES = {"tools": [TOOL | {"type": "function"}, {"type": "web_search"}]}
OF_MESSAGES = {
    "tools": [{"name": "f", "input_schema": {"type": "object"}}, {"type": "bash_20250124", "name": "bash"}],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "context_management": {"edits": []},
}
OWN: dict[str, dict[str, Any]] = {
    "/v1/completions": {"logprobs": 2},
    "/v1/responses": OF_RESPONSES,
    "/v1/messages": OF_MESSAGES,
}
STORED = {"previous_response_id", "conversation", "prompt"}
"""Of a response: refused, since nothing is stored."""


@pytest.mark.parametrize("path", KINDS)
def test_every_field_of_the_right_type_is_accepted(api: Api, path: str) -> None:
    right = RIGHT | OWN.get(path, {})
    body = {name: right[name] if name in right else VALUES[taken.split()[0]] for name, taken in KINDS[path].items()}
    if path == "/v1/responses":
        body = {name: value for name, value in body.items() if name not in STORED}
    response = api.post(path, body)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("path", KINDS)
def test_null_is_unset_in_every_field(api: Api, path: str) -> None:
    response = api.post(path, dict.fromkeys(KINDS[path]) | BODIES[path])
    assert response.status_code == 200, response.text
    assert "X-Unapplied-Parameters" not in response.headers


@pytest.mark.parametrize("path", KINDS)
def test_a_field_of_the_wrong_type_is_refused_by_its_name(api: Api, path: str) -> None:
    accepted = []
    for _, name, kind in (case for case in CASES if case[0] == path):
        response = api.post(path, BODIES[path] | {name: VALUES[kind]})
        if response.status_code != 400 or f"'{name}" not in response.json["error"]["message"]:
            accepted.append((name, kind, response.status_code, response.json.get("error")))
        elif path == "/v1/messages":
            anthropic_spec.check(response.json, "ErrorResponse")
        else:
            openai_spec.check(response.json, "ErrorResponse")
            assert response.json["error"]["param"].split(".")[0] == name
    assert accepted == []


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("/v1/chat/completions", "CreateChatCompletionRequest"),
        ("/v1/completions", "CreateCompletionRequest"),
        ("/v1/embeddings", "CreateEmbeddingRequest"),
        ("/v1/responses", "CreateResponse"),
    ],
)
def test_no_field_of_openais_description_is_forgotten_here(path: str, schema: str) -> None:
    assert openai_spec.property_names(schema) == set(KINDS[path])


def test_no_field_that_anthropics_sdk_can_send_is_forgotten_here() -> None:
    sent = get_type_hints(message_create_params.MessageCreateParamsBase)
    assert set(sent) - {"diagnostics", "user_profile_id", "workspace_id"} <= set(KINDS["/v1/messages"])
