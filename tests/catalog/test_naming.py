import re
from itertools import permutations
from pathlib import Path

import pytest

from rkllama_flask.catalog.catalog import Catalog
from rkllama_flask.catalog.reading.names import parse_new, take_apart
from rkllama_flask.catalog.reading.naming import Candidate, assign

DOCS = Path(__file__).parents[2] / "docs" / "models.md"


def names(*files: str, taken: tuple[str, ...] = ()) -> dict[str, str]:
    def candidate(file: str) -> Candidate:
        stem, _, ending = file.rpartition("/")[2].rpartition(".")
        return Candidate(file, ending, take_apart(stem))

    return assign([candidate(file) for file in files], taken=taken)


def test_a_single_file_has_the_plain_name() -> None:
    assert names("Qwen3-0.6B-rk3588-w8a8-opt-1.rkllm") == {"Qwen3-0.6B-rk3588-w8a8-opt-1.rkllm": "qwen3-0.6b"}


def test_files_of_one_name_are_told_apart_by_what_differs() -> None:
    assert names("m-w8a8-opt-0.rkllm", "m-w8a8-opt-1.rkllm") == {
        "m-w8a8-opt-0.rkllm": "m",
        "m-w8a8-opt-1.rkllm": "m:opt1",
    }
    assert names("m-w4a16-opt-0.rkllm", "m-w8a8-opt-1.rkllm")["m-w4a16-opt-0.rkllm"] == "m:w4a16"


def test_the_one_without_marks_keeps_the_plain_name() -> None:
    assert names("m.gguf", "m-Q4_K_M.gguf") == {"m.gguf": "m", "m-Q4_K_M.gguf": "m:q4_k_m"}


def test_the_npu_goes_before_the_cpu() -> None:
    assert names("m.gguf", "m.rkllm") == {"m.rkllm": "m", "m.gguf": "m:gguf"}


def test_files_that_differ_in_nothing_get_numbers() -> None:
    found = names("a/m.gguf", "b/m.gguf", "c/m.gguf")
    assert found == {"a/m.gguf": "m", "b/m.gguf": "m:2", "c/m.gguf": "m:3"}


def test_a_name_given_by_hand_is_never_given_again() -> None:
    assert names("m-w8a8.rkllm", taken=("M",)) == {"m-w8a8.rkllm": "m:w8a8"}
    assert names("m-w8a8.rkllm", taken=("m", "m:w8a8")) == {"m-w8a8.rkllm": "m:w8a8-2"}


def test_names_do_not_depend_on_the_order_of_the_files() -> None:
    files = ("m-w8a8.rkllm", "m-w4a16.rkllm", "m.gguf", "x/m-w8a8.rkllm")
    assert len({tuple(sorted(names(*order).items())) for order in permutations(files)}) == 1


def rows() -> list[list[str]]:
    lines = re.findall(r"^\| `([^`]+\.(?:rkllm|gguf))` \|(.*)\|$", DOCS.read_text(), re.MULTILINE)
    return [[file, *(cell.strip().strip("`") for cell in rest.split("|"))] for file, rest in lines]


def test_a_folder_of_fifty_files_lists_as_documented(models: Path, catalog: Catalog) -> None:
    table = rows()
    assert len(table) >= 50
    for file, *_ in table:
        (models / file).touch()
    found = {
        model.path.name: [model.name, model.parameter_size or "", model.quantization or "", str(model.context_length)]
        for model in catalog.list()
    }
    assert found == {file: facts for file, *facts in table if facts[0] != "not listed"}
    for model in catalog.list():
        assert parse_new(model.name)
        assert catalog.find(model.name) is model
        assert catalog.find(f"{model.name.upper()}") is model


@pytest.mark.parametrize(
    "file", [row[0] for row in rows() if row[1] != "not listed" and re.fullmatch(r"[\w.-]+", row[0], re.ASCII)]
)
def test_each_is_found_by_its_file_name_with_and_without_the_ending(models: Path, catalog: Catalog, file: str) -> None:
    (models / file).touch()
    for name in (file, file.lower(), Path(file).stem, Path(file).stem.upper()):
        assert catalog.find(name).path.name == file
