"""Check values against the models of Anthropic's own SDK."""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

_SPEC = json.loads((Path(__file__).parent / "specs" / "anthropic.json").read_text())

STREAM_EVENTS = {
    "message_start": "RawMessageStartEvent",
    "content_block_start": "RawContentBlockStartEvent",
    "content_block_delta": "RawContentBlockDeltaEvent",
    "content_block_stop": "RawContentBlockStopEvent",
    "message_delta": "RawMessageDeltaEvent",
    "message_stop": "RawMessageStopEvent",
}
"""The schema of each event by its name; `ping` has none."""


def check(value: Any, schema: str) -> None:
    """Raise what is wrong with a value of this schema's name."""
    document = {"$ref": f"#/$defs/{schema}", **_SPEC}
    Draft202012Validator(document, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(value)
