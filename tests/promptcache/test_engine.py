"""Before a run the engine loads a file only where that spares something; afterwards it says what the runtime said."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rkllama_flask.engine.engine import Engine
from rkllama_flask.engine.jobs import CacheOutcome, CacheWish, Generate, ModelSpec, SaveCache, Unload
from rkllama_flask.engine.running import caches
from rkllama_flask.errors import ModelUnusable, RuntimeFailed, StorageFull, UnsupportedRequest
from rkllama_flask.promptcache.entry import CacheEntry, Draft
from rkllama_flask.promptcache.store import CacheStore
from tests.engine.conftest import read, wait
from tests.native import journal
from tests.promptcache.making import files

Model = Callable[..., ModelSpec]
Entries = Callable[[str], list[journal.Entry]]

WORDS = " ".join(f"word{number}" for number in range(300))
OPENING = f"system {WORDS} user "
OTHER = f"another {WORDS} user "
SAY = "<<script tokens=2>>"


def content(text: str, kind: str) -> Any:
    """A prompt as text, or as the token ids that spell it to the scripted runtime."""
    return text if kind == "text" else tuple(256 + byte for byte in text.encode())


@pytest.fixture(params=["text", "tokens"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def save(engine: Engine, spec: ModelSpec, opening: Any, name: str = "system", **values: Any) -> CacheEntry:
    draft = Draft(spec.name, name, "named", opening, "chatml", len(opening))
    engine.submit(job := SaveCache(spec=spec, draft=draft._replace(**values)))
    made = wait(job)
    assert isinstance(made, CacheEntry)
    return made


def ask(engine: Engine, spec: ModelSpec, prompt: Any, name: str | None = "system", **wish: Any) -> Any:
    """The result of a run that asks for a cache, or for none with `name` None."""
    job = Generate(spec=spec, prompt=prompt, cache=CacheWish("chatml", name, **wish))
    engine.submit(job)
    return read(job)[1]


def loads(entries: Entries) -> int:
    return len(entries("load_prompt_cache"))


# Named caches


def test_a_cache_is_loaded_when_the_handle_holds_something_else(
    engine: Engine, model: Model, entries: Entries, kind: str, family: str
) -> None:
    spec = model()
    made = save(engine, spec, content(OPENING, kind))
    ask(engine, spec, content(f"something else {SAY}", kind), None)
    before = loads(entries)
    result = ask(engine, spec, content(f"{OPENING} hello {SAY}", kind))
    assert result.cache == CacheOutcome("system", None)
    assert loads(entries) == before + 1
    assert result.prompt_tokens - result.prefill_tokens >= made.tokens - 1
    assert not entries("misuse")


def test_nothing_is_loaded_when_the_handle_holds_the_opening(
    engine: Engine, model: Model, entries: Entries, kind: str
) -> None:
    spec = model()
    save(engine, spec, content(OPENING, kind))
    before = loads(entries)
    for number in range(3):
        result = ask(engine, spec, content(f"{OPENING} hello {number} {SAY}", kind))
        assert result.cache == CacheOutcome("system", None)
    assert loads(entries) == before


def test_the_file_holds_exactly_the_opening(engine: Engine, model: Model, entries: Entries, kind: str) -> None:
    made = save(engine, model(), content(OPENING, kind))
    assert [entry.number("tokens") for entry in entries("save")] == [made.tokens]
    runs = entries("run")
    assert [run["prompt"] for run in runs] == [OPENING]
    assert runs[0].number("prompt_tokens") == made.tokens


def test_one_cache_is_released_before_another_is_loaded(engine: Engine, model: Model, entries: Entries) -> None:
    spec = model()
    save(engine, spec, OPENING, "one")
    save(engine, spec, OTHER, "two")
    for opening, name in ((OPENING, "one"), (OTHER, "two")) * 2:
        ask(engine, spec, f"something else {SAY}", None)
        assert ask(engine, spec, f"{opening} hello {SAY}", name).cache == CacheOutcome(name, None)
    assert not entries("misuse")


def test_a_hit_is_only_what_the_runtime_did_not_compute(engine: Engine, model: Model, entries: Entries) -> None:
    """A runtime that matches no prefixes computes all of it again, whatever was loaded."""
    spec = model("reuse=none")
    made = save(engine, spec, OPENING)
    result = ask(engine, spec, f"{OPENING} hello {SAY}")
    assert result.cache.reason == f"The runtime computed {made.tokens} of its {made.tokens} tokens again."
    assert result.prefill_tokens == result.prompt_tokens


def test_without_the_runtimes_figures_nothing_is_claimed(engine: Engine, model: Model) -> None:
    spec = model()
    save(engine, spec, OPENING)
    result = ask(engine, spec, f"{OPENING} hello <<script tokens=2 finish=0>>")
    assert result.cache.reason == "The runtime did not say how much of the prompt it computed."
    assert result.prefill_tokens is None


def test_a_prompt_that_begins_differently_says_so(engine: Engine, model: Model, entries: Entries, kind: str) -> None:
    spec = model()
    save(engine, spec, content(OPENING, kind))
    before = loads(entries)
    result = ask(engine, spec, content(f"{OTHER} hello {SAY}", kind))
    assert "begins differently" in result.cache.reason
    assert loads(entries) == before


def test_text_is_no_opening_of_token_ids(engine: Engine, model: Model) -> None:
    spec = model()
    save(engine, spec, OPENING)
    assert "begins differently" in ask(engine, spec, content(f"{OPENING} {SAY}", "tokens")).cache.reason


def test_a_refused_wish_and_a_deleted_cache_say_so(engine: Engine, model: Model, store: CacheStore) -> None:
    spec = model()
    save(engine, spec, OPENING)
    assert ask(engine, spec, f"{OPENING} {SAY}", refusal="Not now.").cache == CacheOutcome("system", "Not now.")
    store.delete("tiny", "system")
    assert "deleted" in ask(engine, spec, f"{OPENING} {SAY}").cache.reason


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "remove"])
def test_a_damaged_file_is_never_loaded_and_costs_no_answer(
    engine: Engine, model: Model, store: CacheStore, entries: Entries, damage: str
) -> None:
    spec = model()
    path = save(engine, spec, OPENING).path
    content = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes({"flip": bytes([content[0] ^ 1]) + content[1:], "cut": content[:-1], "empty": b""}[damage])
    before = loads(entries)
    ask(engine, spec, f"something else {SAY}", None)
    assert "damaged" in ask(engine, spec, f"{OPENING} hello {SAY}").cache.reason
    assert loads(entries) == before
    save(engine, spec, OPENING)
    ask(engine, spec, f"something else {SAY}", None)
    assert ask(engine, spec, f"{OPENING} hello {SAY}").cache == CacheOutcome("system", None)


@pytest.mark.parametrize(
    ("identity", "context_length", "sentence"),
    [("swapped", 4096, "model's file"), ("tiny", 2048, "4096 tokens, not 2048")],
)
def test_a_cache_of_another_model_file_or_context_is_stale(
    engine: Engine, model: Model, entries: Entries, identity: str, context_length: int, sentence: str
) -> None:
    save(engine, model(identity="tiny"), OPENING)
    engine.submit(unload := Unload())
    wait(unload)
    before = loads(entries)
    job = Generate(
        spec=model(identity=identity, context_length=context_length),
        prompt=f"{OPENING} hello {SAY}",
        cache=CacheWish("chatml", "system"),
    )
    engine.submit(job)
    cache = read(job)[1].cache
    assert cache is not None
    assert sentence in (cache.reason or "")
    assert loads(entries) == before


def test_a_cache_of_another_template_is_stale(engine: Engine, model: Model) -> None:
    spec = model()
    save(engine, spec, OPENING, template="llama")
    assert "chat template has changed" in ask(engine, spec, f"{OPENING} hello {SAY}").cache.reason


def test_a_cache_made_with_an_adapter_is_not_used_without_it(
    engine: Engine, model: Model, tmp_path: Path, entries: Entries
) -> None:
    adapter = tmp_path / "lora.rkllm"
    adapter.touch()
    save(engine, model(adapters=((adapter, 1.0),)), OPENING)
    assert "LoRA" in ask(engine, model(), f"{OPENING} hello {SAY}").cache.reason
    assert not any(entry.number("other_lora") for entry in entries("prefill"))


def test_after_a_failed_run_nothing_is_taken_for_granted(engine: Engine, model: Model, entries: Entries) -> None:
    spec = model()
    save(engine, spec, OPENING)
    before = loads(entries)
    engine.submit(bad := Generate(spec=spec, prompt=f"{OPENING} hello <<script fail=prefill>>"))
    with pytest.raises(RuntimeFailed):
        read(bad)
    assert ask(engine, spec, f"{OPENING} hello {SAY}").cache == CacheOutcome("system", None)
    assert loads(entries) == before + 1


def test_a_file_that_the_runtime_refuses_is_a_miss_with_its_reason(
    engine: Engine, model: Model, tmp_path: Path
) -> None:
    once = tmp_path / "once"
    once.touch()
    spec = model(f"fail=load\nonce={once}")
    save(engine, spec, OPENING)
    once.unlink()
    ask(engine, spec, f"something else {SAY}", None)
    assert "can't be loaded" in ask(engine, spec, f"{OPENING} hello {SAY}").cache.reason


# Aborted runs


def abort(engine: Engine, spec: ModelSpec) -> None:
    """A run that is cut short by its client."""
    engine.submit(job := Generate(spec=spec, prompt="cut short <<script tokens=5000 decode_ms=1>>"))
    for _ in range(3):
        job.mailbox.get(10)
    engine.cancel(job)
    wait(job)


def test_after_an_aborted_run_a_cache_is_loaded_only_where_that_is_safe(
    engine: Engine, model: Model, entries: Entries, family: str
) -> None:
    spec = model()
    save(engine, spec, OPENING)
    abort(engine, spec)
    before = loads(entries)
    result = ask(engine, spec, f"{OPENING} hello {SAY}")
    if family == "1.3":
        assert result.cache == CacheOutcome("system", None)
        assert loads(entries) == before + 1
    else:
        assert "cut short" in result.cache.reason
        assert loads(entries) == before
    ask(engine, spec, f"something else {SAY}", None)
    assert ask(engine, spec, f"{OPENING} hello {SAY}").cache == CacheOutcome("system", None)


def test_what_the_handle_holds_is_a_hit_also_after_an_aborted_run(engine: Engine, model: Model) -> None:
    spec = model()
    save(engine, spec, OPENING)
    engine.submit(job := Generate(spec=spec, prompt=f"{OPENING} hi <<script tokens=5000 decode_ms=1>>"))
    for _ in range(3):
        job.mailbox.get(10)
    engine.cancel(job)
    wait(job)
    assert ask(engine, spec, f"{OPENING} hello {SAY}").cache == CacheOutcome("system", None)


def test_making_a_cache_ends_after_one_token_on_both_families(
    engine: Engine, model: Model, entries: Entries, family: str
) -> None:
    save(engine, model("tokens=500\ndecode_ms=1"), OPENING)
    (end,) = entries("run_end")
    assert end.number("tokens") == 1
    assert end["aborted"] == ("0" if family == "1.3" else "1")
    assert len(entries("save")) == 1


def test_a_runtime_that_writes_nothing_when_a_run_is_cut_short_says_so(
    make_engine: Callable[..., Engine],
    model: Model,
    family: str,
    monkeypatch: pytest.MonkeyPatch,
    store: CacheStore,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("RKLLM_GUESS_CACHE_ON_ABORT", "0")
    engine, spec = make_engine(), model("tokens=50")
    if family == "1.3":
        save(engine, spec, OPENING)
    else:
        with pytest.raises(RuntimeFailed, match="wrote no prompt cache"):
            save(engine, spec, OPENING)
        assert files(tmp_path / "cache") == []


# What can't be saved


def test_a_model_without_a_kv_cache_says_so_and_answers_go_on(engine: Engine, model: Model, tmp_path: Path) -> None:
    spec = model("arch=rwkv7")
    with pytest.raises(UnsupportedRequest, match="keep no KV cache"):
        save(engine, spec, OPENING)
    assert ask(engine, spec, f"{OPENING} {SAY}", None).generated_tokens == 2
    assert files(tmp_path / "cache") == []


def test_a_full_disk_is_said_and_leaves_nothing(engine: Engine, model: Model, tmp_path: Path) -> None:
    with pytest.raises(StorageFull, match="disk is full"):
        save(engine, model("fail=save"), OPENING)
    assert files(tmp_path / "cache") == []


def test_a_file_that_can_not_be_loaded_again_is_not_kept(
    engine: Engine, model: Model, tmp_path: Path, family: str
) -> None:
    """On 1.2.x the run that made it was cut short, so that it can't be tried."""
    spec = model("fail=load")
    if family == "1.3":
        with pytest.raises(RuntimeFailed, match="can't be loaded again"):
            save(engine, spec, OPENING)
        assert files(tmp_path / "cache") == []
    else:
        assert save(engine, spec, OPENING).load_ms is None


