"""What the name of a model to pull means."""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from rkllama_flask.catalog.reading.names import DEFAULT_TAG
from rkllama_flask.errors import InvalidRequest

HOSTS = ("hf.co", "huggingface.co", "www.huggingface.co")
DEFAULT_ENDPOINT = "https://huggingface.co"
MAX_LENGTH = 400
MAX_FILE = 255

_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_-])?", re.ASCII)
_PLACES = ("resolve", "blob", "raw")


@dataclass(frozen=True)
class Source:
    """A repository of the hub, and which of its files: a path, a file's name or a quantisation; None to choose."""

    repo: str
    wanted: str | None = None

    @property
    def text(self) -> str:
        return f"{self.repo}:{self.wanted}" if self.wanted else self.repo

    @property
    def key(self) -> str:
        """What is compared: the hub does not care for case in names."""
        return self.text.lower()


def parse_source(name: str) -> Source | None:
    """Read `org/repo`, `hf.co/org/repo`, either with `:file` or `:quantisation`, or an address on the hub.

    None for a name that could be a model's, but is none on the hub. Raises InvalidRequest for what can be neither.
    """
    text = name.strip(" ")
    if len(text) > MAX_LENGTH or not text.isprintable():
        raise _invalid()
    if text.startswith(("https://", "http://")):
        address = urlsplit(text)
        text = f"{address.netloc}{unquote(address.path)}"
    host, slash, rest = text.partition("/")
    has_host = bool(slash) and host.lower() in HOSTS
    repo, colon, wanted = (rest if has_host else text).partition(":")
    parts = repo.strip("/").split("/") if has_host else repo.split("/")
    if has_host and len(parts) > 4 and parts[2] in _PLACES and not colon:
        parts, wanted = parts[:2], "/".join(parts[4:])
    elif has_host and len(parts) == 4 and parts[2] == "tree":
        parts = parts[:2]
    if not all(_PART.fullmatch(part) and ".." not in part for part in parts) or not _is_file(wanted):
        raise _invalid()
    if colon and not wanted:
        raise _invalid()
    if len(parts) != 2:
        return None
    return Source("/".join(parts), None if wanted.lower() in ("", DEFAULT_TAG) else wanted)


def _is_file(path: str) -> bool:
    """Whether this can be the path of a file in a repository, or nothing."""
    return not path or all(
        0 < len(part) <= MAX_FILE and not part.startswith(".") and "\\" not in part for part in path.split("/")
    )


def _invalid() -> InvalidRequest:
    return InvalidRequest("invalid model name", param="model")
