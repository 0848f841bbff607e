"""Token counts and times as OpenAI's clients read them."""

from typing import Any

from rkllama_flask.generation.events import Finished, Usage


def render_usage(usage: Usage) -> dict[str, Any]:
    """The `usage` object. What was asked of a named cache is answered here too; a count that is a guess says so."""
    body: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
    return body | _remarks(usage)


def render_response_usage(usage: Usage) -> dict[str, Any]:
    """The same as the Responses API names it."""
    body = {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
    return body | _remarks(usage)


def _remarks(usage: Usage) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if usage.estimated:
        body["estimated"] = True
    if usage.cache_hit is not None:
        body |= {"cache_hit": usage.cache_hit, "cached_prompts": list(usage.cached_prompts)}
        if usage.cache_miss_reason:
            body["cache_miss_reason"] = usage.cache_miss_reason
    return body


def render_timings(finished: Finished) -> dict[str, float]:
    """Where the time went, in ms: llama-server's names, and the waits for a turn and for the model."""
    usage, timings = finished.usage, finished.timings
    prefilled = usage.prompt_tokens - usage.cached_tokens
    return {
        "cache_n": usage.cached_tokens,
        "prompt_n": prefilled,
        "prompt_ms": timings.prefill / 1e6,
        "prompt_per_second": _rate(prefilled, timings.prefill),
        "predicted_n": usage.completion_tokens,
        "predicted_ms": timings.decode / 1e6,
        "predicted_per_second": _rate(usage.completion_tokens, timings.decode),
        "queue_ms": timings.queue / 1e6,
        "load_ms": timings.load / 1e6,
    }


def _rate(tokens: int, nanoseconds: int) -> float:
    return tokens / (nanoseconds / 1e9) if nanoseconds else 0.0
