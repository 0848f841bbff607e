"""The runtime library, the models against it, memory, address, configuration, disk."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rkllama_flask.catalog.catalog import Catalog
from rkllama_flask.catalog.check import check
from rkllama_flask.catalog.model import Model
from rkllama_flask.doctor.finding import Finding, Level
from rkllama_flask.errors import LibraryUnusable, RkllamaError
from rkllama_flask.hosting.listening import check_address
from rkllama_flask.inference_config import LiveConfig
from rkllama_flask.machine.board import Board
from rkllama_flask.machine.platforms import this_platform
from rkllama_flask.runtime.library import family_of, find_version
from rkllama_flask.settings import Settings, SettingsError

DOMAIN = 4 << 30
"""Bytes that one memory domain of the NPU addresses; all models are put into the first."""

_LITTLE_DISK = 1 << 30
_OPEN = "from pathlib import Path; import sys; from rkllama_flask.runtime.library import Library; "
_LOAD = _OPEN + "Library.open(Path(sys.argv[1]))"


def examine_libraries(settings: Settings, *, on_board: bool) -> Iterator[Finding]:
    """The library for .rkllm models, and the CPU runtime for .gguf ones."""
    if settings.rkllm_lib_path is not None:
        yield _library("library", settings.rkllm_lib_path)
    elif on_board:
        yield Finding(
            Level.ERROR,
            "library",
            "Rockchip's librkllmrt.so is in none of the usual places",
            "Copy runtime/Linux/librkllm_api/aarch64/librkllmrt.so of github.com/airockchip/rknn-llm to /usr/lib, or "
            "set RKLLM_LIB_PATH.",
        )
    if settings.cpu_runtime_path is not None:
        yield _library("CPU runtime", settings.cpu_runtime_path)
    elif not on_board and settings.rkllm_lib_path is None:
        yield Finding(Level.ERROR, "library", "no CPU runtime has been built", "scripts/serve builds it.")


def _library(subject: str, path: Path) -> Finding:
    try:
        version = find_version(path)
        _load(path)
    except LibraryUnusable as error:
        return Finding(Level.ERROR, subject, f"{path} can't be used", str(error))
    return Finding(Level.OK, subject, f"{path}: RKLLM {version}, family {family_of(version)}")


def _load(path: Path) -> None:
    """In a process of its own: what a library does when it is loaded is its own affair. Raises LibraryUnusable."""
    done = subprocess.run([sys.executable, "-c", _LOAD, str(path)], capture_output=True, text=True, check=False)
    if done.returncode < 0:
        raise LibraryUnusable(f"Loading {path.name} ends the process with signal {-done.returncode}.")
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it can't be loaded"]
        raise LibraryUnusable(last[0].removeprefix("rkllama_flask.errors.LibraryUnusable: "))


def examine_models(settings: Settings, root: Path) -> Iterator[Finding]:
    """Each model against the library, the chip and the memory; one line for those that nothing speaks against."""
    warnings: list[str] = []
    models = Catalog(settings.models_dir, on_warning=warnings.append).list()
    for warning in warnings:
        yield Finding(Level.WARNING, "models", warning, f"Look into {settings.models_dir}: {warning}")
    chip = this_platform(root / "proc")
    if not models:
        how = (
            "Put a .rkllm file into it, or: scripts/rkllama pull org/repo"
            if chip
            else "scripts/serve brings a small one"
        )
        yield Finding(Level.WARNING, "models", f"none in {settings.models_dir}", f"Fetch a model. {how}.")
    fine = []
    for model in models:
        findings = list(_model(model, settings, chip, root))
        yield from findings
        fine += [] if findings else [model.name]
    if fine:
        yield Finding(Level.OK, "models", ", ".join(fine))
    if settings.default_model and settings.default_model not in {model.name for model in models}:
        try:
            Catalog(settings.models_dir).find(settings.default_model)
        except RkllamaError as error:
            yield Finding(
                Level.ERROR, "models", f"DEFAULT_MODEL: {error}", "Correct DEFAULT_MODEL, or fetch the model."
            )


def _model(model: Model, settings: Settings, chip: str | None, root: Path) -> Iterator[Finding]:
    library = settings.rkllm_lib_path if model.format == "rkllm" else settings.cpu_runtime_path
    if library is None:
        what = "Rockchip's library" if model.format == "rkllm" else "the CPU runtime"
        yield Finding(Level.NOTE, "models", f"{model.name} needs {what}, which is not here")
        return
    try:
        runtime = find_version(library)
    except LibraryUnusable:
        runtime = None  # told where the library is looked at
    found = check(model, now=time.time(), soc=chip, runtime=runtime, proc=root / "proc")
    if found.blocking is not None:
        yield Finding(Level.ERROR, "models", f"{model.name} can't be loaded", found.blocking)
    for warning in found.warnings:
        yield Finding(Level.WARNING, "models", f"{model.name}: {warning}", f"If {model.name} fails: {warning}.")


def examine_memory(settings: Settings, root: Path) -> Iterator[Finding]:
    """What is free, and whether the models that may be loaded at once share one memory domain of the NPU."""
    available = Board(root).available_memory()
    if available is not None:
        yield Finding(Level.OK, "memory", f"{available / 2**30:.1f} GiB free")
    sizes = sorted((one.size for one in Catalog(settings.models_dir).list() if one.format == "rkllm"), reverse=True)
    together = sum(sizes[: settings.max_loaded_models])
    if settings.max_loaded_models > 1 and together > DOMAIN:
        yield Finding(
            Level.WARNING,
            "memory",
            f"{settings.max_loaded_models} models at once can have {together / 2**30:.1f} GiB; a memory domain of the "
            "NPU has 4",
            "Set MAX_LOADED_MODELS=1, or keep to models that have less than 4 GiB together.",
        )


def examine_settings(settings: Settings) -> Iterator[Finding]:
    """The live configuration, and who can reach the server."""
    broken = LiveConfig(settings.config_path).error
    if not settings.config_path.exists():
        yield Finding(Level.NOTE, "configuration", f"{settings.config_path} is not there: nothing is set by it")
    elif broken is None:
        yield Finding(Level.OK, "configuration", str(settings.config_path))
    else:
        yield Finding(Level.WARNING, "configuration", broken, f"Correct {settings.config_path}: {broken}")
    if not settings.is_local and not settings.api_keys:
        yield Finding(
            Level.WARNING,
            "access",
            f"everybody who reaches {settings.address} may use the server",
            "Set API_KEYS, or HOST=127.0.0.1.",
        )


def examine_address(settings: Settings) -> Finding:
    """For a server that does not run: whether another program has its address."""
    if settings.host.startswith("unix:"):
        folder = Path(settings.host.removeprefix("unix:")).parent
        if folder.is_dir():
            return Finding(Level.OK, "address", f"{settings.address}: no server runs")
        return Finding(Level.ERROR, "address", f"there is no folder {folder}", f"mkdir {folder}, or change HOST.")
    try:
        check_address(settings.host, settings.port)
    except SettingsError as error:
        found, _, do = str(error).partition(". ")
        return Finding(
            Level.ERROR, "address", found, do or f"sudo ss -tlnp sport = :{settings.port} shows who uses it."
        )
    return Finding(Level.OK, "address", f"{settings.address} is free: no server runs")


def examine_disk(settings: Settings) -> Iterator[Finding]:
    """Room for models and caches."""
    for name, folder in (("MODELS_DIR", settings.models_dir), ("CACHE_DIR", settings.cache_dir)):
        place = next(one for one in (folder, *folder.parents) if one.exists())
        free = shutil.disk_usage(place).free
        text = f"{free / 2**30:.1f} GiB free for {folder}"
        if free < _LITTLE_DISK:
            yield Finding(Level.WARNING, "disk", text, f"Free some space, or set {name} to another disk.")
        else:
            yield Finding(Level.OK, "disk", text)
