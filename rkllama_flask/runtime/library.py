"""Opens a librkllmrt.so and knows which family it is before any structure is passed to it.

There is no version function, and a call with the wrong layout ends the process instead of failing. So three things have
to agree: the version text in the file decides, the exported functions must fit it, and the defaults that
`rkllm_createDefaultParam` writes must lie where that family has its fields. What fits nothing known is refused.
"""

import ctypes
import mmap
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from rkllama_flask.errors import LibraryUnusable
from rkllama_flask.runtime import abi_1_2, abi_1_3
from rkllama_flask.runtime.abi import Abi, Family
from rkllama_flask.runtime.elf import read_header, this_machine

_MARKER = re.compile(rb"RKLLM SDK \(version: (\d+\.\d+\.\d+[a-z0-9]*)(?: \| target: \w+ \| build: (\w+))?")
_EARLIER = re.compile(r"1\.(0\.|1\.|2\.0|2\.1b)")
_SUPPORTED = "1.2.1 to 1.2.3 and 1.3.x"
_FETCH = "Take Rockchip's librkllmrt.so from github.com/airockchip/rknn-llm, or set RKLLM_LIB_PATH"


def find_version(path: Path) -> str:
    """The version a library names in its bytes, such as "1.2.3"; nothing is loaded. Raises LibraryUnusable."""
    return _find_marker(path).version


def _find_marker(path: Path) -> "_Marker":
    try:
        with path.open("rb") as file:
            if not (head := file.read(64)):
                raise LibraryUnusable(f"{path.name} is an empty file. {_FETCH}.")
            _check_header(path, head, os.fstat(file.fileno()).st_size)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _marker_in(path, content)
    except FileNotFoundError:
        raise LibraryUnusable(f"There is no file {path}. {_FETCH} to where it is.") from None
    except OSError as error:
        raise LibraryUnusable(f"{path.name} can't be read: {error.strerror}. Check its permissions.") from None


def family_of(version: str) -> Family | None:
    """The family whose layouts a version has; None for versions that are not supported."""
    if re.fullmatch(r"1\.2\.[1-9]\d*", version):
        return "1.2"
    if re.fullmatch(r"1\.3\.\d+[a-z0-9]*", version):
        return "1.3"
    return None


class Library:
    """One runtime library, loaded and identified. Open each file once per process: it remembers what init did here.

    `calls` holds the C functions under their names in `Abi.functions`. `failed_init` says that an init failed in this
    process.
    """

    def __init__(self, path: Path, version: str, build: str, abi: Abi, calls: SimpleNamespace) -> None:
        self.path = path
        self.version = version
        self.build = build
        self.abi = abi
        self.calls = calls
        self.failed_init = False

    @property
    def family(self) -> Family:
        return self.abi.family

    @property
    def per_run_sampling(self) -> bool:
        """Whether each run can have its own sampling and token limit."""
        return self.abi.per_run_sampling

    @property
    def spent(self) -> bool:
        """Whether this process can load no more models with it: Rockchip's 1.3.x may crash once an init has failed."""
        return self.failed_init and self.family == "1.3" and self.build != "cpu"

    @classmethod
    def open(cls, path: Path) -> "Library":
        """Load the library at `path`. Raises LibraryUnusable with what is wrong and what to do about it."""
        path = path.absolute()
        version, build = _find_marker(path)
        family = family_of(version)
        if family is None:
            raise LibraryUnusable(_unsupported(path, version))
        abi = abi_1_2.ABI if family == "1.2" else abi_1_3.ABI
        try:
            loaded = ctypes.CDLL(str(path))
        except OSError as error:
            raise LibraryUnusable(_refused_by_loader(path, str(error))) from None
        missing = [function.symbol for function in abi.functions if not hasattr(loaded, function.symbol)]
        if missing:
            raise LibraryUnusable(
                f"{path.name} says it is RKLLM {version} but does not export {', '.join(missing)}. It is damaged or "
                f"not what it says. {_FETCH}."
            )
        _check_layout(path, version, family, _defaults(loaded))
        return cls(path, version, build, abi, _declare(loaded, abi))


def _check_header(path: Path, head: bytes, size: int) -> None:
    if head.startswith(b"version https://git-lfs"):
        raise LibraryUnusable(
            f"{path.name} is a Git LFS pointer, not the library itself. Fetch it with `git lfs pull`."
        )
    found, wanted = read_header(head), this_machine()
    if found is None or not found.shared:
        raise LibraryUnusable(f"{path.name} is not a shared library. {_FETCH}.")
    if found.bits != 64 or wanted.bits != 64:
        raise LibraryUnusable(
            f"{path.name} has {found.bits} bits and this Python {wanted.bits}. Only 64 bits on both sides work: "
            "use the aarch64 library and a 64-bit Python."
        )
    if found.machine != wanted.machine:
        raise LibraryUnusable(
            f"{path.name} is built for {found.machine}, but this machine is {wanted.machine}. Take the library for "
            f"{wanted.machine}; without an NPU scripts/serve builds a CPU runtime."
        )
    if size < found.least_size:  # the loader would map what is not there, and the process die of SIGBUS
        raise LibraryUnusable(f"{path.name} has {size} bytes of {found.least_size}: copy or download it again.")


