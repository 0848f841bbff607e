"""What a file says of itself in its first bytes: whether this machine could load it as a library."""

import os
import struct
import sys
from typing import NamedTuple

_MACHINES = {3: "x86", 40: "armv7l", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
_SAME = {"arm64": "aarch64", "amd64": "x86_64", "armv8l": "armv7l", "i686": "x86", "i386": "x86"}
_SHARED_OBJECT = 3


class Elf(NamedTuple):
    """`machine` in the words of `uname -m`, `bits` 32 or 64, `shared` whether it is a library.

    `least_size` is what the file must have in bytes to be whole: the table of sections lies at its end.
    """

    machine: str
    bits: int
    shared: bool
    least_size: int = 0


def read_header(head: bytes) -> Elf | None:
    """The ELF header in the first 64 bytes of a file; None where there is none."""
    if len(head) < 64 or not head.startswith(b"\x7fELF"):
        return None
    order = ">" if head[5] == 2 else "<"
    kind, machine = struct.unpack_from(f"{order}HH", head, 16)
    bits = 64 if head[4] == 2 else 32
    least_size = 0
    if bits == 64:
        (sections_at,) = struct.unpack_from(f"{order}Q", head, 40)
        each, count = struct.unpack_from(f"{order}HH", head, 58)
        least_size = sections_at + each * count
    return Elf(_MACHINES.get(machine, f"machine {machine}"), bits, kind == _SHARED_OBJECT, least_size)


def this_machine() -> Elf:
    """What a library must be to be loaded by this interpreter."""
    name = os.uname().machine
    bits = 64 if sys.maxsize > 2**32 else 32
    name = _SAME.get(name, name)
    if bits == 32:
        name = {"x86_64": "x86", "aarch64": "armv7l"}.get(name, name)
    return Elf(name, bits, shared=True)
