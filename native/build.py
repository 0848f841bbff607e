#!/usr/bin/env python3
"""Build what is native into build/: the CPU runtime and the scripted test runtime, for both ABI families and 1.3.1.

The probe is a program that prints the layout of the C interface as the compiler sees it. The compilers are $CXX and
$CC, else the first of g++, clang++, c++ (gcc, clang, cc) on the PATH, else the packaged one of `pip install ziglang`.
Nothing is built again that is newer than its sources.
"""

import argparse
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

NATIVE = Path(__file__).resolve().parent
BUILD = NATIVE.parent / "build"
FAMILIES = {"": "13", "-1.2": "12", "-1.3.1": "131"}
WARNINGS = ["-O2", "-Wall", "-Wextra"]
SHARED = [
    *("-shared", "-fPIC", "-fvisibility=hidden", "-pthread"),
    "-Wl,--no-gc-sections",  # nobody refers to the version marker
    f"-Wl,--version-script={NATIVE / 'exports.map'}",
]


class BuildFailed(Exception):
    """The reason, for a person."""


def compiler(variable: str, names: tuple[str, ...], zig: str) -> list[str]:
    if os.environ.get(variable):
        return shlex.split(os.environ[variable])
    for name in names:
        if found := shutil.which(name):
            return [found]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", zig, "-target", f"{platform.machine()}-linux-gnu.2.17"]
    raise BuildFailed(
        f"No compiler was found: install g++ (apt install g++), or pip install ziglang, or set {variable}."
    )


def target(kind: str, suffix: str) -> Path:
    """Where a library, or the probe, is built."""
    return BUILD / (f"abi-probe{suffix}" if kind == "probe" else f"librkllmrt-{kind}{suffix}.so")


def command(kind: str, family: str, output: Path) -> tuple[list[str], list[Path]]:
    """The compiler's command line and the sources it depends on."""
    flags = [*WARNINGS, f"-DRKLLM_ABI={family}"]
    if kind == "cpu":
        sources = sorted(NATIVE.glob("cpu_runtime*.cpp"))
        flags += ["-std=c++17"]
        head = compiler("CXX", ("g++", "clang++", "c++"), "c++")
    else:
        sources = [NATIVE / "abi_probe.c"] if kind == "probe" else sorted(NATIVE.glob("scripted_*.c"))
        flags += ["-std=gnu11"]
        head = compiler("CC", ("gcc", "clang", "cc"), "cc")
    if kind != "probe":
        flags += [*SHARED, f"-Wl,-soname,{output.name}"]
    return [*head, *flags, *map(str, sources), "-ldl", "-lm"], [*sources, *NATIVE.glob("*.h")]


def build(kind: str, suffix: str) -> Path:
    """Build one of them unless it is up to date; it appears whole or not at all. Raises BuildFailed."""
    output = target(kind, suffix)
    line, sources = command(kind, FAMILIES[suffix], output)
    record = output.with_name(f"{output.name}.command")
    wanted = "\0".join(line)
    newest = max(path.stat().st_mtime for path in sources)
    if output.exists() and output.stat().st_mtime > newest and record.exists() and record.read_text() == wanted:
        return output
    BUILD.mkdir(exist_ok=True)
    partial = output.with_name(f"{output.name}.{os.getpid()}")
    done = subprocess.run([*line, "-o", str(partial)], capture_output=True, text=True, check=False)
    if done.returncode:
        partial.unlink(missing_ok=True)
        raise BuildFailed(f"Compiling {output.name} failed:\n{done.stderr[-4000:]}")
    partial.replace(output)
    record.write_text(wanted)
    return output


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", nargs="*", default=["cpu", "scripted"], help="cpu, scripted (default: both) or probe")
    parser.add_argument(
        "--family", choices=["1.2", "1.3", "1.3.1"], help="only this one (default: all; 1.3.1 is scripted only)"
    )
    arguments = parser.parse_args()
    suffixes = {"1.2": ["-1.2"], "1.3": [""], "1.3.1": ["-1.3.1"], None: [*FAMILIES]}[arguments.family]
    try:
        for kind in arguments.kind:
            for suffix in suffixes:
                if (kind, suffix) != ("cpu", "-1.3.1"):  # pictures and sound are all that 1.3.1 changes
                    print(build(kind, suffix))
    except BuildFailed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
