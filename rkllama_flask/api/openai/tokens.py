"""What llama-server also answers: `/tokenize`, `/detokenize` and `/apply-template`."""

from flask import Response, jsonify
from marshmallow.validate import Range

from rkllama_flask.api.openai.chat import generation_request
from rkllama_flask.api.openai.schemas import ChatSchema, last_turn
from rkllama_flask.api.openapi import examples, replies
from rkllama_flask.api.openapi.views import accepts, returns
from rkllama_flask.api.web.body import read_json
from rkllama_flask.api.web.context import services
from rkllama_flask.api.web.schema import Boolean, Integer, List, RequestSchema, String


class TokenizeSchema(RequestSchema):
    """`add_special` adds what the model wants before a text; `parse_special` takes special strings for tokens."""

    model = String()
    content = String(required=True)
    add_special = Boolean(load_default=False)
    parse_special = Boolean(load_default=True)


class DetokenizeSchema(RequestSchema):
    model = String()
    tokens = List(Integer(validate=Range(0, 2**31 - 1)), required=True)


_tokenize = TokenizeSchema()
_detokenize = DetokenizeSchema()
_chat = ChatSchema()


@accepts(TokenizeSchema, examples.TOKENIZE)
@returns(replies.TOKENS)
def tokenize() -> Response:
    """A text's token ids."""
    fields = _tokenize.read(read_json(lambda _: ("content",)))
    inference = services().inference
    ids = inference.tokenize(
        inference.choose(fields.get("model")),
        fields["content"],
        special=fields["parse_special"],
        beginning=fields["add_special"],
    )
    return jsonify(tokens=ids)


@accepts(DetokenizeSchema, examples.DETOKENIZE)
@returns(replies.DETOKENIZED)
def detokenize() -> Response:
    """The text of token ids."""
    fields = _detokenize.read(read_json())
    inference = services().inference
    return jsonify(content=inference.detokenize(inference.choose(fields.get("model")), fields["tokens"]))


@accepts(ChatSchema, examples.CHAT)
@returns(replies.PROMPT)
def apply_template() -> Response:
    """The prompt that a conversation makes."""
    return jsonify(prompt=services().inference.render(generation_request(_chat.read(read_json(last_turn)))))
