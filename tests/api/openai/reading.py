"""Read a stream of server-sent events as a client does, and check each chunk against OpenAI's description."""

import json
from typing import Any

from tests.contract.openai_spec import RESPONSE_EVENTS, check


def read_events(raw: bytes) -> list[Any]:
    """The data objects of a stream; `[DONE]` is a string. Comments are skipped."""
    assert raw.endswith(b"\n\n")
    events = []
    for block in raw.decode().removesuffix("\n\n").split("\n\n"):
        if block.startswith(":"):
            continue
        assert block.startswith("data: ")
        assert "\n" not in block
        data = block.removeprefix("data: ")
        events.append(data if data == "[DONE]" else json.loads(data))
    return events


def read_chunks(raw: bytes, schema: str = "CreateChatCompletionStreamResponse") -> list[dict[str, Any]]:
    """The chunks of a whole stream, each valid and all of one response."""
    *chunks, done = read_events(raw)
    assert done == "[DONE]"
    for chunk in chunks:
        check(chunk, schema)
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    return chunks


def read_response_events(raw: bytes) -> list[dict[str, Any]]:
    """The events of a response's stream, each named as it says, numbered and valid; comments are skipped."""
    assert raw.endswith(b"\n\n")
    events: list[dict[str, Any]] = []
    for block in raw.decode().removesuffix("\n\n").split("\n\n"):
        if block.startswith(":"):
            continue
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        assert event["sequence_number"] == len(events)
        check(event, RESPONSE_EVENTS[event["type"]])
        events.append(event)
    return events
