"""Whether a model is likely to load here, asked before it is tried: a failed load can take the process with it.

What is certain blocks; what a name or a figure only suggests warns. Facts: Rockchip's manual and changelog, the log
lines of its library, and reports of users.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rkllama_flask.catalog.model import Model
from rkllama_flask.catalog.reading import gguf
from rkllama_flask.catalog.reading.names import parts_of, take_apart
from rkllama_flask.machine.platforms import QUANTIZATIONS, platform_of

FRESH = 3.0
"""Seconds since the last change within which a file may still be being copied."""

_TOOLKIT = re.compile(rb"rkllm-toolkit version: (\d+)\.(\d+)\.(\d+)")
_TAIL = 256


@dataclass(frozen=True)
class Check:
    """`blocking` is why loading it can't work, with what to do; None if nothing speaks against trying."""

    blocking: str | None = None
    warnings: tuple[str, ...] = ()


class _Blocked(Exception):
    pass


def check(
    model: Model, *, now: float, soc: str | None = None, runtime: str | None = None, proc: Path = Path("/proc")
) -> Check:
    """Look at the file and the machine. `soc` is such as `RK3588`, `runtime` the library's version, `now` Unix time."""
    warnings: list[str] = []
    try:
        for step in (_content(model), _memory(model, proc), _platform(model, soc), _version(model, runtime)):
            warnings.extend(step)
        if now - model.path.stat().st_mtime < FRESH:
            warnings.append(f"{model.path.name} was changed just now: it may still be being copied")
    except _Blocked as reason:
        return Check(str(reason), tuple(warnings))
    except OSError as error:
        return Check(f"{model.path.name} can't be read: {error.strerror or error}", tuple(warnings))
    return Check(None, tuple(warnings))


def toolkit_version(path: Path) -> tuple[int, int, int] | None:
    """Of the toolkit that made a .rkllm file, which newer ones leave at its end. Raises OSError."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        match = _TOOLKIT.search(file.read(_TAIL))
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]))


def _content(model: Model) -> Iterator[str]:
    name = model.path.name
    with model.path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"version https://git-lfs"):
        raise _Blocked(f"{name} is only a Git LFS pointer, not the model: fetch the file itself with `git lfs pull`.")
    if start.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        raise _Blocked(f"{name} is a web page, not a model: download the file itself.")
    if not start:
        yield f"{name} is empty"
    elif model.format == "rkllm" and start.startswith(gguf.MAGIC):
        yield f"{name} begins as a GGUF file does: for llama.cpp it has to end in .gguf"
    elif model.format == "gguf":
        yield from _gguf(model.path)


def _parts(path: Path) -> None:
    """Block where a file of a split model is missing: the runtime would only say that it can't load."""
    parts = parts_of(path.name)
    missing = [part for part in parts if not path.with_name(part).is_file()]
    if missing:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise _Blocked(
            f"This model is split into {len(parts)} files, and {shown} is not here: fetch it again, or copy it."
        )


def _gguf(path: Path) -> Iterator[str]:
    _parts(path)
    try:
        header = gguf.read_header(path)
    except gguf.GgufUnreadable as error:
        yield f"{path.name} may not be a whole GGUF file: {error}"
        return
    if not header.complete:
        raise _Blocked(f"{path.name} ends before its last tensor begins: its copy is damaged or not finished.")


def _memory(model: Model, proc: Path) -> Iterator[str]:
    memory = _meminfo(proc)
    total, available = memory.get("MemTotal"), memory.get("MemAvailable")
    need = _gib(model.size)
    # The embedding can stay in the file; a quarter is more than it takes.
    if total is not None and model.format == "rkllm" and model.size * 3 // 4 > total:
        raise _Blocked(
            f"The weights have {need}, this machine has {_gib(total)} of memory, and the NPU needs them there as a "
            "whole: take a smaller model or quantisation."
        )
    if available is not None and model.size > available:
        yield f"the weights have {need}, and {_gib(available)} of memory is free: unload other models if loading fails"


def _platform(model: Model, soc: str | None) -> Iterator[str]:
    if model.format != "rkllm" or soc is None:
        return
    here = platform_of(soc)
    named = take_apart(model.path.stem).packaging.platform
    if named is not None and platform_of(named) != here:
        yield (
            f"{model.path.name} seems to be made for {platform_of(named)}, this is {here}: the library refuses models "
            "of another platform"
        )
    known = QUANTIZATIONS.get(here)
    if known and model.quantization and re.match(r"W\dA\d", model.quantization):
        plain = model.quantization.partition("_")[0]
        if plain not in known:
            yield f"{here} runs {' and '.join(known)} models; this one seems to be {model.quantization}"


def _version(model: Model, runtime: str | None) -> Iterator[str]:
    """Compare toolkit and runtime: newer toolkits leave their version in the file, of others the name may tell."""
    here = _numbers(runtime or "")
    if model.format != "rkllm" or here is None:
        return
    said = toolkit_version(model.path)
    made = said or _numbers(take_apart(model.path.stem).packaging.toolkit or "")
    if made is None:
        return
    text = ".".join(map(str, made))
    if said and made[:2] > here[:2]:
        raise _Blocked(
            f"{model.path.name} was made with toolkit {text}, and the runtime library is {runtime}: it needs one of "
            f"{text} or higher."
        )
    if made > here:
        yield f"made with toolkit {text}: if it doesn't load, take a newer runtime library than {runtime}"
    if made < (1, 1, 0) or (here >= (1, 3, 0) and made < (1, 2, 0)):
        yield f"made with toolkit {text}: runtime {runtime} may be too new for it; convert the model again"
    if here == (1, 3, 0) and (1, 2, 0) <= made < (1, 3, 0) and not model.eos_token_ids:
        yield (
            f"made with toolkit {text}: runtime 1.3.0 misreads the end-of-text token of such models and goes on to the "
            "token limit; put `PARAMETER eos <id>` into its Modelfile, or a generation_config.json beside it"
        )


def _numbers(version: str) -> tuple[int, int, int] | None:
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else None


def _meminfo(proc: Path) -> dict[str, int]:
    """Bytes by name; empty where the machine does not say."""
    try:
        text = (proc / "meminfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return {}
    return {match[1]: int(match[2]) * 1024 for match in re.finditer(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
