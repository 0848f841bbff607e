"""Bytes from the hub into files: taken up where they stopped, and checked when all are there."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from rkllama_flask.catalog.pull.choice import RemoteFile
from rkllama_flask.catalog.pull.hub import ConnectionLost, Hub
from rkllama_flask.catalog.pull.plan import Item
from rkllama_flask.errors import PullFailed

ATTEMPTS = 5
"""How often in a row a connection may be lost without a byte having come."""


def receive(hub: Hub, item: Item, path: Path, report: Callable[[int], None]) -> None:
    """Fetch what is missing of a file; `report` is told how many bytes are there. Raises PullFailed, OSError."""
    size = item.file.size
    if path.exists() and path.stat().st_size > size:
        path.unlink()
    failures = 0
    with path.open("ab") as file:
        report(file.tell())
        while (start := file.tell()) < size:
            reason = "it ended early"
            try:
                with hub.open(item.repo, item.revision, item.file, start) as response:
                    if start and response.status_code != 206:
                        file.truncate(0)
                        start = 0
                    for chunk in response.iter_bytes():
                        file.write(chunk)
                        report(file.tell())
                        if file.tell() > size:
                            raise PullFailed(f"The hub sent more of {item.file.path} than there is of it.", status=502)
            except ConnectionLost as error:
                reason = str(error) or type(error).__name__
            if file.tell() >= size:
                break
            failures = 1 if file.tell() > start else failures + 1
            if failures > ATTEMPTS:
                raise PullFailed(
                    f"The connection to the hub was lost ({reason}). Pull again: it goes on where it stopped.",
                    status=502,
                )
            time.sleep(min(2 ** (failures - 1), 8) / 2)
        file.flush()
        os.fsync(file.fileno())


def is_intact(path: Path, file: RemoteFile) -> bool:
    """Whether a file is what the hub says it is, byte for byte. Raises OSError."""
    if path.stat().st_size != file.size:
        return False
    if file.sha256:
        digest, wanted = hashlib.sha256(), file.sha256
    elif file.blob_id:
        digest, wanted = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False), file.blob_id
    else:
        return True
    with path.open("rb") as content:
        while chunk := content.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest() == wanted.lower()
