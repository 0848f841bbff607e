"""Small GGUF files, written by hand."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

KINDS = {"u8": (0, "B"), "u32": (4, "I"), "i32": (5, "i"), "f32": (6, "f"), "bool": (7, "?"), "u64": (10, "Q")}


def string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def value(item: Any) -> bytes:
    """Type code and content; a tuple is (kind, number)."""
    if isinstance(item, tuple):
        code, letter = KINDS[item[0]]
        return struct.pack("<I" + letter, code, item[1])
    if isinstance(item, bool):
        return struct.pack("<I?", 7, item)
    if isinstance(item, int):
        return struct.pack("<II", 4, item)
    if isinstance(item, float):
        return struct.pack("<If", 6, item)
    if isinstance(item, str):
        return struct.pack("<I", 8) + string(item)
    if not item:
        return struct.pack("<IIQ", 9, 4, 0)
    items = [value(one) for one in item]
    return struct.pack("<I", 9) + items[0][:4] + struct.pack("<Q", len(items)) + b"".join(one[4:] for one in items)


def gguf_bytes(
    metadata: Mapping[str, Any],
    *,
    version: int = 3,
    tensors: Sequence[tuple[str, Sequence[int], int]] = (),
    data: int = 0,
    pairs: int | None = None,
) -> bytes:
    """`tensors` are (name, dimensions, offset); `data` bytes of zeros follow the directory."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata) if pairs is None else pairs)
    head += b"".join(string(key) + value(item) for key, item in metadata.items())
    for name, dimensions, offset in tensors:
        head += string(name) + struct.pack("<I", len(dimensions)) + b"".join(struct.pack("<Q", d) for d in dimensions)
        head += struct.pack("<IQ", 0, offset)
    return head + bytes(-len(head) % 32) + bytes(data)


LLAMA = {
    "general.architecture": "llama",
    "general.file_type": 15,
    "llama.context_length": 2048,
    "llama.embedding_length": 64,
    "llama.block_count": 2,
    "tokenizer.ggml.tokens": [f"t{i}" for i in range(100)],
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 99,
    "tokenizer.ggml.eot_token_id": 98,
    "tokenizer.chat_template": "{{ messages }}",
}


def write_llama(path: Path, **changes: Any) -> Path:
    tensors = [("a", (64, 100), 0), ("b", (64,), 25600)]
    path.write_bytes(gguf_bytes({**LLAMA, **changes}, tensors=tensors, data=25600 + 256))
    return path
