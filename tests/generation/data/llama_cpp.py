"""llama.cpp's own tokenizer, the one the CPU runtime has, and small files for it."""

import ctypes
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_PARAMETERS_SIZE, _VOCAB_ONLY = 80, 72
"""Of `struct llama_model_params`: its size, and the place of the flag that leaves the weights out."""


class _Parameters(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_ubyte * _PARAMETERS_SIZE)]


_Log = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_SILENT = _Log(lambda _level, _text, _data: None)


class LlamaVocabulary:
    def __init__(self, library: ctypes.CDLL, model: int) -> None:
        self._library = library
        self._vocabulary = ctypes.c_void_p(library.llama_model_get_vocab(ctypes.c_void_p(model)))

    def tokenize(self, text: str, *, add_special: bool = False, parse_special: bool = False) -> list[int]:
        data = text.encode()
        ids = (ctypes.c_int32 * (len(data) + 16))()
        count = self._library.llama_tokenize(
            self._vocabulary, data, len(data), ids, len(ids), ctypes.c_bool(add_special), ctypes.c_bool(parse_special)
        )
        assert count >= 0
        return list(ids[:count])


@contextmanager
def llama_vocabulary(path: Path) -> Iterator[LlamaVocabulary]:
    """The vocabulary of a GGUF file; its weights aren't read."""
    package = find_spec("xllamacpp")
    assert package is not None
    assert package.submodule_search_locations is not None
    library = ctypes.CDLL(str(next(Path(package.submodule_search_locations[0]).glob("*.so"))))
    library.llama_log_set(_SILENT, None)
    library.llama_model_default_params.restype = _Parameters
    library.llama_model_load_from_file.restype = ctypes.c_void_p
    library.llama_model_load_from_file.argtypes = [ctypes.c_char_p, _Parameters]
    library.llama_model_get_vocab.restype = ctypes.c_void_p
    parameters = library.llama_model_default_params()
    assert parameters.bytes[_VOCAB_ONLY : _VOCAB_ONLY + 3] == [0, 0, 1], "llama.cpp has changed its parameters"
    parameters.bytes[_VOCAB_ONLY] = 1
    model = library.llama_model_load_from_file(str(path).encode(), parameters)
    assert model, f"llama.cpp refuses {path}"
    try:
        yield LlamaVocabulary(library, model)
    finally:
        library.llama_model_free(ctypes.c_void_p(model))


def write_gguf(path: Path, metadata: Mapping[str, Any]) -> Path:
    """A GGUF file of version 3 without tensors."""
    pairs = b"".join(_string(key) + _typed(value) for key, value in metadata.items())
    path.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 0, len(metadata)) + pairs + bytes(64))
    return path


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _typed(value: Any) -> bytes:
    if not isinstance(value, list):
        kind, data = _scalar(value)
        return struct.pack("<I", kind) + data
    if isinstance(value[0], int):
        return struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)  # token types are signed
    items = b"".join(_scalar(item)[1] for item in value)
    return struct.pack("<IIQ", 9, _scalar(value[0])[0], len(value)) + items


def _scalar(value: Any) -> tuple[int, bytes]:
    if isinstance(value, bool):
        return 7, struct.pack("<?", value)
    if isinstance(value, str):
        return 8, _string(value)
    if isinstance(value, float):
        return 6, struct.pack("<f", value)
    return 4, struct.pack("<I", value)
