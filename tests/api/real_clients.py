"""What programs send that were written for the hosted services, shortened but for what is particular about each."""

from typing import Any

PARAMETERS = {
    "type": "object",
    "properties": {"path": {"type": "string", "description": "Where"}, "lines": {"type": ["integer", "null"]}},
    "required": ["path"],
    "additionalProperties": False,
    "$schema": "http://json-schema.org/draft-07/schema#",
}
READ = {"name": "Read", "description": "Reads a file.", "parameters": PARAMETERS}
FUNCTION = {"type": "function", "function": READ}
CACHED = {"type": "ephemeral"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "Read", "arguments": '{"path": "a"}'}}

CLAUDE_CODE = {
    "model": "tiny",
    "max_tokens": 32000,
    "stream": True,
    "thinking": {"type": "adaptive"},
    "output_config": {"effort": "high"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "metadata": {"user_id": '{"device_id": "0", "session_id": "1"}'},
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.0; cc_entrypoint=cli; cch=a1b2c;"},
        {"type": "text", "text": "You are a coding agent.", "cache_control": CACHED},
        {"type": "text", "text": "Be brief.", "cache_control": CACHED | {"ttl": "1h"}},
    ],
    "tools": [
        {"name": "Read", "description": "Reads a file.", "input_schema": PARAMETERS},
        {"name": "Edit", "input_schema": PARAMETERS, "cache_control": CACHED, "eager_input_streaming": True},
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 8},
    ],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "<system-reminder>\nToday.\n</system-reminder>"}]},
        {"role": "system", "content": "Answer in English."},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": ""},
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"path": "a"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "content": [{"type": "text", "text": "1\tx"}],
                    "is_error": False,
                    "cache_control": CACHED,
                },
                {"type": "text", "text": "Go on."},
            ],
        },
    ],
}

CODEX = {
    "model": "tiny",
    "stream": True,
    "store": False,
    "instructions": "You are a coding agent.",
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "0191",
    "client_metadata": {"originator": "codex_cli_rs"},
    "text": {"verbosity": "low"},
    "tools": [
        {"type": "function", "strict": False, **READ},
        {
            "type": "namespace",
            "name": "fs",
            "description": "",
            "tools": [{"type": "function", "strict": False, **READ}],
        },
        {"type": "web_search", "external_web_access": False},
        {"type": "custom", "name": "apply_patch", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}},
    ],
    "input": [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "<permissions>"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "reasoning", "summary": [], "content": None, "encrypted_content": "gAAA"},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Let me look.", "annotations": []}],
        },
        {"type": "function_call", "name": "Read", "namespace": "fs", "arguments": '{"path":"a"}', "call_id": "c"},
        {"type": "function_call_output", "call_id": "c", "output": "x"},
    ],
}

LANGCHAIN = {
    "model": "tiny",
    "stream": True,
    "stream_options": {"include_usage": True},
    "temperature": 0.0,
    "n": 1,
    "parallel_tool_calls": False,
    "tool_choice": {"type": "function", "function": {"name": "Read"}},
    "tools": [FUNCTION | {"function": READ | {"strict": True}}],
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}], "name": "ann"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "x", "tool_call_id": "call_1"},
    ],
}

LANGCHAIN_STRUCTURED = {
    "model": "tiny",
    "stream": False,
    "messages": [{"role": "user", "content": "Hi"}],
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "Answer", "strict": True, "schema": PARAMETERS},
    },
}

VERCEL_AI_SDK = {
    "model": "tiny",
    "max_tokens": 100,
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "", "tool_calls": [CALL], "reasoning_content": "Hm."},
        {"role": "tool", "tool_call_id": "call_1", "content": '{"type":"text","value":"x"}'},
    ],
    "tools": [FUNCTION],
    "tool_choice": "auto",
    "stream": True,
    "stream_options": {"include_usage": True},
}

