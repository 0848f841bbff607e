"""The layouts, held against the published sizes and offsets."""

import ctypes
import json
from types import ModuleType
from typing import Any

import pytest

from rkllama_flask.runtime import abi, abi_1_2, abi_1_3
from tests.serving import ROOT

TABLES: dict[str, dict[str, Any]] = json.loads((ROOT / "tests/native/abi_tables.json").read_text())
MODULES: dict[str, ModuleType] = {"1.2": abi_1_2, "1.3.1": abi_1_3}
NOT_CALLED = {"RKLLMCrossAttnParam"}

STRUCTURES = [(family, name) for family in MODULES for name in TABLES[family] if name not in NOT_CALLED]


def structure(family: str, name: str) -> type[ctypes.Structure]:
    return getattr(MODULES[family], name, None) or getattr(abi, name)  # type: ignore[no-any-return]


@pytest.mark.parametrize(("family", "name"), STRUCTURES)
def test_each_structure_has_the_published_size(family: str, name: str) -> None:
    assert ctypes.sizeof(structure(family, name)) == TABLES[family][name]["size"]


@pytest.mark.parametrize(("family", "name"), STRUCTURES)
def test_each_field_lies_where_it_is_published(family: str, name: str) -> None:
    fields = {
        field: [getattr(structure(family, name), field).offset, getattr(structure(family, name), field).size]
        for field in TABLES[family][name]["fields"]
    }
    assert fields == TABLES[family][name]["fields"]


@pytest.mark.parametrize("name", sorted(set(TABLES["1.3"]) - NOT_CALLED))
def test_what_1_3_0_reads_lies_where_1_3_1_has_it(name: str) -> None:
    older, newer = TABLES["1.3"][name], TABLES["1.3.1"][name]
    assert {field: newer["fields"][field][0] for field in older["fields"]} == {
        field: place[0] for field, place in older["fields"].items()
    }
    assert newer["size"] - older["size"] == (48 if name in ("RKLLMInput", "RKLLMMultiModalInput") else 0)


@pytest.mark.parametrize("family", MODULES)
def test_every_function_declares_what_it_takes_and_gives(family: str) -> None:
    functions = MODULES[family].ABI.functions
    assert len({function.symbol for function in functions}) == len(functions)
    assert all(function.restype is not None for function in functions)
    assert all(function.argtypes for function in functions if function.name != "default_param")


@pytest.mark.parametrize("family", MODULES)
def test_handles_and_pointers_are_never_cut_to_an_int(family: str) -> None:
    for function in MODULES[family].ABI.functions:
        if function.argtypes and function.name != "init":
            assert function.argtypes[0] is ctypes.c_void_p, function


def test_the_callback_returns_an_int() -> None:
    assert abi.LLMResultCallback._restype_ is ctypes.c_int  # type: ignore[attr-defined]


def test_a_failed_call_raises() -> None:
    def some_function() -> None: ...

    with pytest.raises(abi.CallFailed, match="some_function returned -1"):
        abi.check_success(-1, some_function, ())
    assert abi.check_success(0, some_function, ()) == 0
