import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rkllama_flask.catalog.catalog import Catalog
from rkllama_flask.catalog.model import Modelfile
from rkllama_flask.catalog.reading import assembly
from rkllama_flask.catalog.reading.listing import Stamp
from rkllama_flask.catalog.reading.weights_hash import hash_key, remember_hash
from rkllama_flask.errors import InvalidRequest, ModelNotFound, ModelUnusable
from tests.catalog.conftest import Clock
from tests.catalog.gguf_files import gguf_bytes, write_llama


def listed(catalog: Catalog) -> list[str]:
    return [model.name for model in catalog.list()]


def test_a_models_folder_that_is_not_there_holds_no_models(tmp_path: Path) -> None:
    assert Catalog(tmp_path / "none").list() == []


def test_loose_files_and_folders_are_listed_by_name(models: Path, catalog: Catalog) -> None:
    (models / "b-w8a8.rkllm").touch()
    write_llama(models / "C.gguf")
    (models / "a folder").mkdir()
    (models / "a folder" / "A-rk3588.rkllm").touch()
    (models / "notes.txt").touch()
    assert listed(catalog) == ["a", "b", "c"]


def test_what_is_hidden_or_no_file_is_not_listed(models: Path, catalog: Catalog) -> None:
    (models / ".part.rkllm").touch()
    (models / ".download").mkdir()
    (models / ".download" / "x.rkllm").touch()
    (models / "folder.rkllm").mkdir()
    os.mkfifo(models / "pipe.gguf")
    (models / "broken-link.gguf").symlink_to("nowhere.gguf")
    (models / "loop").symlink_to("loop")
    (models / os.fsdecode(b"latin-\xe9.rkllm")).touch()
    assert catalog.list() == []


def test_parts_projectors_and_adapters_are_not_models(models: Path, catalog: Catalog) -> None:
    write_llama(models / "big-00001-of-00002.gguf")
    (models / "big-00002-of-00002.gguf").write_bytes(b"x" * 1000)
    (models / "mmproj-big.gguf").touch()
    (models / "lora.gguf").write_bytes(gguf_bytes({"general.type": "adapter", "general.architecture": "llama"}))
    (models / "vision.gguf").write_bytes(gguf_bytes({"general.architecture": "clip"}))
    (model,) = catalog.list()
    assert model.name == "big"
    assert model.size == model.path.stat().st_size + 1000
    assert model.parameter_count is None


@pytest.mark.parametrize("asked", ["tiny-bf16", "Tiny-BF16", "tiny-bf16:latest", "tiny", "weights", "weights.rkllm"])
def test_a_model_answers_to_its_folders_own_name_as_well(models: Path, catalog: Catalog, asked: str) -> None:
    (models / "Tiny-BF16").mkdir()
    (models / "Tiny-BF16" / "weights.rkllm").touch()
    (models / "Tiny-BF16" / "tokenizer_config.json").write_text("{}")
    assert listed(catalog) == ["tiny"]
    assert catalog.find(asked).name == "tiny"


def test_a_folder_of_several_models_is_no_name_and_a_models_own_name_goes_first(models: Path, catalog: Catalog) -> None:
    (models / "several").mkdir()
    (models / "several" / "a.rkllm").touch()
    (models / "several" / "b.rkllm").touch()
    with pytest.raises(ModelNotFound):
        catalog.find("several")
    (models / "a").mkdir()
    (models / "a" / "other.rkllm").touch()
    catalog.refresh()
    assert catalog.find("a").path.name == "a.rkllm"


def test_split_weights_answer_to_the_name_without_their_numbers(models: Path, catalog: Catalog) -> None:
    for number in (1, 2):
        write_llama(models / f"Big-Q8_0-0000{number}-of-00002.gguf")
    assert listed(catalog) == ["big"]
    assert catalog.find("big-q8_0").name == "big"


