"""Which file of a repository is the right one for this machine, and why: a pure function of names."""

import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rkllama_flask.catalog.reading.names import WEIGHT_ENDINGS, Packaging, is_encoder, parts_of, split_part, take_apart
from rkllama_flask.errors import PullFailed
from rkllama_flask.machine.platforms import QUANTIZATIONS, platform_of

# Small enough for a board, then better, then what is only a last resort.
_GGUF_ORDER = (
    *("q4_k_m", "q4_k_s", "q4_0", "q4_1", "iq4_nl", "iq4_xs", "q4_k_l", "q5_k_m", "q5_k_s", "q5_0", "q6_k", "q8_0"),
    *("q3_k_l", "q3_k_m", "q3_k_s", "mxfp4", "bf16", "f16"),
)
_SHOWN = 12


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository. `sha256` is known for large files, `blob_id` (git's sha1) for small ones. Bytes."""

    path: str
    size: int
    sha256: str | None = None
    blob_id: str | None = None

    @property
    def name(self) -> str:
        return posixpath.basename(self.path)


@dataclass(frozen=True)
class Choice:
    """The weights to take, more than one file if they are split, and the reason as the end of a sentence."""

    weights: tuple[RemoteFile, ...]
    reason: str


@dataclass(frozen=True)
class _Candidate:
    file: RemoteFile
    packaging: Packaging

    @property
    def stem(self) -> str:
        return posixpath.splitext(self.file.path)[0].lower()

    @property
    def is_rkllm(self) -> bool:
        return self.file.path.lower().endswith(".rkllm")

    @property
    def platform(self) -> str | None:
        return self.packaging.platform and platform_of(self.packaging.platform)


def choose(files: Sequence[RemoteFile], repo: str, wanted: str | None, platform: str | None) -> Choice:
    """Choose for `platform` (`RK3588` …, None without an NPU): what is `wanted`, else .rkllm for it, else .gguf.

    Raises PullFailed where nothing fits, with what there is instead.
    """
    candidates = _candidates(files, repo)
    if not candidates:
        if later := [file.name for file in files if split_part(posixpath.splitext(file.path)[0])]:
            raise PullFailed(f"{repo} has {later[0]}, but not the first file of that model.", status=404)
        raise PullFailed(
            f"{repo} has no .rkllm and no .gguf file. Converted models are found with "
            f"https://huggingface.co/models?search={repo.rpartition('/')[2]}+{(platform or 'gguf').lower()}",
            status=404,
        )
    if wanted:
        found = _matching(candidates, wanted)
        if not found:
            raise PullFailed(f"{repo} has no file or quantisation '{wanted}'. {_listed(candidates)}", status=404)
        best = min(found, key=lambda one: _rank(one, platform))
        return Choice(_with_parts(best, files), f"as asked{_warning(best, platform)}")
    usable = [one for one in candidates if not one.is_rkllm or (platform and one.platform in (None, platform))]
    if not usable:
        made = ", ".join(sorted({one.platform for one in candidates if one.platform})) or "a Rockchip NPU"
        here = f"this is {platform}" if platform else "this machine has no NPU"
        raise PullFailed(
            f"{repo} has only files for {made}, and {here}. To have one all the same, name it: "
            f"{repo}:{candidates[0].file.name}",
            status=404,
        )
    best = min(usable, key=lambda one: _rank(one, platform))
    return Choice(_with_parts(best, files), _reason(best, platform))


def _candidates(files: Iterable[RemoteFile], repo: str) -> list[_Candidate]:
    """The files that are models: no adapters, no encoders of pictures, of split weights the first part."""
    whole = take_apart(repo.rpartition("/")[2]).packaging
    found = []
    for file in files:
        stem, ending = posixpath.splitext(file.path)
        if ending.lower() not in WEIGHT_ENDINGS or split_part(stem) not in (None, 1):
            continue
        if (
            is_encoder(file.name)
            or file.name.startswith(".")
            or re.search(r"(?<![a-z])lora(?![a-z])", file.name.lower())
        ):
            continue
        found.append(_Candidate(file, take_apart(stem.replace("/", "-")).packaging.completed(whole)))
    return found


def _matching(candidates: Sequence[_Candidate], wanted: str) -> list[_Candidate]:
    """What `wanted` names: a file, else a quantisation or another word of its packing, else how its name ends."""
    text = wanted.lower()
    named = [c for c in candidates if text in (c.file.path.lower(), c.file.name.lower(), c.stem, _last(c.stem))]
    words = set(text.split("-"))
    packed = [c for c in candidates if words <= {*c.packaging.traits(), _ending(c)} - {""}]
    return named or packed or [c for c in candidates if re.search(rf"(?:^|[-_./]){re.escape(text)}$", c.stem)]


def _rank(one: _Candidate, platform: str | None) -> tuple[bool, bool, int, float, int, str]:
    """Who comes first: made for this NPU, in its best quantisation, without groups, without a hybrid, short."""
    quantization = one.packaging.quantization or ""
    if one.is_rkllm:
        plain, _, group = re.sub("-(?=g)", "_", quantization).partition("_")
        order: Sequence[str] = [name.lower() for name in QUANTIZATIONS.get(platform or "", ())]
        quality = 2 * _place(order, plain) + bool(group)
    else:
        quality = _place(_GGUF_ORDER, quantization)
    hybrid = float(one.packaging.hybrid or 0)
    wrong = one.is_rkllm and one.platform != platform
    return one.is_rkllm != bool(platform), wrong, quality, hybrid, len(one.file.path), one.file.path


def _place(order: Sequence[str], word: str) -> int:
    return order.index(word) if word in order else len(order)


def _reason(best: _Candidate, platform: str | None) -> str:
    if best.is_rkllm:
        if best.platform is None:
            return f"its name doesn't say which platform it was made for; {platform} is hoped for"
        return f"made for {platform}, which this is"
    why = f"there is none for {platform}, and this one runs on the CPU" if platform else "this machine has no NPU"
    return f"{why}; {best.packaging.quantization.upper()}" if best.packaging.quantization else why


def _warning(best: _Candidate, platform: str | None) -> str:
    if not best.is_rkllm or best.platform in (None, platform):
        return ""
    return f", though it was made for {best.platform} and {f'this is {platform}' if platform else 'this has no NPU'}"


def _with_parts(best: _Candidate, files: Iterable[RemoteFile]) -> tuple[RemoteFile, ...]:
    """All files of a split model. Raises PullFailed where one is missing: without it none of them is of use."""
    there = {file.path: file for file in files}
    parts = parts_of(best.file.path)
    if missing := [part for part in parts if part not in there]:
        raise PullFailed(
            f"{best.file.name} is one of {len(parts)} files, and the repository lacks {missing[0]}"
            f"{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}. Name another file or quantisation.",
            status=404,
        )
    return tuple(there[part] for part in parts)


def _listed(candidates: Sequence[_Candidate]) -> str:
    names = sorted(one.file.path for one in candidates)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"It has {', '.join(names[:_SHOWN])}{more}."


def _last(path: str) -> str:
    return posixpath.basename(path)


def _ending(one: _Candidate) -> str:
    return "rkllm" if one.is_rkllm else "gguf"
