"""What a file says of itself in its first bytes: whether this machine could load it as a library."""

import os
import struct
import sys
from typing import NamedTuple

_MACHINES = {3: "x86", 40: "armv7l", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
_SAME = {"arm64": "aarch64", "amd64": "x86_64", "armv8l": "armv7l", "i686": "x86", "i386": "x86"}
_SHARED_OBJECT = 3


class Elf(NamedTuple):
    """`machine` in the words of `uname -m`, `bits` 32 or 64, `shared` whether it is a library."""

    machine: str
    bits: int
    shared: bool


def read_header(head: bytes) -> Elf | None:
    """The ELF header in the first bytes of a file; None where there is none."""
    if len(head) < 20 or not head.startswith(b"\x7fELF"):
        return None
    kind, machine = struct.unpack_from(">HH" if head[5] == 2 else "<HH", head, 16)
    return Elf(_MACHINES.get(machine, f"machine {machine}"), 64 if head[4] == 2 else 32, kind == _SHARED_OBJECT)


def this_machine() -> Elf:
    """What a library must be to be loaded by this interpreter."""
    name = os.uname().machine
    bits = 64 if sys.maxsize > 2**32 else 32
    name = _SAME.get(name, name)
    if bits == 32:
        name = {"x86_64": "x86", "aarch64": "armv7l"}.get(name, name)
    return Elf(name, bits, shared=True)