def test_a_later_part_without_the_first_is_no_model_and_said(models: Path) -> None:
    (models / "big-00002-of-00003.gguf").touch()
    warnings: list[str] = []
    assert Catalog(models, on_warning=warnings.append).list() == []
    assert warnings == ["big-00002-of-00003.gguf: the first file of this split model is not here"]


@pytest.mark.parametrize("asked", ["big", "big-q8_0", "big-00002-of-00003", "big-00002-of-00003.gguf"])
def test_whoever_asks_for_it_is_told_what_is_missing(models: Path, catalog: Catalog, asked: str) -> None:
    (models / "Big-Q8_0").mkdir()
    (models / "Big-Q8_0" / "big-00002-of-00003.gguf").touch()
    with pytest.raises(ModelUnusable, match="the first file of this split model is not here"):
        catalog.find(asked)


def test_no_number_in_a_files_name_hides_the_other_models(models: Path, catalog: Catalog) -> None:
    for name in ("a-00001-of-00000.gguf", "b-00000-of-00002.gguf", "c-00003-of-00002.gguf", "good.gguf"):
        write_llama(models / name)
    assert listed(catalog) == ["a-00001-of-00000", "good"]


@pytest.mark.parametrize("source", ["Tiny-BF16", "tiny", "weights", "weights.rkllm"])
def test_from_knows_a_model_by_every_name_that_it_answers_to(models: Path, catalog: Catalog, source: str) -> None:
    (models / "Tiny-BF16").mkdir()
    (models / "Tiny-BF16" / "weights.rkllm").touch()
    (models / "Tiny-BF16" / "tokenizer_config.json").write_text("{}")
    (models / "own").mkdir()
    (models / "own" / "Modelfile").write_text(f"FROM {source}\n")
    assert catalog.find("own").path.name == "weights.rkllm"


def test_whichever_file_of_a_split_model_is_named_the_first_is_loaded(models: Path, catalog: Catalog) -> None:
    (models / "own").mkdir()
    for number in (1, 2):
        write_llama(models / "own" / f"big-0000{number}-of-00002.gguf")
    (models / "own" / "Modelfile").write_text("FROM ./big-00002-of-00002.gguf\n")
    assert catalog.find("own").path.name == "big-00001-of-00002.gguf"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_modelfile_is_read_as_editors_write_it(models: Path, catalog: Catalog, encoding: str) -> None:
    (models / "own").mkdir()
    (models / "own" / "w.rkllm").touch()
    (models / "own" / "Modelfile").write_bytes("FROM ./w.rkllm\r\nSYSTEM Grüß Gott, 漢字 🙂\r\n".encode(encoding))
    assert catalog.find("own").modelfile.system == "Grüß Gott, 漢字 🙂"


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "cp1251"])
def test_a_modelfile_in_another_encoding_is_refused_and_no_letter_changed(
    models: Path, catalog: Catalog, encoding: str
) -> None:
    (models / "own").mkdir()
    (models / "own" / "w.rkllm").touch()
    text = "FROM ./w.rkllm\nSYSTEM " + ("Привет" if encoding == "cp1251" else "Grüß")
    (models / "own" / "Modelfile").write_bytes(text.encode(encoding))
    with pytest.raises(ModelUnusable, match="line 2: the Modelfile is not written in UTF-8"):
        catalog.find("own")


def test_a_zero_byte_makes_no_other_letters_of_a_text(models: Path, catalog: Catalog) -> None:
    (models / "own").mkdir()
    (models / "own" / "w.rkllm").touch()
    (models / "own" / "Modelfile").write_bytes(b"FROM ./w.rkllm\nSYSTEM You\0 help")
    with pytest.raises(ModelUnusable, match="line 2: it holds a zero byte"):
        catalog.find("own")


