import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rkllama_flask.catalog.catalog import Catalog
from rkllama_flask.catalog.changing.store import BehindLink, Store
from rkllama_flask.catalog.reading.modelfile import Written, compose
from rkllama_flask.errors import InvalidRequest, ModelNotFound, RkllamaError
from tests.catalog.conftest import Clock
from tests.catalog.gguf_files import write_llama


def listed(catalog: Catalog) -> list[str]:
    return [model.name for model in catalog.list()]


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


@pytest.fixture
def base(models: Path) -> Path:
    """A model with a folder, a Modelfile and side files of its own."""
    folder = models / "base"
    folder.mkdir()
    write_llama(folder / "w.gguf")
    (folder / "Modelfile").write_text("# by hand\nFROM ./w.gguf\nSYSTEM hello\nPARAMETER stop x\n")
    (folder / "tokenizer.json").write_text("{}")
    return folder


def test_what_waits_for_the_disk_waits_where_nobody_else_does(base: Path, models: Path) -> None:
    calls: list[Callable[[], Any]] = []
    catalog = Catalog(models, natively=lambda call: calls.append(call) or call())
    counts = []
    for change in (catalog.list, lambda: catalog.copy("base", "mine"), lambda: catalog.delete("mine")):
        calls.clear()
        change()
        counts.append(len(calls))
    assert counts == [1, 2, 2]  # the change, and reading what is there after it


# Copies


def test_a_copy_shares_the_weights_and_says_the_same(base: Path, catalog: Catalog) -> None:
    copy = catalog.copy("base", "mine")
    original = catalog.find("base")
    assert copy.name == "mine"
    assert (copy.path, copy.identity, copy.size, copy.digest) == (
        original.path, original.identity, original.size, original.digest,
    )  # fmt: skip
    assert copy.modelfile == original.modelfile
    assert copy.tokenizer_path == original.tokenizer_path
    assert listed(catalog) == ["base", "mine"]


def test_a_copy_does_not_change_when_its_source_does(base: Path, catalog: Catalog, clock: Clock) -> None:
    catalog.copy("base", "mine")
    (base / "Modelfile").write_text("SYSTEM changed\n")
    clock.now += 1
    assert catalog.find("mine").modelfile.system == "hello"


@pytest.mark.parametrize(
    "name", ["mine", "Mine:8b", "org/mine", "hf.co/org/mine:Q4_K_M", "registry.ollama.ai/library/mine"]
)
def test_a_copy_may_have_any_valid_name(models: Path, catalog: Catalog, name: str) -> None:
    (models / "loose-w8a8.rkllm").touch()
    copy = catalog.copy("loose", name)
    assert catalog.find(name) == copy
    assert copy.name == name.removeprefix("registry.ollama.ai/library/")
    catalog.delete(name)
    assert listed(catalog) == ["loose"]
    assert tree(models) == {"loose-w8a8.rkllm"}
    assert [path.name for path in models.iterdir()] == ["loose-w8a8.rkllm"]


def test_a_copy_may_be_copied_and_replaced_by_another(base: Path, models: Path, catalog: Catalog) -> None:
    (models / "other.rkllm").touch()
    catalog.copy("base", "a")
    catalog.copy("a", "b")
    assert catalog.copy("other", "A").path.name == "other.rkllm"
    assert catalog.find("b").path.name == "w.gguf"
    assert listed(catalog) == ["a", "b", "base", "other"]


def test_a_copy_onto_itself_changes_nothing(base: Path, models: Path, catalog: Catalog) -> None:
    before = tree(models)
    assert catalog.copy("base", "BASE:latest").name == "base"
    assert tree(models) == before


def test_a_copy_never_takes_the_name_of_other_weights(base: Path, models: Path, catalog: Catalog) -> None:
    (models / "other-w8a8.rkllm").touch()
    folder = models / "two"
    folder.mkdir()
    (folder / "x.rkllm").touch()
    (folder / "y.rkllm").touch()
    before = tree(models)
    for destination in ("other", "two"):
        with pytest.raises(InvalidRequest) as caught:
            catalog.copy("base", destination)
        assert caught.value.param == "destination"
    with pytest.raises(InvalidRequest):
        catalog.copy("other", "base")
    assert tree(models) == before


