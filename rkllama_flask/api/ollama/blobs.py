"""`HEAD` and `POST /api/blobs/:digest`: files for `create`, streamed to the disk; a limit of their own bounds them."""

import time

from flask import Response, request
from werkzeug.wsgi import get_content_length

from rkllama_flask.api.openapi.views import returns
from rkllama_flask.api.web.body import abandon_body, read_file
from rkllama_flask.api.web.context import services
from rkllama_flask.catalog.changing.blobs import parse_digest
from rkllama_flask.errors import Draining, NotFound, PayloadTooLarge

_LOOK_EVERY = 0.5
"""Seconds between two looks whether the server stops."""


@returns()
def check_blob(digest: str) -> Response:
    """Whether a file is here: uploaded and not used yet, or as the weights of a model."""
    if not _is_here(parse_digest(digest)):
        raise NotFound(f'blob "{digest}" not found')
    return Response(status=200)


@returns(status=201)
def store_blob(digest: str) -> Response:
    """Take a file in. Nothing of it stays unless all came and the sum is right."""
    try:
        sha256 = parse_digest(digest)
        if _is_here(sha256):
            for _ in read_file(services().settings.max_upload_bytes):
                pass  # some clients read no answer before they have sent everything
            return Response(status=200)
        _store(sha256)
    except BaseException:
        abandon_body()
        raise
    return Response(status=201)


def _store(sha256: str) -> None:
    limit, expected = services().settings.max_upload_bytes, get_content_length(request.environ)
    if expected is not None and expected > limit:
        raise PayloadTooLarge(f"The file is larger than {limit} bytes, which is MAX_UPLOAD_BYTES.")
    upload = services().blobs.receive(sha256, expected=expected)
    looked = 0.0
    try:
        for block in read_file(limit):
            if time.monotonic() - looked > _LOOK_EVERY:
                looked = time.monotonic()
                if services().inference.status().draining:
                    raise Draining("The server is stopping: upload again later.", retry_after=2)
            upload.write(block)
        upload.finish()
    finally:
        upload.close()


def _is_here(sha256: str) -> bool:
    return services().blobs.find(sha256) is not None or services().catalog.find_weights(sha256) is not None
