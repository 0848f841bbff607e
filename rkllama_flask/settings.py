"""The server's settings, from the environment or a `.env` file; docs/configuration.md is their table."""

import errno
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values
from environs import Env, EnvError, validate

ROOT = Path(__file__).resolve().parent.parent
"""The installation: relative paths in settings start here, whatever the current directory is."""

ROCKCHIP_LIBRARY_PLACES = (
    "/usr/lib/librkllmrt.so",
    "/usr/local/lib/librkllmrt.so",
    "/lib/librkllmrt.so",
    "/usr/lib/aarch64-linux-gnu/librkllmrt.so",
)


class SettingsError(Exception):
    """A setting is wrong; the sentence names it."""


@dataclass(frozen=True)
class Settings:
    """Times are in seconds, sizes in bytes, counts in requests; `keep_alive` infinite means for ever."""

    host: str
    port: int
    models_dir: Path
    cache_dir: Path
    config_path: Path
    rkllm_lib_path: Path | None
    cpu_runtime_path: Path | None
    default_model: str | None
    fallback_model: str | None
    model_aliases: Mapping[str, str]
    api_keys: tuple[str, ...]
    allowed_origins: tuple[str, ...]
    allowed_hosts: tuple[str, ...]
    max_queue: int
    max_wait: float
    queue_timeout: float
    request_timeout: float
    hang_timeout: float
    keep_alive: float
    max_loaded_models: int
    max_context_length: int
    rate_limit: float
    client_timeout: float
    heartbeat: float
    ndjson_heartbeat: bool
    max_body_bytes: int
    max_upload_bytes: int
    cache_max_bytes: int
    automatic_caches_from: int
    npu_lock: Path
    graceful_timeout: float
    hf_endpoint: str
    hf_token: str | None
    npu_platform: str | None
    log_level: str
    access_log: bool

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in ("127.0.0.1", "::1", "localhost") or self.host.startswith("unix:")

    @property
    def address(self) -> str:
        """What to listen on, as gunicorn takes it: `127.0.0.1:8080`, `[::1]:8080`, `unix:/run/rkllama/http.sock`."""
        if self.host.startswith("unix:"):
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def from_environment(cls, root: Path = ROOT) -> "Settings":
        """Read them; variables that are set win over `root/.env`, or the file that ENV_FILE names.

        Raises SettingsError.
        """
        env = Env(expand_vars=False)
        file = _file(root)
        if file.is_file():
            env.read_env(str(file), recurse=False)
        try:
            return cls._read(env, root)
        except EnvError as error:
            said = str(error).replace("['", "").replace("']", "")
            raise SettingsError(f"{said} Set it in the environment or in {file}.") from error

    @staticmethod
    def in_file(root: Path = ROOT) -> dict[str, str]:
        """What the file says that the environment does not: for processes that begin later and are to see the same."""
        file = _file(root)
        said = dotenv_values(file, interpolate=False) if file.is_file() else {}
        return {name: value for name, value in said.items() if value is not None and name not in os.environ}

    def make_folders(self) -> str | None:
        """Make the folders that data lies in; what will be missed where there can be none for caches.

        Raises SettingsError where there can be none for models.
        """
        if reason := _unusable(self.models_dir, os.R_OK | os.X_OK):
            raise SettingsError(
                f"MODELS_DIR={self.models_dir} can't be read: {reason}. Make it a folder that this user may read, or "
                "set another."
            )
        if reason := _unusable(self.cache_dir, os.W_OK | os.X_OK):
            return (
                f"CACHE_DIR={self.cache_dir} can't be written: {reason}. No prompt cache is kept, and after a crash no "
                "model is loaded again."
            )
        return None

    @classmethod
    def _read(cls, env: Env, root: Path) -> "Settings":
        positive = validate.Range(min=0, min_inclusive=False)
        keys = list(map(str.strip, env.list("API_KEYS", [])))
        key_file = env.str("API_KEYS_FILE", "")
        if key_file:
            keys += _keys_of(root / key_file)
        keep_alive = env.float("KEEP_ALIVE", 300)
        return cls(
            host=env.str("HOST", "") or "127.0.0.1",
            port=env.int("PORT", 8080, validate=validate.Range(0, 65535)),
            models_dir=root / env.str("MODELS_DIR", "models"),
            cache_dir=root / env.str("CACHE_DIR", "cache"),
            config_path=root / env.str("INFERENCE_CONFIG", "conf/inference_config.json"),
            rkllm_lib_path=_rockchip_library(env.str("RKLLM_LIB_PATH", ""), root),
            cpu_runtime_path=_existing(root / env.str("CPU_RUNTIME_PATH", "build/librkllmrt-cpu.so")),
            default_model=env.str("DEFAULT_MODEL", "") or None,
            fallback_model=env.str("FALLBACK_MODEL", "") or None,
            model_aliases=_aliases(env.list("MODEL_ALIASES", [])),
            api_keys=tuple(key for key in keys if key),
            allowed_origins=tuple(env.list("ALLOWED_ORIGINS", [])),
            allowed_hosts=tuple(env.list("ALLOWED_HOSTS", [])),
            max_queue=env.int("MAX_QUEUE", 64, validate=validate.Range(min=1)),
            max_wait=env.float("MAX_WAIT", 600, validate=positive),
            queue_timeout=env.float("QUEUE_TIMEOUT", 600, validate=positive),
            request_timeout=env.float("REQUEST_TIMEOUT", 1800, validate=positive),
            hang_timeout=env.float("HANG_TIMEOUT", 60, validate=validate.Range(min=0)),
            keep_alive=float("inf") if keep_alive < 0 else keep_alive,
            max_loaded_models=env.int("MAX_LOADED_MODELS", 1, validate=validate.Range(min=1)),
            max_context_length=env.int("MAX_CONTEXT_LENGTH", 16384, validate=validate.Range(min=32)),
            rate_limit=env.float("RATE_LIMIT", 0, validate=validate.Range(min=0)),
            client_timeout=env.float("CLIENT_TIMEOUT", 60, validate=validate.Range(min=1)),
            heartbeat=env.float("HEARTBEAT", 10, validate=validate.Range(min=0)),
            ndjson_heartbeat=env.bool("NDJSON_HEARTBEAT", False),
            max_body_bytes=env.int("MAX_BODY_BYTES", 8 << 20, validate=positive),
            max_upload_bytes=env.int("MAX_UPLOAD_BYTES", 64 << 30, validate=validate.Range(min=0)),
            cache_max_bytes=env.int("CACHE_MAX_BYTES", 4 << 30, validate=validate.Range(min=0)),
            automatic_caches_from=env.int("AUTOMATIC_CACHES_FROM", 256, validate=validate.Range(min=0)),
            npu_lock=root / env.str("NPU_LOCK", str(_lock_folder() / "rkllama-npu.lock")),
            graceful_timeout=env.float("GRACEFUL_TIMEOUT", 30, validate=positive),
            hf_endpoint=env.str("HF_ENDPOINT", "") or "https://huggingface.co",
            hf_token=env.str("HF_TOKEN", "") or None,
            npu_platform=env.str("NPU_PLATFORM", "") or None,
            access_log=env.bool("ACCESS_LOG", True),
            log_level=env.str("LOG_LEVEL", "info", validate=validate.OneOf(["debug", "info", "warning", "error"])),
        )