def test_a_prompt_that_crashed_the_process_while_it_was_saved_is_refused(
    make_engine: Callable[..., Engine], model: Model, tmp_path: Path
) -> None:
    spec = model()
    engine = make_engine(journal_path=tmp_path / "journal")
    save(engine, spec, OPENING)
    engine.close()
    from rkllama_flask.engine.running.cache_writer import hash_of

    key = f"save:{hash_of(Draft('', '', 'named', OPENING, '', 0))}"
    (tmp_path / "journal").write_text(f'{{"crashes": {{"{key}": 1}}}}')
    (tmp_path / "journal.doing").write_text(f"{key}\n")
    again = make_engine(journal_path=tmp_path / "journal")
    with pytest.raises(ModelUnusable, match="crashed"):
        save(again, spec, OPENING)


def test_two_saves_of_one_name_at_once_leave_one_whole_cache(
    engine: Engine, model: Model, store: CacheStore, tmp_path: Path
) -> None:
    spec = model()
    jobs = [
        SaveCache(spec=spec, draft=Draft("tiny", "system", "named", opening, "chatml", 1))
        for opening in (OPENING, OTHER)
    ]
    for job in jobs:
        engine.submit(job)
    for job in jobs:
        wait(job)
    (left,) = store.entries()
    assert left.content == OTHER
    assert store.sound(left)
    assert files(tmp_path / "cache") == ["system.json", "system.kv"]


