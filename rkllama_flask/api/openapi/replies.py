"""What replies hold, as JSON Schema: what a client may rely on. A test compares them with what the server sends."""

from typing import Any

from rkllama_flask.api.openapi.views import Stream

_SSE = "text/event-stream"
_NDJSON = "application/x-ndjson"

_STRING = {"type": "string"}
_INTEGER = {"type": "integer"}
_NUMBER = {"type": "number"}
_BOOLEAN = {"type": "boolean"}
_MAYBE_NUMBER = {"type": ["number", "null"]}
_MAYBE_STRING = {"type": ["string", "null"]}
_ANY_OBJECT = {"type": "object"}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "object", "properties": required | (optional or {}), "required": [*required]}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _word(*values: str) -> dict[str, Any]:
    return {"type": "string", "enum": [*values]}


_CACHE_REPORT = {
    "cache_hit": {"type": "boolean", "description": "Whether the named cache was used; only where one was asked for."},
    "cached_prompts": _list(_STRING),
    "cache_miss_reason": _STRING,
}
_ESTIMATED = {"estimated": {"type": "boolean", "description": "The prompt's count is a guess."}}

# OpenAI

_USAGE = _object(
    {
        "prompt_tokens": _INTEGER,
        "completion_tokens": _INTEGER,
        "total_tokens": _INTEGER,
        "prompt_tokens_details": _object({"cached_tokens": _INTEGER}),
        "completion_tokens_details": _object({"reasoning_tokens": _INTEGER}),
    },
    _ESTIMATED | _CACHE_REPORT,
)
_TIMINGS = _object(
    {
        "cache_n": _INTEGER,
        "prompt_n": _INTEGER,
        "prompt_ms": _NUMBER,
        "prompt_per_second": _NUMBER,
        "predicted_n": _INTEGER,
        "predicted_ms": _NUMBER,
        "predicted_per_second": _NUMBER,
        "queue_ms": _NUMBER,
        "load_ms": _NUMBER,
    }
)
_TOOL_CALL = _object(
    {"id": _STRING, "type": _word("function"), "function": _object({"name": _STRING, "arguments": _STRING})}
)


