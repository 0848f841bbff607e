"""docs/anthropic.md says of every field what becomes of it."""

import re
from pathlib import Path
from typing import get_type_hints

from anthropic.types import message_count_tokens_params, message_create_params

from rkllama_flask.api.anthropic.schemas import MessagesSchema

DOCS = (Path(__file__).parents[3] / "docs" / "anthropic.md").read_text()
NAMED = set(re.findall(r"`([a-z_]+)`", DOCS))


def test_every_field_that_is_read_is_documented() -> None:
    assert set(MessagesSchema().fields) - NAMED == set()


def test_every_field_that_the_sdk_can_send_is_documented() -> None:
    create = get_type_hints(message_create_params.MessageCreateParamsBase)
    count = get_type_hints(message_count_tokens_params.MessageCountTokensParams)
    assert (set(create) | set(count)) - NAMED == set()
