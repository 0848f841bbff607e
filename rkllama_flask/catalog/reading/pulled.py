"""Which models came from the hub, and the names they were asked for by: small files under `.rkllama/pulled`."""

import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER = Path(".rkllama", "pulled")

_HOSTS = ("", "hf.co/", "huggingface.co/")


@dataclass(frozen=True)
class Pulled:
    """Where a model from the hub lies: `weights` is the first file's name. `names` are in small letters."""

    folder: str
    weights: str
    names: tuple[str, ...]


def read_pulled(models_dir: Path, model: str) -> Pulled | None:
    """What is kept of a model, by the word it was kept under; None for nothing, or for what is damaged."""
    return _read(models_dir / FOLDER / model)


def remember_pulled(models_dir: Path, model: str, pulled: Pulled) -> None:
    """Keep it, in place of what was kept under this word before. Raises OSError."""
    folder = models_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder / f".{model}-{secrets.token_hex(8)}"
    try:
        scratch.write_text(json.dumps(asdict(pulled)), encoding="utf-8")
        scratch.replace(folder / model)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def pulled_names(models_dir: Path) -> dict[str, str]:
    """Paths of weights in the models folder by each name that they were pulled by; the last pull counts."""
    try:
        files = sorted((models_dir / FOLDER).iterdir(), key=lambda file: file.lstat().st_mtime_ns)
    except OSError:
        return {}
    found: dict[str, str] = {}
    for file in files:
        pulled = None if file.name.startswith(".") else _read(file)
        if pulled is not None:
            names = (f"{host}{name}" for name in pulled.names for host in _HOSTS)
            found |= dict.fromkeys(names, f"{pulled.folder}/{pulled.weights}")
    return found


def _read(path: Path) -> Pulled | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Pulled(str(data["folder"]), str(data["weights"]), tuple(map(str, data["names"])))
    except (OSError, ValueError, KeyError, TypeError):
        return None