def test_a_folder_made_for_a_newer_ollama_stays_of_use(models: Path) -> None:
    (models / "own").mkdir()
    (models / "own" / "w.rkllm").touch()
    said = 'FROM ./w.rkllm\nDRAFT ./d.gguf\nNOTES """two\nlines"""\nPARAMETER flash_attention 1\nSYSTEM Help.\n'
    (models / "own" / "Modelfile").write_text(said)
    warnings: list[str] = []
    catalog = Catalog(models, on_warning=warnings.append)
    assert catalog.find("own").modelfile == Modelfile(system="Help.")
    assert warnings == ["own/Modelfile: DRAFT, NOTES, flash_attention has no effect here"]


def test_a_text_that_has_lost_its_quotes_is_no_word(models: Path, catalog: Catalog) -> None:
    (models / "own").mkdir()
    (models / "own" / "w.rkllm").touch()
    (models / "own" / "Modelfile").write_text("FROM ./w.rkllm\nSYSTEM Help.\nNever lie.\n")
    with pytest.raises(ModelUnusable, match="line 3: 'NEVER' is none of"):
        catalog.find("own")


def test_words_for_ollamas_own_code_are_taken_and_named(models: Path) -> None:
    (models / "own").mkdir()
    (models / "own" / "w.rkllm").touch()
    said = "FROM ./w.rkllm\nRENDERER qwen3-coder\nPARSER qwen3-coder\nREQUIRES 0.14.0\nPARAMETER use_mlock true\n"
    (models / "own" / "Modelfile").write_text(said)
    warnings: list[str] = []
    catalog = Catalog(models, on_warning=warnings.append)
    assert catalog.find("own").modelfile.parameters == {}
    assert warnings == ["own/Modelfile: RENDERER, PARSER, REQUIRES, use_mlock has no effect here"]


def test_gguf_metadata_gives_the_facts(models: Path, catalog: Catalog) -> None:
    path = write_llama(models / "Tiny-Q8_0.gguf")
    model = catalog.find("tiny")
    assert (model.format, model.family, model.quantization) == ("gguf", "llama", "Q4_K_M")
    assert (model.parameter_count, model.parameter_size) == (6464, "6K")
    assert (model.context_length, model.embedding_length, model.block_count) == (2048, 64, 2)
    assert (model.bos_token, model.eos_token, model.eos_token_ids) == ("t1", "t99", (99, 98))
    assert model.chat_template == "{{ messages }}"
    assert model.size == path.stat().st_size
    assert abs(model.modified_at - path.stat().st_mtime) < 0.001
    assert json.dumps(dict(model.metadata))


def test_what_is_not_known_is_none(models: Path, catalog: Catalog) -> None:
    (models / "something.rkllm").write_bytes(b"\x8c\x1d\x02\x17\x03\x00\x00\x00")
    model = catalog.find("something")
    unknown = (model.family, model.parameter_count, model.parameter_size, model.quantization, model.embedding_length)
    assert unknown == (None,) * 5
    assert (model.block_count, model.chat_template, model.eos_token, model.tokenizer_path) == (None,) * 4
    assert (model.context_length, model.eos_token_ids, dict(model.metadata)) == (4096, (), {})


def test_endings_that_do_not_fit_the_content_only_warn(models: Path, catalog: Catalog, warnings: list[str]) -> None:
    write_llama(models / "a.rkllm")
    (models / "b.gguf").write_bytes(b"\x8c" * 100)
    assert {model.name: model.format for model in catalog.list()} == {"a": "rkllm", "b": "gguf"}
    assert len(warnings) == 2
    assert ".gguf" in warnings[0]
    assert warnings[1].startswith("b.gguf: ")


def test_side_files_in_a_models_own_folder_are_read(models: Path, catalog: Catalog) -> None:
    folder = models / "Qwen3-0.6B-rk3588"
    folder.mkdir()
    (folder / "model.rkllm").touch()
    (folder / "tokenizer.json").touch()
    (folder / "chat_template.jinja").write_text("{{ side }}")
    (folder / "tokenizer_config.json").write_text('{"chat_template": "no", "eos_token": {"content": "<|im_end|>"}}')
    (folder / "generation_config.json").write_text('{"eos_token_id": [5, 6], "temperature": 0.6, "do_sample": true}')
    (folder / "config.json").write_text('{"model_type": "qwen3", "hidden_size": 1024, "num_hidden_layers": 28}')
    model = catalog.find("qwen3-0.6b")
    assert model.tokenizer_path == folder / "tokenizer.json"
    assert (model.chat_template, model.eos_token, model.eos_token_ids) == ("{{ side }}", "<|im_end|>", (5, 6))
    assert (model.family, model.embedding_length, model.block_count) == ("qwen3", 1024, 28)
    assert model.recommended_sampling.said() == {"temperature": 0.6}


