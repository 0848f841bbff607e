"""Tells the CPU runtime where llama.cpp is: in the package xllamacpp of this Python's environment."""

import importlib.util
import os
from pathlib import Path

VARIABLE = "RKLLM_CPU_ENGINE"
"""Where the runtime looks; it is not compiled in, so that another virtual environment needs no other runtime."""


def announce_cpu_engine() -> None:
    """Set the variable, unless it is set or there is no such package. Never from the engine's thread: it imports."""
    if os.environ.get(VARIABLE):
        return
    found = importlib.util.find_spec("xllamacpp")
    for place in (found and found.submodule_search_locations) or []:
        for library in Path(place).glob("xllamacpp*.so"):
            os.environ[VARIABLE] = str(library)