def _file(root: Path) -> Path:
    """Raises SettingsError for one that ENV_FILE names and nobody can read: its API keys would not be asked for."""
    named = os.environ.get("ENV_FILE")
    file = root / (named or ".env")
    if (named or file.exists()) and (not os.access(file, os.R_OK) or file.is_dir()):
        called = "ENV_FILE=" if named else ""
        raise SettingsError(f"{called}{file} can't be read. It has to be a file that this user may read.")
    return file


def _unusable(folder: Path, access: int) -> str | None:
    """Why a folder, made where it is missing, can't be used."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return error.strerror or type(error).__name__
    return None if os.access(folder, access) else os.strerror(errno.EACCES)


def _keys_of(file: Path) -> list[str]:
    try:
        keys = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(
            f"API_KEYS_FILE={file} can't be read: {reason}. It has to be a file of one key a line."
        ) from error
    if not any(keys):  # whoever names a file wants keys to be asked for
        raise SettingsError(f"API_KEYS_FILE={file} holds no key. Put one key on each line, or unset it.")
    return keys


def _aliases(pairs: Sequence[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        alias, equals, name = (part.strip() for part in pair.partition("="))
        if not (alias and equals and name):
            raise EnvError(f'Environment variable "MODEL_ALIASES" invalid: "{pair}" is not alias=model.')
        found[alias] = name
    return found


def _rockchip_library(said: str, root: Path) -> Path | None:
    """What was said, also if nothing is there: the error should name it. Else the first usual place that has one."""
    if said:
        return root / said
    return next((Path(place) for place in ROCKCHIP_LIBRARY_PLACES if Path(place).is_file()), None)


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None


def _lock_folder() -> Path:
    """One place for all users of the machine, because there is one NPU."""
    shared = Path("/run/lock")
    return shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