def test_several_weights_in_a_folder_share_its_side_files(models: Path, catalog: Catalog) -> None:
    folder = models / "repository"
    folder.mkdir()
    for name in ("m-w8a8.rkllm", "m-w4a16.rkllm", "tokenizer.json"):
        (folder / name).touch()
    assert {model.name: model.tokenizer_path is not None for model in catalog.list()} == {"m": True, "m:w4a16": True}


def test_side_files_beside_loose_weights_belong_to_none(models: Path, catalog: Catalog) -> None:
    (models / "a.rkllm").touch()
    (models / "tokenizer.json").touch()
    assert catalog.find("a").tokenizer_path is None


def test_damaged_side_files_warn_and_do_no_harm(models: Path, catalog: Catalog, warnings: list[str]) -> None:
    folder = models / "m"
    folder.mkdir()
    (folder / "m.rkllm").touch()
    (folder / "generation_config.json").write_text('{"eos_token_id"')
    (folder / "config.json").write_text("[" * 100_000)
    (folder / "tokenizer_config.json").write_bytes(b"\xff\xfe")
    assert catalog.find("m").eos_token_ids == ()
    assert len(warnings) == 3


def test_a_modelfile_names_the_model_for_its_folder_and_says_how_it_is_used(models: Path, catalog: Catalog) -> None:
    folder = models / "Org+My-Model@8k"
    folder.mkdir()
    write_llama(folder / "weights.gguf")
    (folder / "Modelfile").write_text("SYSTEM hi\nPARAMETER num_ctx 1024\nPARAMETER eos 7\nTEMPLATE {{ own }}\n")
    (model,) = catalog.list()
    assert model.name == "Org/My-Model:8k"
    assert (model.context_length, model.modelfile.system, model.chat_template) == (1024, "hi", "{{ own }}")
    assert model.eos_token_ids == (7, 99, 98)
    assert catalog.find("org/my-model:8K") is model
    assert catalog.find("weights.gguf") is model


def test_a_context_beyond_what_a_gguf_model_was_trained_for_is_not_promised(models: Path, catalog: Catalog) -> None:
    (models / "m").mkdir()
    write_llama(models / "m" / "w.gguf")
    (models / "m" / "Modelfile").write_text("FROM ./w.gguf\nPARAMETER num_ctx 1000000\n")
    assert catalog.find("m").context_length == 2048


def test_from_may_be_a_file_elsewhere_or_a_models_name_and_inherits(models: Path, catalog: Catalog) -> None:
    write_llama(models / "Base-Q4_K_M.gguf")
    texts = {
        "by-path": "FROM ../Base-Q4_K_M.gguf",
        "by-path-in-models": "FROM Base-Q4_K_M.gguf",
        "absolute": f"FROM {models}/Base-Q4_K_M.gguf",
        "by-name": "FROM base\nSYSTEM first\nPARAMETER temperature 0.5",
        "by-alias": "FROM by-name:latest\nPARAMETER top_k 3",
    }
    for name, text in texts.items():
        (models / name).mkdir()
        (models / name / "Modelfile").write_text(text)
    assert set(listed(catalog)) == {"base", *texts}
    base = catalog.find("base")
    for name in texts:
        model = catalog.find(name)
        assert (model.path, model.identity, model.size) == (base.path, base.identity, base.size)
    last = catalog.find("by-alias").modelfile
    assert (last.system, last.sampling.temperature, last.sampling.top_k) == ("first", 0.5, 3)


