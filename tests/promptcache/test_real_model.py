"""Prompt caches with a real model on the CPU runtime: the same bytes, fewer tokens computed, and quicker for it."""

import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.promptcache.making import files
from tests.serving import Server, start_server

MODEL = "smollm2-135m-instruct"
FOX = "the quick brown fox jumps over a lazy dog while seven wise owls watch from tall trees near the old river bank"
SYSTEM = "You are a storyteller. " + " ".join(FOX.split()[number * 5 % 22] for number in range(130))


@pytest.fixture(scope="module", params=[True, False], ids=["keeps its own tokens", "keeps only prompts"])
def keeps(request: pytest.FixtureRequest) -> bool:
    """Whether the runtime keeps generated tokens for reuse; that isn't known of the board, so both are tried."""
    return bool(request.param)


@pytest.fixture(scope="module")
def server(keeps: bool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With one thread."""
    env = {
        "RKLLM_CPU_THREADS": "1",
        "RKLLM_GUESS_KEEP_OWN_TOKENS": str(int(keeps)),
        "AUTOMATIC_CACHES_FROM": "64",
    }
    server = start_server(tmp_path_factory.mktemp("real-caches"), library=None, env=env)
    yield server
    server.end()


def ask(server: Server, messages: list[Any], **fields: Any) -> tuple[str, Any, float]:
    """The answer, its usage, and the seconds to its first token by the client's clock."""
    body = {
        "model": MODEL,
        "messages": messages,
        "temperature": 0,
        "max_tokens": 8,
        "stream": True,
        "stream_options": {"include_usage": True},
        **fields,
    }
    begun, first, text, usage = time.monotonic(), 0.0, "", None
    for line in server.post("/v1/chat/completions", body, stream=True).iter_lines():
        if not line.startswith(b"data: {"):
            continue
        chunk = json.loads(line[6:])
        said = chunk["choices"][0]["delta"].get("content") if chunk["choices"] else None
        first = first or (time.monotonic() - begun if said else 0.0)
        text += said or ""
        usage = chunk["usage"] or usage
    return text, usage, first


def computed(usage: Any) -> int:
    return int(usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"])


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def something_else(server: Server) -> None:
    ask(server, [{"role": "system", "content": "Be brief."}, user("Hi")], max_tokens=1)


def create(server: Server, name: str = "system", prompt: str = SYSTEM) -> Any:
    response = server.post(f"/v1/cache/{MODEL}", {"cache_name": name, "prompt": prompt})
    assert response.status_code == 200, response.text
    return response.json()


def test_from_a_cache_comes_the_same_answer_as_from_the_whole_prompt_only_sooner(server: Server) -> None:
    server.post("/v1/models/unload")
    whole = [{"role": "system", "content": SYSTEM}, user("Tell me a story.")]
    cold_text, cold, cold_seconds = ask(server, whole)
    made = create(server)
    for _ in range(2):
        something_else(server)
        text, usage, seconds = ask(server, [user("Tell me a story.")], use_cache="system")
        assert text == cold_text
        assert usage["cache_hit"] is True
        assert usage["prompt_tokens"] == cold["prompt_tokens"]
        assert usage["prompt_tokens_details"]["cached_tokens"] >= 0.95 * made["prompt_tokens"] - 8
        assert seconds < cold_seconds / 3
    assert computed(cold) > made["prompt_tokens"] - 16


def test_turn_ten_computes_only_what_is_new(server: Server, keeps: bool) -> None:
    messages: list[Any] = [{"role": "system", "content": SYSTEM}]
    before, answered = 0, 0
    for turn in range(10):
        messages.append(user(f"And then, number {turn}?"))
        text, usage, _ = ask(server, messages)
        new = usage["prompt_tokens"] - before
        if turn:
            assert computed(usage) <= new + 16
            if keeps:
                assert computed(usage) <= new - answered + 16
        messages.append({"role": "assistant", "content": text})
        before, answered = usage["prompt_tokens"], usage["completion_tokens"]


def test_two_conversations_that_take_turns_share_the_automatic_cache(server: Server) -> None:
    shared = [{"role": "system", "content": f"{SYSTEM} Twice."}]
    for says in ("A story!", "A poem!"):
        ask(server, [*shared, user(says)])
    deadline = time.monotonic() + 30
    while not (made := [one for one in server.get("/v1/cache").json()["data"] if one["source"] == "automatic"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for _ in range(2):
        something_else(server)
        for says in ("A story!", "A poem!"):
            _, usage, _ = ask(server, [*shared, user(says)])
            assert made[0]["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"] <= 16


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_file_costs_time_and_never_an_answer(server: Server, damage: str) -> None:
    whole = [{"role": "system", "content": SYSTEM}, user("Who are you?")]
    expected, _, _ = ask(server, whole)
    create(server)
    path = next((server.folder / "cache" / MODEL).glob("system-*.kv"))
    content = bytearray(path.read_bytes())
    content[-1000] ^= 4
    path.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    something_else(server)
    text, usage, _ = ask(server, [user("Who are you?")], use_cache="system")
    assert text == expected
    assert "damaged" in usage["cache_miss_reason"]


def test_a_disk_that_fills_up_while_the_file_is_written_leaves_nothing(server: Server) -> None:
    ask(server, [user("Hi")])
    worker = next(iter(children(server.process.pid)))
    unlimited = resource.prlimit(worker, resource.RLIMIT_FSIZE)
    before = files(server.folder / "cache")
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (1 << 20, unlimited[1]))
    try:
        response = server.post(f"/v1/cache/{MODEL}", {"cache_name": "large", "prompt": SYSTEM})
    finally:
        resource.prlimit(worker, resource.RLIMIT_FSIZE, unlimited)
    assert response.status_code == 507, response.text
    assert "full" in response.json()["error"]["message"]
    assert files(server.folder / "cache") == before
    assert create(server, "large")["size_mb"] > 1


def children(parent: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
