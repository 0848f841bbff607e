"""What programs ask to find out whether an Ollama server is there, and how new it is."""

from flask import Response, jsonify

import rkllama_flask
from rkllama_flask.api.openapi import replies
from rkllama_flask.api.openapi.views import returns

API_VERSION = "0.12.6"
"""The version of Ollama whose API this is: programs compare it before they use newer parts of it."""


@returns(content_type="text/plain")
def root() -> Response:
    """`GET /`: what programs look for when they search for a server."""
    return Response("Ollama is running", content_type="text/plain; charset=utf-8")


@returns(replies.VERSION)
def version() -> Response:
    """`GET /api/version`: three numbers, and beside them who really answers."""
    return jsonify(version=API_VERSION, server=f"rkllama-flask {rkllama_flask.__version__}")