VERCEL_AI_SDK_RESPONSES = {
    "model": "tiny",
    "input": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Hello"}], "id": "msg_1"},
        {"type": "function_call", "call_id": "c", "name": "Read", "arguments": "{}", "id": "fc_1"},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "x"}]},
    ],
    "tools": [{"type": "function", "strict": False, **READ}],
    "tool_choice": "auto",
    "stream": True,
}

LITELLM = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello", "function_call": None}],
    "max_completion_tokens": 10,
    "user": "",
    "metadata": {"tags": ["a"]},
    "extra_body": {},
    "drop_params": True,
    "presence_penalty": 0,
    "stop": [],
    "logprobs": None,
    "tools": None,
    "functions": None,
    "tool_choice": None,
}

OPEN_WEBUI = {
    "stream": True,
    "model": "tiny",
    "messages": [{"role": "user", "content": "Hi"}],
    "stream_options": {"include_usage": True},
    "chat_id": "0",
    "session_id": "1",
    "id": "2",
    "features": {"web_search": False},
    "background_tasks": {"title_generation": True},
    "files": None,
    "tool_ids": [],
}

LLAMA_SERVER_UI = {
    "messages": [{"role": "user", "content": "Hi"}],
    "model": "tiny",
    "stream": True,
    "cache_prompt": True,
    "reasoning_format": "auto",
    "samplers": "edkypmxt",
    "dynatemp_range": 0,
    "typical_p": 1,
    "min_p": 0.05,
    "top_k": 40,
    "xtc_probability": 0,
    "repeat_last_n": 64,
    "repeat_penalty": 1,
    "dry_multiplier": 0,
    "max_tokens": -1,
    "timings_per_token": True,
    "return_progress": True,
}

FIRST_GENERATION = {
    "model": "tiny",
    "messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "function_call": {"name": "Read", "arguments": "{}"}},
        {"role": "function", "name": "Read", "content": "x"},
    ],
    "functions": [READ],
    "function_call": "auto",
}

COPILOT_COMPLETION = {
    "model": "tiny",
    "prompt": "def f(",
    "max_tokens": 50,
    "temperature": 0,
    "top_p": 1,
    "n": 1,
    "stop": ["\n\n"],
    "stream": True,
    "logprobs": 2,
    "extra": {"language": "python"},
}

LANGCHAIN_EMBEDDINGS = {"model": "tiny", "input": [[9906, 1917], [5]], "encoding_format": "base64"}
SDK_EMBEDDINGS = {"model": "tiny", "input": ["Hi", "there"], "encoding_format": "base64", "dimensions": 2, "user": "u"}

BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "Claude Code": ("/v1/messages?beta=true", CLAUDE_CODE),
    "Claude Code counts": ("/v1/messages/count_tokens?beta=true", CLAUDE_CODE | {"model": "org/big:7b"}),
    "Codex": ("/v1/responses", CODEX),
    "Codex counts": ("/v1/responses/input_tokens", CODEX | {"model": "org/big:7b"}),
    "LangChain": ("/v1/chat/completions", LANGCHAIN),
    "LangChain, structured": ("/v1/chat/completions", LANGCHAIN_STRUCTURED),
    "LangChain, embeddings": ("/v1/embeddings", LANGCHAIN_EMBEDDINGS),
    "Vercel AI SDK": ("/v1/chat/completions", VERCEL_AI_SDK),
    "Vercel AI SDK, responses": ("/v1/responses", VERCEL_AI_SDK_RESPONSES),
    "LiteLLM": ("/v1/chat/completions", LITELLM),
    "Open WebUI": ("/chat/completions", OPEN_WEBUI),
    "llama-server's page": ("/v1/chat/completions", LLAMA_SERVER_UI),
    "functions": ("/v1/chat/completions", FIRST_GENERATION),
    "code completion": ("/v1/completions", COPILOT_COMPLETION),
    "SDK, embeddings": ("/v1/embeddings", SDK_EMBEDDINGS),
}
"""Path and body by client."""
