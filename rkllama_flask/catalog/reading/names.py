"""What a model may be called, and the friendly names that files get.

A name is `[namespace/]model[:tag]` in the letters that Ollama allows. `foo`, `FOO`, `foo:latest`, `library/foo` are one
model. Names are only ever looked up, never used as paths: the one way from a name to a folder is `folder_for`.
"""

import posixpath
import re
import unicodedata
from dataclasses import dataclass, fields

from rkllama_flask.errors import InvalidRequest

MAX_NAME = 200
MAX_PART = 80
MOST_PARTS = 512
"""Files of one model; the largest on the hubs have fewer than 200."""
DEFAULT_TAG = "latest"
WEIGHT_ENDINGS = (".rkllm", ".gguf")

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_DEFAULT_PLACES = ("registry.ollama.ai/library/", "library/")


@dataclass(frozen=True)
class Name:
    """A name taken apart: `model` with its namespace if it has one, `tag` None for `latest`."""

    model: str
    tag: str | None = None

    @property
    def text(self) -> str:
        return self.model if self.tag is None else f"{self.model}:{self.tag}"

    @property
    def key(self) -> str:
        """What is compared: the case of a name does not matter."""
        return self.text.lower()


def parse(name: str, *, param: str = "model") -> Name:
    """Take a client's name apart. Raises InvalidRequest naming `param` for what can't be a name."""
    text = name.strip(" ")
    if not text:
        raise InvalidRequest(f"{param} is required", param=param)
    if len(text) > MAX_NAME:
        raise InvalidRequest(f"invalid model name: it is longer than {MAX_NAME} characters", param=param)
    for place in _DEFAULT_PLACES:
        if text.lower().startswith(place):
            text = text[len(place) :]
            break
    folder, slash, last = text.rpartition("/")
    model, colon, tag = last.partition(":")
    parts = [*(folder.split("/") if slash else []), model, *([tag] if colon else [])]
    if len(parts) > 4 or not all(_PART.fullmatch(part) for part in parts):
        raise InvalidRequest(
            f"invalid model name {text!a}: a name is `model` or `model:tag` of the letters A-Z a-z 0-9 _ - .",
            param=param,
        )
    return Name(f"{folder}/{model}" if slash else model, None if tag.lower() in ("", DEFAULT_TAG) else tag)


def parse_new(name: str, *, param: str = "model") -> Name:
    """As `parse`, for a name that is to be given: its parts have at most 80 characters, as Ollama's have."""
    parsed = parse(name, param=param)
    if any(len(part) > MAX_PART for part in re.split("[/:]", parsed.text)):
        raise InvalidRequest(f"invalid model name: a part of it is longer than {MAX_PART} characters", param=param)
    return parsed


def folder_for(name: Name) -> str:
    """The name of the folder that keeps a model of this name: `/` becomes `+`, `:` becomes `@`."""
    return name.text.replace("/", "+").replace(":", "@")


def name_of_folder(folder: str) -> Name | None:
    """The name that a folder was made for; None if its name can't be a model's."""
    try:
        return parse_new(folder.replace("+", "/").replace("@", ":"))
    except InvalidRequest:
        return None


@dataclass(frozen=True)
class Packaging:
    """What a file name says beside the model's own name; texts in small letters, None where it says nothing."""

    quantization: str | None = None
    platform: str | None = None
    context: str | None = None
    optimization: str | None = None
    hybrid: str | None = None
    toolkit: str | None = None

    def completed(self, other: "Packaging") -> "Packaging":
        """This, and what `other` says where this says nothing."""
        return Packaging(**{f.name: getattr(self, f.name) or getattr(other, f.name) for f in fields(self)})

    def traits(self) -> tuple[str, ...]:
        """What tells one packing from another, as words for a tag; empty where nothing is said."""
        marks = {"context": "ctx", "optimization": "opt", "hybrid": "hybrid", "toolkit": "toolkit"}
        values = ((f.name, getattr(self, f.name)) for f in fields(self))
        return tuple(f"{marks.get(name, '')}{value}" if value else "" for name, value in values)


@dataclass(frozen=True)
class FileName:
    """A weights file's name taken apart: the friendly name of its model, and how it was packed."""

    friendly: str
    packaging: Packaging


_SEPARATED = r"(?:^|(?<=[-_. ])){}(?=$|[-_. ])"
_PATTERNS = {
    "hybrid": r"hybrid[-_]?(?:ratio|rate)?[-_]?(\d(?:\.\d+)?)",
    "optimization": r"opt(?:imi[sz]ation)?[-_]?(?:level)?[-_]?(\d)",
    "platform": r"(rk3588s?2?|rk3576[ms]?|rk3562|rv1126b?)",
    "quantization": (
        r"(w\d{1,2}a\d{1,2}(?:[-_]?g\d{2,4})?|(?:iq|q|tq)\d(?:_[a-z0-9]+(?:_[a-z]{1,3})?)?|mxfp4|bf16|fp?16|fp?32)"
    ),
    "context": r"(?:(?:ctx|context)[-_]?(\d{3,6}|\d{1,3}k)|(\d{3,6})[-_]?ctx)",
    "toolkit": r"(?:rkllm|toolkit|rkllm[-_]toolkit)[-_]?v?(\d+\.\d+(?:\.\d+)?(?:b\d)?)",
}
_PACKAGING = {key: re.compile(_SEPARATED.format(pattern), re.IGNORECASE) for key, pattern in _PATTERNS.items()}
_SPLIT_PART = re.compile(r"-(\d{5})-of-(?!00000$)(\d{5})$")
_ENCODER = re.compile(r"(?:^|[-_.])mmproj(?=$|[-_.])", re.IGNORECASE)
_NOISE = re.compile(_SEPARATED.format(r"(?:rkllm|gguf|npu)"), re.IGNORECASE)


def take_apart(stem: str) -> FileName:
    """Find the friendly name in a file's name without its ending: `Qwen3-0.6B-rk3588-w8a8-opt-1` → `qwen3-0.6b`."""
    text = _SPLIT_PART.sub("", unicodedata.normalize("NFKC", stem))
    found: dict[str, str] = {}
    for key, pattern in _PACKAGING.items():
        match = pattern.search(text)
        if match:
            found[key] = next(group for group in match.groups() if group).lower()
            text = pattern.sub("", text)
    text = _NOISE.sub("", text)
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9_.]+", "-", ascii_text)
    friendly = re.sub(r"[-_.]*-[-_.]*|[_.]{2,}", "-", words).strip("-_.")
    return FileName(friendly[:MAX_PART].rstrip("-_.") or "model", Packaging(**found))


def is_encoder(path: str) -> bool:
    """Whether a file is called as the encoders of pictures are that come with some models."""
    return _ENCODER.search(path.replace("\\", "/").rpartition("/")[2]) is not None


def split_part(stem: str) -> int | None:
    """Which part of a model split over several files this is, from 1; None for a whole one."""
    match = _SPLIT_PART.search(stem)
    return int(match.group(1)) if match else None


def parts_of(path: str) -> tuple[str, ...]:
    """What the files of the model are called that this one belongs to, the first one first; a whole one is alone."""
    stem, ending = posixpath.splitext(path)
    match = _SPLIT_PART.search(stem)
    if match is None:
        return (path,)
    total = int(match.group(2))
    return tuple(
        f"{stem[: match.start()]}-{number:05}-of-{total:05}{ending}" for number in range(1, min(total, MOST_PARTS) + 1)
    )