def test_the_cache_a_handle_has_loaded_does_not_make_room(
    make_engine: Callable[..., Engine], model: Model, tmp_path: Path, entries: Entries, family: str
) -> None:
    store = CacheStore(tmp_path / "cache", max_bytes=200_000)
    engine, spec = make_engine(cache_store=store), model()
    first = save(engine, spec, OPENING, "first")
    ask(engine, spec, f"something else {SAY}", None)
    ask(engine, spec, f"{OPENING} {SAY}", "first")
    save(engine, spec, OTHER, "second")
    os.utime(first.path, (0, 0))
    ask(engine, spec, f"something else {SAY}", None)
    ask(engine, spec, f"{OPENING} {SAY}", "first")
    os.utime(first.path, (0, 0))
    save(engine, spec, f"third {OTHER}", "third")
    assert [one.name for one in store.entries()] == ["first", "third"]


def test_what_a_dead_process_left_is_removed_by_the_next_that_holds_the_npu(
    make_engine: Callable[..., Engine], model: Model, tmp_path: Path
) -> None:
    folder = tmp_path / "cache" / "tiny"
    folder.mkdir(parents=True)
    for name in ("system.part-77", "system-abc.kv"):
        (folder / name).write_text("left")
    engine = make_engine()
    ask(engine, model(), SAY, None)
    assert files(tmp_path / "cache") == []


