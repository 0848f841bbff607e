"""Stands in front of every input that is known to end the process instead of failing.

Each guard returns what may be passed on, or raises an error with a sentence. None of them touches the library.
"""

from array import array
from collections.abc import Sequence
from pathlib import Path

from rkllama_flask.errors import InvalidRequest, ModelUnusable, ProcessSpent, RuntimeFailed
from rkllama_flask.runtime.library import Library

CONTEXT_STEP = 32
"""A context is a multiple of this many tokens."""
LARGEST_CONTEXT = 16384
"""The largest context in tokens a .rkllm file can be converted for."""
MOST_CPUS = 8


def usable_process(library: Library) -> None:
    """A process whose library is spent loads nothing more: a later init could crash it."""
    if library.spent:
        raise ProcessSpent(
            "A model failed to load in this process, after which this runtime can't load another. The server is "
            "starting a new process: try again in a moment.",
            retry_after=5,
        )


def model_file(path: Path) -> bytes:
    """The path of an existing, readable file: an init that can't open it would be a failed one."""
    try:
        with path.open("rb"):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no path"
        raise ModelUnusable(f"{path.name} can't be read: {reason}.") from None
    return bytes(path.absolute())


def context_length(wanted: int, *, path: Path) -> int:
    """`wanted` tokens rounded down to what the runtime takes."""
    rounded = wanted // CONTEXT_STEP * CONTEXT_STEP
    if rounded < CONTEXT_STEP:
        raise InvalidRequest(
            f"A context of {wanted} tokens is too small: it takes at least {CONTEXT_STEP}.", param="context_length"
        )
    if (path.suffix == ".rkllm" and rounded > LARGEST_CONTEXT) or rounded >= 1 << 31:
        raise InvalidRequest(
            f"A context of {wanted} tokens is too large: no model takes more than {LARGEST_CONTEXT}.",
            param="context_length",
        )
    return rounded


def cpu_set(cpus: Sequence[int]) -> tuple[int, int]:
    """Mask and number of CPU cores, which must agree."""
    distinct = set(cpus)
    if not distinct or not all(0 <= cpu < MOST_CPUS for cpu in distinct):
        raise ModelUnusable(
            f"The CPU cores {sorted(distinct)} can't be used: name at least one, and only 0 to {MOST_CPUS - 1}."
        )
    return sum(1 << cpu for cpu in distinct), len(distinct)


def domain(number: int) -> int:
    """An NPU memory domain."""
    if not 0 <= number < 1 << 31:
        raise ModelUnusable(f"The NPU memory domain {number} does not exist: it must be 0 or more.")
    return number


def adapter(adapters: Sequence[tuple[Path, float]]) -> tuple[bytes, float] | None:
    """The one LoRA adapter (path, scale), for a run takes one at most."""
    if len(adapters) > 1:
        raise ModelUnusable(f"{len(adapters)} LoRA adapters are named, but the runtime applies only one: merge them.")
    for path, scale in adapters:
        return model_file(path), scale
    return None


def prompt_text(text: str) -> bytes:
    """UTF-8 without a NUL, at which the runtime would end it; lone surrogates become question marks."""
    if "\0" in text:
        raise InvalidRequest("The prompt contains a NUL character, which the runtime can't take.", param="messages")
    if not text:
        raise InvalidRequest("The prompt is empty.", param="messages")
    return text.encode("utf-8", "replace")


def prompt_ids(ids: Sequence[int]) -> "array[int]":
    """Token ids as the runtime takes them. That each is in the vocabulary only a tokenizer can tell."""
    if not ids:
        raise InvalidRequest("The prompt is empty.", param="messages")
    try:
        checked = array("i", ids)
    except (OverflowError, TypeError):
        checked = array("i", [-1])
    if min(checked) < 0:
        raise InvalidRequest("Token ids must be whole numbers from 0 to 2147483647.", param="prompt")
    return checked


def cache_file(path: Path, *, library: Library, aborted: bool) -> bytes:
    """A prompt cache file that may be loaded into a handle of which a run was `aborted` or not."""
    if aborted and library.family == "1.2":
        raise RuntimeFailed(
            f"RKLLM {library.version} crashes when a prompt cache is loaded after an aborted run: another has to end "
            "by itself first."
        )
    try:
        empty = path.stat().st_size == 0
    except (OSError, ValueError):
        raise RuntimeFailed(f"There is no prompt cache file {path.name}: create it again.") from None
    if empty:
        raise RuntimeFailed(f"The prompt cache file {path.name} is empty: create it again.")
    return bytes(path.absolute())


def cache_target(path: Path) -> bytes:
    """Where a run may write its prompt cache: the folder has to be there."""
    if "\0" in str(path) or not path.parent.is_dir():
        raise RuntimeFailed(f"The folder for the prompt cache {path.name} is missing.")
    return bytes(path.absolute())


def is_written(path: Path) -> bool:
    """Whether there is a file with something in it."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return False