def test_unknown_sources_and_impossible_names_are_told_apart(base: Path, catalog: Catalog) -> None:
    with pytest.raises(ModelNotFound) as missing:
        catalog.copy("nope", "x")
    assert missing.value.param == "source"
    for source, destination, param in (
        ("../base", "x", "source"),
        ("base", "../x", "destination"),
        ("base", "", "destination"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            catalog.copy(source, destination)
        assert caught.value.param == param


# Making models


def test_a_model_is_made_of_another_with_changes(base: Path, catalog: Catalog) -> None:
    made = catalog.create("pirate", 'FROM base\nSYSTEM """Arr!\n"""\nPARAMETER temperature 0.9\n')
    assert made.modelfile.system == "Arr!\n"
    assert made.modelfile.sampling.temperature == 0.9
    assert made.modelfile.stop == ("x",)
    assert made.path == catalog.find("base").path


def test_a_model_is_made_of_a_file_in_the_models_folder(models: Path, base: Path, catalog: Catalog) -> None:
    made = catalog.create("plain", "FROM base/w.gguf")
    assert made.modelfile.system is None
    assert made.path == base / "w.gguf"


def test_a_model_is_made_of_fields(base: Path, catalog: Catalog) -> None:
    fields = Written("base", compose(parameters={"num_ctx": 512}, messages=[("user", "hi")]))
    made = catalog.create("short", fields)
    assert made.context_length == 512
    assert made.modelfile.messages == (("user", "hi"),)


def test_a_models_settings_may_be_changed_under_its_own_name(base: Path, models: Path, catalog: Catalog) -> None:
    assert catalog.create("base", "FROM base\nSYSTEM changed").modelfile.system == "changed"
    assert listed(catalog) == ["base"]
    catalog.create("alias", "FROM base\nSYSTEM one")
    assert catalog.create("alias", "FROM alias\nPARAMETER top_k 2").modelfile.system == "one"
    assert tree(models) == {"base/w.gguf", "base/Modelfile", "base/tokenizer.json", "alias/Modelfile"}


@pytest.mark.parametrize("much", [{"system": "x" * (1 << 20)}, {"messages": [("user", "x")] * 5001}])
def test_more_than_can_be_read_again_makes_no_model(
    base: Path, models: Path, catalog: Catalog, much: dict[str, Any]
) -> None:
    before = tree(models)
    with pytest.raises(InvalidRequest, match="the Modelfile"):
        catalog.create("much", Written("base", compose(**much)))
    assert tree(models) == before


def test_an_adapter_is_used_with_its_scale_and_belongs_to_the_identity(
    models: Path, catalog: Catalog, clock: Clock
) -> None:
    (models / "m.rkllm").write_bytes(b"m")
    lora = models / "lora"
    lora.mkdir()
    (lora / "style.rkllm").write_bytes(b"l")
    made = catalog.create("styled", "FROM m\nADAPTER lora/style.rkllm 0.5")
    assert made.modelfile.adapters == ((lora / "style.rkllm", 0.5),)
    assert made.identity != catalog.find("m").identity
    assert "style" not in listed(catalog)
    (lora / "style.rkllm").write_bytes(b"changed")
    clock.now += 1
    assert catalog.find("styled").identity != made.identity


@pytest.mark.parametrize(
    "source",
    [
        "../outside/weights.rkllm",
        "/etc/passwd",
        "./../outside/weights.rkllm",
        "base/../../outside/weights.rkllm",
        "~/x",
    ],
)
def test_nothing_outside_the_models_folder_can_be_a_base(
    base: Path, canary: Path, catalog: Catalog, source: str
) -> None:
    for text in (f"FROM {source}", f"FROM base\nADAPTER {source}"):
        with pytest.raises((InvalidRequest, ModelNotFound)):
            catalog.create("x", text)
    with pytest.raises((InvalidRequest, ModelNotFound)):
        catalog.create("x", f"FROM {canary}/weights.rkllm")
    assert listed(catalog) == ["base"]


def test_a_modelfile_without_from_makes_nothing(catalog: Catalog) -> None:
    with pytest.raises(InvalidRequest) as caught:
        catalog.create("x", "SYSTEM hi")
    assert caught.value.param == "from"


def test_what_show_prints_makes_the_same_model_again(base: Path, models: Path, catalog: Catalog) -> None:
    (models / "lora.rkllm").write_bytes(b"l")
    original = catalog.create(
        "original",
        'FROM base\nSYSTEM """a "b"\nc"""\nADAPTER lora.rkllm 0.25\nMESSAGE user hi\nPARAMETER eos 3\nLICENSE MIT',
    )
    text = catalog.modelfile_text(original)
    assert str(models) not in text
    again = catalog.create("again", text)
    assert again.modelfile == original.modelfile
    assert (again.path, again.digest, again.identity) == (original.path, original.digest, original.identity)
    assert catalog.modelfile_text(again) == text


# Deleting


def test_loose_weights_are_deleted_with_all_their_parts(models: Path, catalog: Catalog) -> None:
    for name in ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "m2.gguf", "notes.txt"):
        (models / name).touch()
    catalog.delete("m")
    assert tree(models) == {"m2.gguf", "notes.txt"}
    assert listed(catalog) == ["m2"]


def test_a_folder_goes_with_its_model(base: Path, models: Path, catalog: Catalog) -> None:
    catalog.delete("base")
    assert list(models.iterdir()) == []


def test_what_does_not_belong_to_the_model_stays(base: Path, models: Path, catalog: Catalog) -> None:
    (base / "diary.txt").write_text("mine")
    (base / "sub").mkdir()
    catalog.delete("base")
    assert tree(models) == {"base/diary.txt"}


def test_other_weights_of_a_folder_keep_their_side_files(models: Path, catalog: Catalog) -> None:
    folder = models / "repository"
    folder.mkdir()
    for name in ("m-w8a8.rkllm", "m-w4a16.rkllm", "tokenizer.json"):
        (folder / name).touch()
    catalog.delete("m:w4a16")
    assert tree(models) == {"repository/m-w8a8.rkllm", "repository/tokenizer.json"}


def test_deleting_an_alias_leaves_the_weights(base: Path, models: Path, catalog: Catalog) -> None:
    before = tree(models)
    catalog.copy("base", "mine")
    catalog.delete("mine")
    assert tree(models) == before
    assert listed(catalog) == ["base"]


def test_weights_go_with_the_last_name_that_uses_them(base: Path, models: Path, catalog: Catalog) -> None:
    inode = (base / "w.gguf").stat().st_ino
    catalog.copy("base", "first")
    catalog.copy("base", "second")
    catalog.delete("base")
    assert listed(catalog) == ["first", "second"]
    for name in ("first", "second"):
        model = catalog.find(name)
        assert model.path.stat().st_ino == inode
        assert (model.modelfile.system, model.path) == ("hello", models / "first" / "w.gguf")
        assert model.tokenizer_path == models / "first" / "tokenizer.json"
    assert not base.exists()
    catalog.delete("first")
    assert catalog.find("second").path == models / "second" / "w.gguf"
    catalog.delete("second")
    assert list(models.iterdir()) == []


def test_loose_weights_move_to_the_name_that_stays(models: Path, catalog: Catalog) -> None:
    (models / "m.rkllm").write_bytes(b"weights")
    catalog.copy("m", "mine")
    catalog.delete("m")
    assert tree(models) == {"mine/m.rkllm", "mine/Modelfile"}
    assert catalog.find("mine").path.read_bytes() == b"weights"


def test_where_weights_cannot_move_the_names_that_use_them_are_said(
    base: Path, models: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.copy("base", "mine")
    before = tree(models)

    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(InvalidRequest, match="used by mine"):
        catalog.delete("base")
    assert tree(models) == before
    assert listed(catalog) == ["base", "mine"]


def test_an_adapter_goes_with_the_last_model_that_uses_it(models: Path, catalog: Catalog) -> None:
    (models / "m.rkllm").touch()
    for name in ("one", "two"):
        (models / name).mkdir()
    (models / "one" / "lora.rkllm").touch()
    (models / "one" / "Modelfile").write_text("FROM m\nADAPTER ./lora.rkllm\n")
    (models / "two" / "Modelfile").write_text("FROM m\nADAPTER ../one/lora.rkllm\n")
    catalog.delete("one")
    assert (models / "one" / "lora.rkllm").exists()
    assert listed(catalog) == ["m", "two"]


def test_an_adapter_in_a_models_folder_does_not_stand_in_the_way(models: Path, catalog: Catalog) -> None:
    (models / "m.rkllm").touch()
    (models / "styled").mkdir()
    (models / "styled" / "lora.rkllm").touch()
    (models / "styled" / "Modelfile").write_text("FROM m\nADAPTER ./lora.rkllm\n")
    assert (
        catalog.create("styled", "FROM styled\nSYSTEM new").modelfile.adapters[0][0] == models / "styled" / "lora.rkllm"
    )
    catalog.delete("styled")
    assert tree(models) == {"m.rkllm"}


def test_a_broken_model_can_be_deleted(models: Path, catalog: Catalog) -> None:
    (models / "broken").mkdir()
    (models / "broken" / "Modelfile").write_text("FROM gone\n")
    catalog.delete("broken")
    assert list(models.iterdir()) == []
    with pytest.raises(ModelNotFound):
        catalog.delete("broken")


def test_a_broken_model_keeps_its_weights_when_it_is_deleted(models: Path, catalog: Catalog) -> None:
    (models / "broken").mkdir()
    (models / "broken" / "w.rkllm").touch()
    (models / "broken" / "Modelfile").write_text("NONSENSE\n")
    catalog.delete("broken")
    assert tree(models) == {"broken/w.rkllm"}


# Links


def test_links_are_read_through_and_deleted_without_what_they_lead_to(
    models: Path, canary: Path, catalog: Catalog
) -> None:
    (models / "linked.rkllm").symlink_to(canary / "weights.rkllm")
    (models / "linked-folder").symlink_to(canary / "folder")
    assert listed(catalog) == ["linked", "linked-folder"]
    catalog.copy("linked", "mine")
    catalog.delete("linked-folder")
    catalog.delete("linked")
    assert catalog.find("mine").path.read_bytes() == b"precious"
    catalog.delete("mine")
    assert list(models.iterdir()) == []


def test_nothing_is_written_or_removed_behind_a_link(models: Path, canary: Path, catalog: Catalog) -> None:
    (models / "m.rkllm").touch()
    (models / "linked").symlink_to(canary / "folder")
    (models / "empty").symlink_to(canary)
    for attempt in (
        lambda: catalog.create("linked", "FROM linked\nSYSTEM new"),
        lambda: catalog.create("linked", "FROM m"),
        lambda: catalog.copy("m", "empty"),
    ):
        with pytest.raises(InvalidRequest):
            attempt()
    with pytest.raises(BehindLink):
        Store(models).remove(["linked/inner.rkllm"], folder="linked")


def test_weights_behind_a_linked_folder_of_several_are_left_alone(
    models: Path, tmp_path: Path, catalog: Catalog
) -> None:
    elsewhere = models / ".elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.rkllm").touch()
    (elsewhere / "b.rkllm").touch()
    (models / "linked").symlink_to(elsewhere)
    with pytest.raises(InvalidRequest, match="link"):
        catalog.delete("a")
    assert sorted(path.name for path in elsewhere.iterdir()) == ["a.rkllm", "b.rkllm"]


def test_a_linked_folder_stays_while_other_names_use_its_weights(models: Path, canary: Path, catalog: Catalog) -> None:
    (models / "linked").symlink_to(canary / "folder")
    catalog.copy("linked", "mine")
    with pytest.raises(InvalidRequest, match="used by mine"):
        catalog.delete("linked")
    assert listed(catalog) == ["linked", "mine"]


HOSTILE = [
    "../outside",
    "../outside/weights.rkllm",
    "/etc/passwd",
    "..",
    ".",
    "a/../../outside",
    "a\0b",
    "x" * 300,
    "ｍ",
    "mоdel",
    "",
    "-rf",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_refused_everywhere(base: Path, models: Path, catalog: Catalog, name: str) -> None:
    before = tree(models)
    calls: list[Callable[[], object]] = [
        lambda: catalog.find(name),
        lambda: catalog.copy(name, "x"),
        lambda: catalog.copy("base", name),
        lambda: catalog.create(name, "FROM base"),
        lambda: catalog.create("x", Written(name)),
        lambda: catalog.delete(name),
    ]
    for call in calls:
        with pytest.raises(InvalidRequest):
            call()
    assert tree(models) == before


# What can go wrong while writing


def test_a_disk_that_refuses_is_a_sentence_and_leaves_nothing_behind(
    base: Path, models: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.copy("base", "mine")
    before = tree(models)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for attempt in (lambda: catalog.copy("base", "x"), lambda: catalog.create("mine", "FROM base\nSYSTEM y")):
        with pytest.raises(RkllamaError, match="No space left on device"):
            attempt()
    assert tree(models) == before
    assert listed(catalog) == ["base", "mine"]


def test_a_death_at_any_step_leaves_every_other_name_usable(
    base: Path, models: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.copy("base", "mine")
    catalog.copy("base", "yours")
    for step in range(1, 12):
        left = step

        def dying(method: Callable[..., None]) -> Callable[..., None]:
            def run(*arguments: object, **named: object) -> None:
                nonlocal left
                left -= 1
                if left == 0:
                    raise KeyboardInterrupt
                method(*arguments, **named)

            return run

        with monkeypatch.context() as patch:
            for name in ("share", "write_modelfile", "remove"):
                patch.setattr(Store, name, dying(getattr(Store, name)))
            with contextlib.suppress(KeyboardInterrupt, ModelNotFound):
                catalog.delete("base")
        fresh = Catalog(models)
        for name in ("mine", "yours"):
            assert fresh.find(name).path.exists()
            assert fresh.find(name).modelfile.system == "hello"
    assert listed(catalog) == ["mine", "yours"]
    assert tree(models) == {"mine/w.gguf", "mine/tokenizer.json", "mine/Modelfile", "yours/Modelfile"}