# Automatic caches


@pytest.fixture
def automatic(make_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch, entries: object) -> Engine:
    monkeypatch.setattr(caches, "IDLE", 0.05)
    return make_engine(automatic_caches_from=256)


DEAR = "prefill_us_per_token=500"
"""A model whose prefill takes longer than loading a file."""


def talk(engine: Engine, spec: ModelSpec, opening: str, says: str, kind: str = "text") -> Any:
    prompt = content(f"{opening} {says} {SAY}", kind)
    return ask(engine, spec, prompt, None, opening=content(opening, kind), opening_length=9, conversation=says)


def eventually(condition: Callable[[], object], *, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


def idle(engine: Engine) -> None:
    """Give the engine all the idleness it could want."""
    for _ in range(30):
        time.sleep(0.01)
    eventually(lambda: engine.status().busy is None)


def test_an_opening_that_two_conversations_share_is_saved_once_there_is_time(
    automatic: Engine, model: Model, store: CacheStore, entries: Entries, kind: str
) -> None:
    spec = model(DEAR)
    talk(automatic, spec, OPENING, "first", kind)
    talk(automatic, spec, OPENING, "second", kind)
    eventually(store.entries)
    (made,) = store.entries()
    assert (made.source, made.content, made.name[:5]) == ("automatic", content(OPENING, kind), "auto-")
    ask(automatic, spec, content(f"something else {SAY}", kind), None)
    before = loads(entries)
    result = talk(automatic, spec, OPENING, "third", kind)
    assert result.prompt_tokens - result.prefill_tokens >= made.tokens - 1
    assert result.cache is None
    assert loads(entries) == before + 1
    for says in ("fourth", "fifth"):
        talk(automatic, spec, OPENING, says, kind)
    idle(automatic)
    assert len(entries("save")) == 1


def test_of_two_conversations_that_take_turns_at_most_16_tokens_of_the_opening_are_computed_again(
    automatic: Engine, model: Model, store: CacheStore
) -> None:
    spec = model(DEAR)
    talk(automatic, spec, OPENING, "first")
    talk(automatic, spec, OPENING, "second")
    eventually(store.entries)
    made = store.entries()[0]
    for turn in range(4):
        ask(automatic, spec, f"something else {turn} {SAY}", None)
        for says in ("first", "second"):
            result = talk(automatic, spec, OPENING, f"{says} {turn}")
            assert made.tokens - (result.prompt_tokens - result.prefill_tokens) <= 16


@pytest.mark.parametrize(
    "talks",
    [
        [(OPENING, "first"), (OTHER, "second")],
        [(OPENING, "first"), (OPENING, "first")],
        [("a short system prompt", "first"), ("a short system prompt", "second")],
    ],
    ids=["different openings", "one conversation", "a short opening"],
)
def test_nothing_is_saved_for(automatic: Engine, model: Model, store: CacheStore, talks: list[tuple[str, str]]) -> None:
    for opening, says in talks:
        talk(automatic, model(), opening, says)
    idle(automatic)
    assert store.entries() == []


def test_nothing_is_saved_while_requests_come(
    make_engine: Callable[..., Engine], model: Model, store: CacheStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caches, "IDLE", 1000)
    engine, spec = make_engine(automatic_caches_from=256), model()
    for says in "abcdef":
        talk(engine, spec, OPENING, says)
    idle(engine)
    assert store.entries() == []


def test_automatic_caches_can_be_switched_off(
    make_engine: Callable[..., Engine], model: Model, store: CacheStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caches, "IDLE", 0.05)
    engine, spec = make_engine(automatic_caches_from=0), model()
    for says in "ab":
        talk(engine, spec, OPENING, says)
    idle(engine)
    assert store.entries() == []


def test_a_request_during_a_save_waits_for_that_one_save_and_sees_it_in_its_figures(
    automatic: Engine, model: Model, store: CacheStore, entries: Entries
) -> None:
    spec = model()
    slow = [f"{number} {OPENING} <<script tokens=1 return_ms=300>>" for number in range(2)]
    for opening in slow:
        for says in ("first", "second"):
            talk(automatic, spec, opening, says)
    eventually(lambda: automatic.status().busy == "saving")
    result = ask(automatic, spec, f"hello {SAY}", None)
    assert result.queued_ns > 20e6
    assert len(store.entries()) == 1
    eventually(lambda: len(store.entries()) == 2)


def test_a_file_that_takes_longer_to_load_than_to_compute_is_not_loaded(
    automatic: Engine, model: Model, store: CacheStore, entries: Entries
) -> None:
    spec = model(DEAR)
    for says in ("first", "second"):
        talk(automatic, spec, OPENING, says)
    eventually(store.entries)
    (made,) = store.entries()
    side = made.folder / f"{made.name}.json"
    side.write_text(json.dumps(json.loads(side.read_text()) | {"load_ms": 60_000}))
    ask(automatic, spec, f"{OTHER} {SAY}", None)
    before = loads(entries)
    talk(automatic, spec, OPENING, "third")
    assert loads(entries) == before


def test_a_model_that_can_not_save_is_tried_once(automatic: Engine, model: Model, entries: Entries) -> None:
    spec = model("arch=rwkv7")
    for says in "abcd":
        talk(automatic, spec, OPENING, says)
        idle(automatic)
    assert len([run for run in entries("run") if run["save"]]) == 1


def test_a_cache_that_spares_nothing_is_not_loaded_again(automatic: Engine, model: Model, entries: Entries) -> None:
    spec = model(f"reuse=none\n{DEAR}")
    for says in "ab":
        talk(automatic, spec, OPENING, says)
    idle(automatic)
    before = loads(entries)
    for says in "cdef":
        ask(automatic, spec, f"something else {SAY}", None)
        talk(automatic, spec, OPENING, says)
    assert loads(entries) == before + 1


def test_an_unloaded_model_is_not_loaded_for_a_save(
    automatic: Engine, model: Model, store: CacheStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caches, "IDLE", 1000)
    for says in "ab":
        talk(automatic, model(), OPENING, says)
    automatic.submit(job := Unload())
    wait(job)
    monkeypatch.setattr(caches, "IDLE", 0.01)
    idle(automatic)
    assert store.entries() == []
    talk(automatic, model(), "short", "c")
    eventually(store.entries)


def test_while_draining_nothing_is_saved(
    make_engine: Callable[..., Engine], model: Model, store: CacheStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caches, "IDLE", 0.2)
    engine = make_engine(automatic_caches_from=256)
    for says in "ab":
        talk(engine, model(), OPENING, says)
    engine.drain(5)
    time.sleep(0.5)
    assert store.entries() == []


def test_the_engine_ends_promptly_in_the_middle_of_a_save(automatic: Engine, model: Model, store: CacheStore) -> None:
    slow = f"{OPENING} <<script tokens=500 decode_ms=20>>"
    for says in "ab":
        talk(automatic, model(), slow, says)
    eventually(lambda: automatic.status().busy == "saving" or store.entries())
    begun = time.monotonic()
    assert automatic.close()
    assert time.monotonic() - begun < 3
