"""Caches without a runtime: entries as the engine would make them, with a file of so many bytes."""

from pathlib import Path
from typing import Any

from rkllama_flask.promptcache.entry import Binding, CacheEntry
from rkllama_flask.promptcache.store import CacheStore

BINDING = Binding(model="weights", runtime="1.3.0", family="1.3", template="chatml", context_length=4096)


def entry(name: str = "system", model: str = "tiny", **values: Any) -> CacheEntry:
    fields: dict[str, Any] = {
        "name": name,
        "model_name": model,
        "source": "named",
        "binding": BINDING,
        "content": (1, 2, 3),
        "tokens": 3,
        "prompt_length": 12,
        "ttft_ms": 5.0,
        "created_at": 1_700_000_000.0,
        "modified_at": 1_700_000_000.0,
        "messages": ({"role": "system", "content": "Be brief."},),
    }
    return CacheEntry(**(fields | values))


def keep(store: CacheStore, name: str = "system", *, size: int = 100, **values: Any) -> CacheEntry:
    """Keep a cache whose file is `size` bytes that no other cache has."""
    new = entry(name, **values)
    written = store.target(new.model_name, new.name)
    written.write_bytes((f"{name} " * size).encode()[:size])
    return store.keep(new, written)


def files(folder: Path) -> list[str]:
    """Every file below a folder, without the checksums that are part of some names."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(f"{path.stem.rpartition('-')[0]}.kv" if path.suffix == ".kv" else path.name for path in found)