BROKEN = {
    "a mistake": ("FROM ./w.rkllm\nNONSENSE", "line 2"),
    "nothing there": ("FROM ./missing.rkllm", "no such file"),
    "out of the models folder": ("FROM ../../outside/weights.rkllm", "no such file"),
    "an absolute path": ("FROM /etc/passwd", "no such file"),
    "a circle": ("FROM broken", "no such file"),
    "an adapter outside": ("FROM ./w.rkllm\nADAPTER ../../outside/weights.rkllm", "no such file"),
    "a go template": ("FROM ./w.rkllm\nTEMPLATE {{ .Prompt }}", "Jinja"),
}


@pytest.mark.parametrize(("text", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_a_modelfile_that_makes_no_model_says_why_to_whoever_asks(
    models: Path, catalog: Catalog, warnings: list[str], text: str, reason: str
) -> None:
    (models / "good.rkllm").touch()
    (models / "broken").mkdir()
    (models / "broken" / "w.rkllm").touch()
    (models / "broken" / "Modelfile").write_text(text)
    assert listed(catalog) == ["good"]
    with pytest.raises(ModelUnusable, match=reason):
        catalog.find("broken")
    assert len(warnings) == 1
    assert str(models) not in warnings[0]


def test_modelfiles_that_lead_to_each_other_end_with_a_sentence(models: Path, catalog: Catalog) -> None:
    for name, other in (("a", "b"), ("b", "c"), ("c", "a")):
        (models / name).mkdir()
        (models / name / "Modelfile").write_text(f"FROM {other}\n")
    assert catalog.list() == []
    with pytest.raises(ModelUnusable, match="circle"):
        catalog.find("a")


def test_a_model_that_is_not_there_is_not_found(catalog: Catalog) -> None:
    with pytest.raises(ModelNotFound, match="model 'nope:8b' not found"):
        catalog.find("nope:8b")
    with pytest.raises(InvalidRequest):
        catalog.find("../nope")


# Time


def test_the_disk_is_looked_at_once_a_second_and_read_only_where_it_changed(
    models: Path, catalog: Catalog, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_llama(models / "a.gguf")
    reads: list[str] = []
    look_inside = assembly._look_inside
    monkeypatch.setattr(assembly, "_look_inside", lambda d, e: reads.append(e.weights) or look_inside(d, e))
    first = catalog.list()
    write_llama(models / "b.gguf")
    assert catalog.list() == first
    clock.now += 1
    assert listed(catalog) == ["a", "b"]
    clock.now += 1
    assert catalog.list()[0] == first[0]
    assert reads == ["a.gguf", "b.gguf"]


def test_copied_renamed_replaced_and_deleted_models_are_seen_within_a_second(
    models: Path, catalog: Catalog, clock: Clock
) -> None:
    def now() -> list[str]:
        clock.now += 1
        return listed(catalog)

    assert now() == []
    write_llama(models / "a.gguf")
    assert now() == ["a"]
    before = catalog.find("a")
    (models / "a.gguf").rename(models / "b.gguf")
    assert now() == ["b"]
    replacement = write_llama(models / ".new", **{"llama.context_length": 512})
    stat = (models / "b.gguf").stat()
    os.utime(replacement, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    replacement.rename(models / "b.gguf")
    assert now() == ["b"]
    after = catalog.find("b")
    assert after.identity != before.identity
    assert after.context_length == 512
    (models / "b.gguf").unlink()
    assert now() == []


def test_a_file_written_over_in_place_has_another_identity(models: Path, catalog: Catalog, clock: Clock) -> None:
    path = models / "a.rkllm"
    path.write_bytes(b"x" * 100)
    before = catalog.find("a")
    with path.open("r+b") as file:
        file.write(b"yy")
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, int(before.modified_at * 1e9) - 10**9))
    clock.now += 1
    after = catalog.find("a")
    assert after.size == before.size
    assert after.identity != before.identity


def test_an_edited_modelfile_counts_at_the_next_look(models: Path, catalog: Catalog, clock: Clock) -> None:
    (models / "m").mkdir()
    (models / "m" / "w.rkllm").touch()
    (models / "m" / "Modelfile").write_text("SYSTEM one")
    first = catalog.find("m")
    (models / "m" / "Modelfile").write_text("SYSTEM another")
    clock.now += 1
    second = catalog.find("m")
    assert second.modelfile.system == "another"
    assert second.identity == first.identity
    assert second.digest != first.digest


def test_a_file_that_grows_is_listed_all_the_while_and_warned_of_once(
    models: Path, catalog: Catalog, clock: Clock, warnings: list[str]
) -> None:
    whole = write_llama(models / ".whole").read_bytes()
    identities = set()
    for end in [*range(0, 3000, 300), len(whole)]:
        (models / "growing.gguf").write_bytes(whole[:end])
        clock.now += 1
        (model,) = catalog.list()
        assert model.name == "growing"
        identities.add(model.identity)
    assert len(identities) == 11
    assert model.family == "llama"
    assert len(warnings) == 1


def test_many_may_ask_while_files_come_and_go(models: Path, catalog: Catalog, clock: Clock) -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            while not stop.is_set():
                clock.now += 1
                for model in catalog.list():
                    try:
                        assert catalog.find(model.name).name == model.name
                    except ModelNotFound:
                        continue  # gone since it was listed
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for turn in range(60):
        path = models / f"m{turn % 3}.gguf"
        write_llama(models / ".next").rename(path)
        if turn % 2:
            path.unlink()
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    clock.now += 1
    assert [path.name for path in sorted(models.glob("*.gguf"))] == [model.path.name for model in catalog.list()]


def test_greenlets_may_ask_while_one_of_them_looks(models: Path) -> None:
    write_llama(models / "m.gguf")
    script = (
        "from gevent import monkey; monkey.patch_all()\n"
        "import gevent, sys\n"
        "from pathlib import Path\n"
        "from rkllama_flask.catalog.catalog import Catalog\n"
        "warned = lambda _: gevent.sleep(0.01)\n"
        "catalog = Catalog(Path(sys.argv[1]), on_warning=warned, clock=iter(range(10**6)).__next__)\n"
        "work = [gevent.spawn(lambda: catalog.find('m').name) for _ in range(50)]\n"
        "work += [gevent.spawn(catalog.copy, 'm', f'copy{i}') for i in range(5)]\n"
        "gevent.joinall(work, timeout=20, raise_error=True)\n"
        "print(len(catalog.list()), all(task.successful() for task in work))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(models)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "6 True", done.stderr


# Digests and hashes


def test_a_digest_is_64_hex_digits_and_changes_with_the_content(models: Path, catalog: Catalog, clock: Clock) -> None:
    path = models / "a.rkllm"
    path.write_bytes(b"one")
    first = catalog.find("a").digest
    assert len(first) == 64
    assert int(first, 16)
    clock.now += 1
    assert catalog.find("a").digest == first
    path.write_bytes(b"three")
    clock.now += 1
    assert catalog.find("a").digest != first


def test_a_hash_that_is_known_makes_the_digest_until_the_file_changes(
    models: Path, catalog: Catalog, clock: Clock
) -> None:
    path = models / "a.rkllm"
    path.write_bytes(b"weights")
    digest = catalog.find("a").digest
    remember_hash(models, hash_key("a.rkllm", Stamp.of(path.stat())), "ab" * 32)
    catalog.refresh()
    known = catalog.find("a").digest
    assert known != digest
    assert catalog.find_weights("ab" * 32) == path
    assert Catalog(models).find("a").digest == known
    path.write_bytes(b"other weights")
    clock.now += 1
    assert catalog.find("a").digest not in (digest, known)
    assert catalog.find_weights("ab" * 32) is None
    with pytest.raises(ValueError):
        remember_hash(models, "key", "../../x")
