"""The blocks of an answer's content: text, thoughts and calls, one after the other, as events and as a whole."""

import json
from collections.abc import Iterable
from typing import Any

from rkllama_flask.generation.events import (
    Finished,
    Reasoning,
    Text,
    ToolArguments,
    ToolCallFinished,
    ToolCallStarted,
    WholeContent,
)

BlockEvent = dict[str, Any]
"""`content_block_start`, `content_block_delta` or `content_block_stop`, as it is sent."""


class ContentBlocks:
    """Turns events into block events; one block is open at a time.

    White space alone is no block: Anthropic's API refuses one that is sent back, and models like to put some between
    thoughts and calls. Without `thoughts` those are left out.
    """

    def __init__(self, *, thoughts: bool) -> None:
        self._thoughts = thoughts
        self._open = ""
        self._index = -1
        self._space = ""

    def read(self, event: WholeContent) -> list[BlockEvent]:
        """What `event` adds; the end of a call and Finished close the last block."""
        match event:
            case Text(text):
                return self._read_text(text)
            case Reasoning(text):
                return self._grow("thinking", text) if self._thoughts else []
            case ToolCallStarted(_, call_id, name):
                use = {"id": f"toolu_{call_id.removeprefix('call_')}", "name": name, "input": {}}
                return self._start("tool_use", use)
            case ToolArguments(_, text):
                return [self._delta("input_json_delta", partial_json=text)]
            case ToolCallFinished() | Finished():
                return self._stop()

    def _read_text(self, text: str) -> list[BlockEvent]:
        if self._open != "text":
            text = self._space + text
            if text.isspace():
                self._space = text
                return []
        return self._grow("text", text)

    def _grow(self, kind: str, text: str) -> list[BlockEvent]:
        opening = []
        if self._open != kind:
            opening = self._start(kind, {"text": ""} if kind == "text" else {"thinking": "", "signature": ""})
        return [*opening, self._delta(f"{kind}_delta", **{kind: text})]

    def _start(self, kind: str, fields: dict[str, Any]) -> list[BlockEvent]:
        closing = self._stop()
        self._open, self._space = kind, ""
        self._index += 1
        block = {"type": kind, **fields}
        return [*closing, {"type": "content_block_start", "index": self._index, "content_block": block}]

    def _stop(self) -> list[BlockEvent]:
        if not self._open:
            return []
        signature = [self._delta("signature_delta", signature="")] if self._open == "thinking" else []
        self._open = ""
        return [*signature, {"type": "content_block_stop", "index": self._index}]

    def _delta(self, kind: str, **fields: str) -> BlockEvent:
        return {"type": "content_block_delta", "index": self._index, "delta": {"type": kind, **fields}}


def assemble(events: Iterable[BlockEvent]) -> list[dict[str, Any]]:
    """The whole blocks that these events build."""
    blocks: list[dict[str, Any]] = []
    pieces: list[str] = []
    for event in events:
        match event["type"]:
            case "content_block_start":
                blocks.append(dict(event["content_block"]))
                pieces = []
            case "content_block_delta":
                pieces += [text for name, text in event["delta"].items() if name not in ("type", "signature")]
            case _:
                _fill(blocks[-1], "".join(pieces))
    return blocks


def _fill(block: dict[str, Any], text: str) -> None:
    if block["type"] == "tool_use":
        block["input"] = json.loads(text)
    else:
        block[block["type"]] = text