class _Marker(NamedTuple):
    version: str
    build: str


def _marker_in(path: Path, content: mmap.mmap) -> _Marker:
    markers = [_Marker(match[1].decode(), (match[2] or b"").decode()) for match in _MARKER.finditer(content)]
    versions = {marker.version for marker in markers}
    if len(versions) == 1:
        return markers[0]
    if versions:
        raise LibraryUnusable(f"{path.name} names several versions: {', '.join(sorted(versions))}. {_FETCH}.")
    if content.find(b"rkllm_init\0") < 0:
        raise LibraryUnusable(f"{path.name} is a shared library, but not an RKLLM runtime. {_FETCH}.")
    if content.find(b"rkllm_get_kv_cache_size\0") < 0:
        raise LibraryUnusable(_unsupported(path, "before 1.2"))
    raise LibraryUnusable(
        f"{path.name} has RKLLM's functions but does not say which version it is, so its layout is unknown. {_FETCH}."
    )


def _unsupported(path: Path, version: str) -> str:
    if version == "before 1.2" or _EARLIER.match(version):
        return f"{path.name} is RKLLM {version}, which is too old: update it to one of {_SUPPORTED}."
    return (
        f"{path.name} is RKLLM {version}, whose layout is not known here. Use one of {_SUPPORTED}, or a newer "
        "rkllama-flask."
    )


def _refused_by_loader(path: Path, reason: str) -> str:
    reason = reason.replace(f"{path}: ", "")
    missing = re.match(r"(\S+): cannot open shared object file", reason)
    if missing:
        package = {"libgomp.so.1": "libgomp1", "libstdc++.so.6": "libstdc++6"}.get(missing.group(1))
        how = f"apt install {package}" if package else "install the package that has it"
        return f"{path.name} needs {missing.group(1)}, which is missing on this machine: {how}."
    if "GLIBC" in reason:  # GLIBCXX too
        return f"{path.name} needs a newer system: {reason}. Update the operating system or take an older library."
    return f"{path.name} can't be loaded: {reason}"


class _Space(ctypes.Structure):
    """Larger than any known RKLLMParam, so that a struct returned by value never runs over."""

    _fields_ = (("data", ctypes.c_uint8 * 512),)


def _defaults(loaded: ctypes.CDLL) -> bytes:
    function = loaded["rkllm_createDefaultParam"]  # by index, a function object of its own each time
    function.argtypes, function.restype = (), _Space
    return bytes(function())


class _Fingerprint(NamedTuple):
    """Where a family's extend block begins, in bytes; the same 16 bytes lie there in both."""

    family: Family
    extend_at: int

    def fits(self, defaults: bytes) -> bool:
        """Whether domain 0, a flag, a CPU count and a mask with as many bits lie where they should."""
        domain, flash, count, mask = struct.unpack_from("=ibbxxI", defaults, self.extend_at)
        return domain == 0 and flash in (0, 1) and 1 <= count <= 8 and mask.bit_count() == count


_FINGERPRINTS = (_Fingerprint("1.2", 88), _Fingerprint("1.3", 60))


def _check_layout(path: Path, version: str, family: Family, defaults: bytes) -> None:
    fitting = [fingerprint.family for fingerprint in _FINGERPRINTS if fingerprint.fits(defaults)]
    (top_p,) = struct.unpack_from("=f", defaults, 24)
    if family in fitting and 0 < top_p <= 1:
        return
    other = next((one for one in fitting if one != family), None)
    layout = f"that of {other}.x" if other else "none that is known"
    raise LibraryUnusable(
        f"{path.name} says it is RKLLM {version}, but its parameter layout is {layout}; using it would crash. {_FETCH}."
    )


def _declare(loaded: ctypes.CDLL, abi: Abi) -> SimpleNamespace:
    calls: dict[str, Callable[..., Any]] = {}
    for name, symbol, argtypes, restype, errcheck in abi.functions:
        function = loaded[symbol]
        function.argtypes, function.restype = argtypes, restype
        if errcheck is not None:
            function.errcheck = errcheck
        calls[name] = function
    return SimpleNamespace(**calls)
