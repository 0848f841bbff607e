"""Ask for messages and read them as a client does; everything is checked against the SDK's own models."""

import json
from typing import Any

from tests.api.conftest import Api
from tests.contract.anthropic_spec import STREAM_EVENTS, check

HI = [{"role": "user", "content": "Hi"}]
WEATHER = {"name": "weather", "description": "The weather.", "input_schema": {"type": "object"}}
THINK = {"type": "enabled", "budget_tokens": 1024}


def ask(api: Api, **fields: Any) -> Any:
    response = api.post("/v1/messages", {"model": "tiny", "max_tokens": 99, "messages": HI} | fields)
    assert response.status_code == 200, response.text
    check(response.json, "Message")
    return response.json


def ask_streamed(api: Api, **fields: Any) -> list[dict[str, Any]]:
    """The events of a whole stream."""
    body = {"model": "tiny", "max_tokens": 99, "messages": HI, "stream": True} | fields
    response = api.post("/v1/messages", body)
    assert response.status_code == 200, response.text
    assert response.content_type.startswith("text/event-stream")
    events = read_events(response.data)
    assert [event["type"] for event in (events[0], *events[-2:])] == ["message_start", "message_delta", "message_stop"]
    return events


def refuse(api: Api, **fields: Any) -> str:
    """The sentence that a body is refused with."""
    response = api.post("/v1/messages", {"model": "tiny", "max_tokens": 99, "messages": HI} | fields)
    assert response.status_code == 400, response.text
    check(response.json, "ErrorResponse")
    assert response.json["error"]["type"] == "invalid_request_error"
    assert api.inference.requests == []
    return str(response.json["error"]["message"])


def read_events(raw: bytes) -> list[dict[str, Any]]:
    """The events, each under its own name; comments are skipped."""
    assert raw.endswith(b"\n\n")
    events = []
    for block in raw.decode().removesuffix("\n\n").split("\n\n"):
        if block.startswith(":"):
            continue
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        if event["type"] in STREAM_EVENTS:
            check(event, STREAM_EVENTS[event["type"]])
        events.append(event)
    return events


def joined(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that a stream builds. One block is open at a time, and their indexes have no gaps."""
    message = dict(events[0]["message"])
    content: list[dict[str, Any]] = []
    open_index = None
    for event in events[1:]:
        match event["type"]:
            case "content_block_start":
                assert open_index is None
                assert event["index"] == len(content)
                open_index = event["index"]
                content.append(dict(event["content_block"]) | {"json": ""})
            case "content_block_delta":
                assert event["index"] == open_index
                match event["delta"]:
                    case {"type": "text_delta", "text": text}:
                        content[-1]["text"] += text
                    case {"type": "thinking_delta", "thinking": text}:
                        content[-1]["thinking"] += text
                    case {"type": "signature_delta", "signature": text}:
                        content[-1]["signature"] += text
                    case {"type": "input_json_delta", "partial_json": text}:
                        content[-1]["json"] += text
            case "content_block_stop":
                assert event["index"] == open_index
                open_index = None
                text = content[-1].pop("json")
                if text:
                    content[-1]["input"] = json.loads(text)
            case "message_delta":
                assert open_index is None
                message |= event["delta"] | {"usage": event["usage"]}
    return message | {"content": content}