def _completion(kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    return _object(
        {
            "id": _STRING,
            "object": _word(kind),
            "created": _INTEGER,
            "model": _STRING,
            "system_fingerprint": _STRING,
            "choices": _list(choice),
            "usage": _USAGE,
        },
        {"timings": _TIMINGS},
    )


CHAT = _completion(
    "chat.completion",
    _object(
        {
            "index": _INTEGER,
            "message": _object(
                {"role": _word("assistant"), "content": _MAYBE_STRING},
                {"reasoning_content": _STRING, "tool_calls": _list(_TOOL_CALL), "function_call": _ANY_OBJECT},
            ),
            "finish_reason": _word("stop", "length", "tool_calls", "function_call"),
        }
    ),
)
CHAT_CHUNKS = Stream(
    _SSE,
    "Events of `chat.completion.chunk` objects, then `[DONE]`; an `error` object in place of a chunk ends a stream "
    "that broke. Lines that begin with a colon only keep the connection alive.",
    'data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Red"},"finish_reason":null}]}'
    "\n\ndata: [DONE]\n\n",
)
COMPLETION = _completion(
    "text_completion", _object({"index": _INTEGER, "text": _STRING, "finish_reason": _word("stop", "length")})
)
COMPLETION_CHUNKS = Stream(
    _SSE,
    "Events of `text_completion` objects, then `[DONE]`.",
    'data: {"object":"text_completion","choices":[{"index":0,"text":" Paris","finish_reason":null}]}'
    "\n\ndata: [DONE]\n\n",
)
EMBEDDING = _object(
    {
        "object": _word("list"),
        "model": _STRING,
        "data": _list(
            _object(
                {
                    "object": _word("embedding"),
                    "index": _INTEGER,
                    "embedding": {"type": ["array", "string"], "items": _NUMBER},
                }
            )
        ),
        "usage": _object({"prompt_tokens": _INTEGER, "total_tokens": _INTEGER}),
    }
)
RESPONSE = _object(
    {
        "id": _STRING,
        "object": _word("response"),
        "created_at": _INTEGER,
        "status": _word("completed", "incomplete", "failed", "in_progress"),
        "model": _STRING,
        "output": _list(_object({"id": _STRING, "type": _word("message", "reasoning", "function_call")})),
        "usage": _object({"input_tokens": _INTEGER, "output_tokens": _INTEGER, "total_tokens": _INTEGER}),
    }
)
RESPONSE_EVENTS = Stream(
    _SSE,
    "Events named by their `type`: `response.created`, `response.output_text.delta`, …, `response.completed`.",
    "event: response.output_text.delta\n"
    'data: {"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"Red"}\n\n',
)
INPUT_TOKENS = _object({"object": _word("response.input_tokens"), "input_tokens": _INTEGER})
TOKENS = _object({"tokens": _list(_INTEGER)})
DETOKENIZED = _object({"content": _STRING})
PROMPT = _object({"prompt": _STRING})

_MODEL = _object({"id": _STRING, "type": _word("model"), "display_name": _STRING, "created_at": _STRING})
MODEL = _MODEL | {"description": "Clients that send `anthropic-version` get Anthropic's form, all others OpenAI's."}
MODELS = _object(
    {"data": _list(_MODEL), "has_more": _BOOLEAN, "first_id": _MAYBE_STRING, "last_id": _MAYBE_STRING},
    {"object": _word("list")},
)

# Anthropic

MESSAGE = _object(
    {
        "id": _STRING,
        "type": _word("message"),
        "role": _word("assistant"),
        "model": _STRING,
        "content": _list(_object({"type": _word("text", "thinking", "tool_use")})),
        "stop_reason": _word("end_turn", "max_tokens", "tool_use", "stop_sequence"),
        "stop_sequence": _MAYBE_STRING,
        "usage": _object(
            {"input_tokens": _INTEGER, "cache_read_input_tokens": _INTEGER, "output_tokens": _INTEGER},
            _ESTIMATED | _CACHE_REPORT,
        ),
    }
)
MESSAGE_EVENTS = Stream(
    _SSE,
    "Events named by their `type`: `message_start`, `content_block_delta`, …, `message_stop`.",
    "event: content_block_delta\n"
    'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Red"}}\n\n',
)
COUNT = _object({"input_tokens": _INTEGER})

# Ollama

_OLLAMA_FIGURES: dict[str, Any] = {
    "done_reason": _word("stop", "length", "load", "unload"),
    "total_duration": _INTEGER,
    "load_duration": _INTEGER,
    "prompt_eval_count": _INTEGER,
    "prompt_eval_duration": _INTEGER,
    "prompt_eval_cached_count": _INTEGER,
    "eval_count": _INTEGER,
    "eval_duration": _INTEGER,
} | _CACHE_REPORT
_OLLAMA_HEAD = {"model": _STRING, "created_at": _STRING, "done": _BOOLEAN}
OLLAMA_CHAT = _object(
    _OLLAMA_HEAD
    | {
        "message": _object(
            {"role": _STRING, "content": _STRING}, {"thinking": _STRING, "tool_calls": _list(_ANY_OBJECT)}
        )
    },
    _OLLAMA_FIGURES,
)
OLLAMA_CHAT_LINES = Stream(
    _NDJSON,
    "A line of JSON for each piece; the last has `done` true and the figures. A line with `error` ends a stream that "
    "broke.",
    '{"model":"tiny","message":{"role":"assistant","content":"Red"},"done":false}\n',
)
OLLAMA_GENERATE = _object(
    _OLLAMA_HEAD | {"response": _STRING}, _OLLAMA_FIGURES | {"thinking": _STRING, "context": _list(_INTEGER)}
)
OLLAMA_GENERATE_LINES = OLLAMA_CHAT_LINES._replace(example='{"model":"tiny","response":"Red","done":false}\n')
OLLAMA_EMBED = _object(
    {"model": _STRING, "embeddings": _list(_list(_NUMBER))},
    {"total_duration": _INTEGER, "load_duration": _INTEGER, "prompt_eval_count": _INTEGER},
)
OLLAMA_EMBEDDINGS = _object({"embedding": _list(_NUMBER)})
_OLLAMA_MODEL = {"name": _STRING, "model": _STRING, "size": _INTEGER, "digest": _STRING, "details": _ANY_OBJECT}
OLLAMA_TAGS = _object(
    {"models": _list(_object(_OLLAMA_MODEL | {"modified_at": _STRING, "capabilities": _list(_STRING)}))}
)
OLLAMA_PS = _object(
    {
        "models": _list(
            _object(_OLLAMA_MODEL | {"expires_at": _STRING, "size_vram": _INTEGER, "context_length": _INTEGER})
        )
    }
)
OLLAMA_SHOW = _object(
    {
        "details": _ANY_OBJECT,
        "model_info": _ANY_OBJECT,
        "capabilities": _list(_STRING),
        "turns": _object({"calls": _word("found", "named", "unread", "none")}, {"why": _STRING}),
        "modified_at": _STRING,
    },
    dict.fromkeys(("license", "modelfile", "parameters", "template", "system"), _STRING),
)
OLLAMA_STATUS = _object({"status": _STRING})
OLLAMA_CREATE_LINES = Stream(_NDJSON, "A line of JSON for each step.", '{"status":"success"}\n')
PULL_LINES = Stream(
    _NDJSON,
    "A line of JSON for each step, with `completed` of `total` bytes; the last is `success` or has `error`.",
    '{"status":"pulling manifest"}\n{"status":"success"}\n',
)
VERSION = _object({"version": _STRING, "server": _STRING})

# This server's own

LOADED = _object(
    {"success": _BOOLEAN, "message": _STRING, "model_name": _STRING, "loaded": _BOOLEAN, "load_ms": _NUMBER}
)
UNLOADED = _object({"success": _BOOLEAN, "message": _STRING, "unloaded": _list(_STRING)})
DOWNLOADED = _object(
    {"success": _BOOLEAN, "message": _STRING, "model_name": _STRING, "filename": _STRING, "size_mb": _NUMBER}
)
AVAILABLE = _object(
    {
        "models": _list(_object({"name": _STRING, "filename": _STRING, "size_mb": _NUMBER, "loaded": _BOOLEAN})),
        "total": _INTEGER,
        "loaded_model": _MAYBE_STRING,
    }
)
RESIDENT = _object({"loaded": _BOOLEAN, "model_name": _MAYBE_STRING, "models": _list(_STRING)})

_CACHE: dict[str, Any] = {
    "cache_name": _STRING,
    "model_name": _STRING,
    "size_mb": _NUMBER,
    "created_at": _NUMBER,
    "modified_at": _NUMBER,
    "last_used_at": _NUMBER,
    "prompt_length": _INTEGER,
    "prompt_tokens": {"type": ["integer", "null"]},
    "source": _STRING,
    "ttft_ms": _NUMBER,
    "load_ms": _MAYBE_NUMBER,
    "stale": _BOOLEAN,
    "stale_reason": _MAYBE_STRING,
}
CACHES = _object(
    {
        "object": _word("list"),
        "data": _list(_object(_CACHE)),
        "count": _INTEGER,
        "size_mb": _NUMBER,
        "max_mb": _NUMBER,
        "timestamp": _INTEGER,
    },
    {"model": _STRING},
)
CACHE = {
    "description": "One cache, or the list of a model's.",
    "anyOf": [_object({"object": _word("cache"), "model": _STRING} | _CACHE), CACHES],
}
CACHE_CREATED = _object(
    {
        "object": _word("cache.created"),
        "model": _STRING,
        "cache_name": _STRING,
        "size_mb": _NUMBER,
        "ttft_ms": _NUMBER,
        "prompt_length": _INTEGER,
        "prompt_tokens": {"type": ["integer", "null"]},
        "load_ms": _MAYBE_NUMBER,
        "timestamp": _INTEGER,
        "message": _STRING,
    }
)
CACHE_DELETED = _object(
    {
        "object": _word("cache.deleted"),
        "model": _STRING,
        "cache_name": _STRING,
        "deleted": _BOOLEAN,
        "timestamp": _INTEGER,
    }
)

HEALTH = _object(
    {
        "status": _word("ok", "loading", "draining"),
        "version": _STRING,
        "ready": _BOOLEAN,
        "busy": _MAYBE_STRING,
        "queue": _object({"waiting": _INTEGER, "expected_wait": _NUMBER}),
        "models": _list(_object({"name": _STRING, "format": _STRING, "context_length": _INTEGER})),
        "config": _object({"error": _MAYBE_STRING}),
        "crashes": _ANY_OBJECT,
    }
)
READY = _object({"status": _word("ok")})
CLEARED = _object({"cleared": _INTEGER})

ERRORS = {
    "openai": _object(
        {
            "error": _object(
                {"message": _STRING, "type": _STRING, "param": _MAYBE_STRING, "code": _MAYBE_STRING},
            )
        }
    ),
    "ollama": _object({"error": _STRING}),
    "anthropic": _object(
        {
            "type": _word("error"),
            "error": _object({"type": _STRING, "message": _STRING}),
            "request_id": _STRING,
        }
    ),
}
"""The shape of an error, by the room of the API whose path was asked for."""
