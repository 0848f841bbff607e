"""Prompt caches as a user meets them: over HTTP, on the scripted runtime of each family."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.conftest import scripted_library
from tests.native import journal
from tests.promptcache.making import files
from tests.serving import ROOT, Server, start_server

TOKENIZER = (ROOT / "tests/native/byte_tokenizer.json").read_text()
WORDS = " ".join(f"word{number}" for number in range(300))
SYSTEM = f"You are a coding assistant. {WORDS}"
SAY = "<<script tokens=3>>"


@pytest.fixture(scope="module", params=["text", "tokens"])
def shared(request: pytest.FixtureRequest, family: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one model that takes text, or that takes token ids because its tokenizer lies beside it."""
    models = {"tiny/tiny.rkllm": "load_ms=0"}
    if request.param == "tokens":
        models["tiny/tokenizer.json"] = TOKENIZER
    folder = tmp_path_factory.mktemp(f"caches-{family}-{request.param}")
    server = start_server(folder, library=scripted_library(family), models=models)
    yield server
    server.end()


@pytest.fixture
def served(shared: Server) -> Server:
    """That server without any cache."""
    for one in listed(shared):
        shared.delete(f"/v1/cache/{one['model_name']}/{one['cache_name']}")
    chat(shared)
    return shared


@pytest.fixture
def tiny(serve: Callable[..., Server]) -> Server:
    """A server of one's own, to be damaged."""
    return serve(models={"tiny/tiny.rkllm": "load_ms=0"})


def create(server: Server, name: str = "system", model: str = "tiny", **fields: Any) -> requests.Response:
    return server.post(f"/v1/cache/{model}", {"cache_name": name, "prompt": SYSTEM} | fields)


def chat(server: Server, content: str = f"Help me code. {SAY}", *, system: str | None = None, **fields: Any) -> Any:
    messages = [{"role": "system", "content": system}] if system is not None else []
    body = {"model": "tiny", "messages": [*messages, {"role": "user", "content": content}], **fields}
    response = server.post("/v1/chat/completions", body)
    assert response.status_code == 200, response.text
    return response.json()["usage"]


def something_else(server: Server, say: str = SAY) -> None:
    """Another prompt, so that the handle holds something else."""
    chat(server, f"Something else. {say}", system="Another system prompt.")


def listed(server: Server, path: str = "/v1/cache") -> Any:
    return server.get(path).json()["data"]


def eventually(condition: Callable[[], object], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def cache_files(server: Server) -> list[str]:
    return files(server.folder / "cache" / "tiny")


# What the README shows


def test_the_commands_of_the_readme_make_use_list_and_delete_a_cache(served: Server) -> None:
    """No content type, and a chat request that names no model: the loaded one answers."""
    begun = time.time()
    made = requests.post(
        f"{served.url}/v1/cache/tiny", data=json.dumps({"cache_name": "system", "prompt": SYSTEM}), timeout=30
    ).json()
    assert made | {"object": "cache.created", "model": "tiny", "cache_name": "system"} == made
    assert made["prompt_length"] == len(SYSTEM)
    assert made["prompt_tokens"] > 300
    assert made["size_mb"] > 0
    assert made["ttft_ms"] > 0
    assert begun - 1 <= made["timestamp"] <= time.time()
    assert "system" in made["message"]

    something_else(served)
    usage = requests.post(
        f"{served.url}/v1/chat/completions",
        data=json.dumps({"use_cache": "system", "messages": [{"role": "user", "content": f"Hello! {SAY}"}]}),
        timeout=30,
    ).json()["usage"]
    assert (usage["cache_hit"], usage["cached_prompts"]) == (True, ["system"])
    assert "cache_miss_reason" not in usage
    assert usage["prompt_tokens_details"]["cached_tokens"] >= 0.95 * made["prompt_tokens"]

    body = served.get("/v1/cache/tiny").json()
    assert (body["object"], body["model"], body["count"]) == ("list", "tiny", 1)
    (one,) = body["data"]
    assert one | {"cache_name": "system", "model_name": "tiny", "source": "named", "stale": False} == one
    assert one["prompt_length"] == len(SYSTEM)
    assert one["size_mb"] == made["size_mb"] == body["size_mb"]
    assert begun - 1 <= one["created_at"] <= one["modified_at"] <= one["last_used_at"] <= time.time()
    assert served.get("/v1/cache").json()["data"] == body["data"]
    single = served.get("/v1/cache/tiny/system").json()
    assert single | one | {"object": "cache", "model": "tiny"} == single

    gone = served.delete("/v1/cache/tiny/system").json()
    assert gone | {"object": "cache.deleted", "model": "tiny", "cache_name": "system", "deleted": True} == gone
    assert served.get("/v1/cache/tiny/system").status_code == 404
    assert listed(served) == []
    assert cache_files(served) == []


def test_no_answer_tells_where_anything_lies_on_the_server(served: Server) -> None:
    answers = [
        create(served),
        served.get("/v1/cache"),
        served.get("/v1/cache/tiny/system"),
        create(served, prompt=f"{SAY} fail"),
    ]
    answers += [served.delete("/v1/cache/tiny/system"), served.get("/v1/cache/tiny/system")]
    assert not any(str(served.folder) in answer.text for answer in answers)


def test_the_same_name_again_is_made_anew(served: Server) -> None:
    first = create(served).json()
    again = create(served, prompt=f"{SYSTEM} And brief.").json()
    assert again["prompt_length"] > first["prompt_length"]
    assert [one["prompt_length"] for one in listed(served)] == [again["prompt_length"]]
    assert cache_files(served) == ["system.json", "system.kv"]


# What a chat request gets


def test_the_cached_system_message_is_put_in_front_of_a_request_without_one(served: Server) -> None:
    create(served)
    alone = chat(served, use_cache="system")
    whole = chat(served, system=SYSTEM)
    equal = chat(served, system=SYSTEM, use_cache="system")
    assert alone["prompt_tokens"] == whole["prompt_tokens"] == equal["prompt_tokens"]
    assert alone["cache_hit"] is equal["cache_hit"] is True
    assert "cache_hit" not in whole
    prompts = [entry["prompt"] for entry in journal.parse(served.calls) if entry.what == "run"]
    assert prompts[-3] == prompts[-2] == prompts[-1]


def test_another_system_message_is_a_miss_that_says_why_and_stays_as_it_is(served: Server) -> None:
    create(served)
    usage = chat(served, system="Be a pirate.", use_cache="system")
    assert (usage["cache_hit"], usage["cached_prompts"]) == (False, [])
    assert "system message of its own" in usage["cache_miss_reason"]
    assert usage["prompt_tokens"] < 100


def test_what_is_added_behind_a_long_opening_costs_only_itself(served: Server) -> None:
    create(served)
    something_else(served)
    usage = chat(served, use_cache="system", response_format={"type": "json_object"})
    assert usage["cache_hit"] is True


def test_an_unknown_name_is_404_before_anything_runs(served: Server) -> None:
    chat(served)
    runs = sum(" run " in call for call in served.calls)
    for name in ("nope", "../tiny/system", "auto-x", "a" * 5000):
        body = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "use_cache": name, "stream": True}
        response = served.post("/v1/chat/completions", body)
        assert response.status_code == 404
        assert response.json()["error"] | {"param": "use_cache", "code": "cache_not_found"} == response.json()["error"]
    assert sum(" run " in call for call in served.calls) == runs


def test_an_opening_of_several_messages_works_likewise(served: Server) -> None:
    opening = [
        {"role": "system", "content": "Answer in one word."},
        {"role": "user", "content": f"Capital of France? {WORDS}"},
        {"role": "assistant", "content": "Paris"},
    ]
    body = {"cache_name": "shots", "messages": opening}
    assert served.post("/v1/cache/tiny", body).json()["prompt_length"] == sum(len(one["content"]) for one in opening)
    something_else(served)
    assert chat(served, use_cache="shots")["cache_hit"] is True
    whole = [*opening, {"role": "user", "content": SAY}]
    reply = served.post("/v1/chat/completions", {"model": "tiny", "messages": whole, "use_cache": "shots"})
    assert reply.json()["usage"]["cache_hit"] is True


def test_every_dialect_takes_use_cache(served: Server) -> None:
    create(served)
    messages = [{"role": "user", "content": f"Hello {SAY}"}]
    asked = {"model": "tiny", "messages": messages, "use_cache": "system", "stream": False}
    something_else(served)
    assert served.post("/api/chat", asked).json()["cache_hit"] is True
    something_else(served)
    generated = served.post("/api/generate", {"model": "tiny", "prompt": SAY, "use_cache": "system", "stream": False})
    assert generated.json()["cache_hit"] is True
    something_else(served)
    answer = served.post("/v1/messages", asked | {"max_tokens": 9}).json()
    assert answer["usage"]["cache_hit"] is True
    assert answer["usage"]["cache_read_input_tokens"] > 300


def test_a_prompt_that_its_client_has_formatted_itself_hits_if_it_begins_like_the_cache(served: Server) -> None:
    create(served)
    something_else(served)
    prompt = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\nHello {SAY}"
    asked = {"model": "tiny", "prompt": prompt, "use_cache": "system"}
    assert served.post("/v1/completions", asked).json()["usage"]["cache_hit"] is True
    other = served.post("/v1/completions", asked | {"prompt": SAY}).json()["usage"]
    assert "begins differently" in other["cache_miss_reason"]


def test_a_stream_tells_the_same(served: Server) -> None:
    create(served)
    something_else(served)
    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": SAY}],
        "use_cache": "system",
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    lines = served.post("/v1/chat/completions", body).text.split("\n\n")
    usage = json.loads(lines[-3].removeprefix("data: "))["usage"]
    assert (usage["cache_hit"], usage["cached_prompts"]) == (True, ["system"])


# What is refused


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"prompt": "x"}, 400, "cache_name"),
        ({"cache_name": "system"}, 400, "prompt"),
        ({"cache_name": "system", "prompt": ""}, 400, "prompt"),
        ({"cache_name": "system", "prompt": 5}, 400, "prompt"),
        ({"cache_name": "system", "messages": []}, 400, "messages"),
        ({"cache_name": "system", "messages": [{"role": "wizard", "content": "x"}]}, 400, "messages.0.role"),
        ({"cache_name": "system", "prompt": "x", "messages": [{"role": "system", "content": "x"}]}, 400, "prompt"),
        ({"cache_name": "../x", "prompt": "x"}, 400, "cache_name"),
        ({"cache_name": "auto-x", "prompt": "x"}, 400, "cache_name"),
        ({"cache_name": "", "prompt": "x"}, 400, "cache_name"),
    ],
)
def test_a_body_that_says_too_little_or_too_much_is_refused(
    scripted: Server, body: Any, status: int, param: str
) -> None:
    response = scripted.post("/v1/cache/scripted", body)
    assert (response.status_code, response.json()["error"]["param"]) == (status, param)


def test_models_and_caches_that_are_not_there_are_404(scripted: Server) -> None:
    assert scripted.post("/v1/cache/nope", {"cache_name": "x", "prompt": "x"}).status_code == 404
    for path in ("nope", "nope/system", "scripted/nope", "scripted/..%2f..%2fx", "..%2f..", "%00"):
        assert scripted.get(f"/v1/cache/{path}").status_code in (400, 404), path
        assert scripted.delete(f"/v1/cache/{path}").status_code in (400, 404), path
    assert scripted.get("/v1/cache/scripted/nope").json()["error"]["code"] == "cache_not_found"
    assert scripted.delete("/v1/cache/scripted").json()["error"]["param"] == "cache_name"
    assert scripted.get("/v1/cache/scripted").json()["data"] == []


def test_a_prompt_that_the_context_has_no_room_for_is_refused_with_both_counts(served: Server) -> None:
    error = create(served, prompt="word " * 9000).json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert error["n_prompt_tokens"] > 9000 > error["n_ctx"]
    assert listed(served) == []


def test_a_full_disk_is_507_and_leaves_nothing(served: Server) -> None:
    response = create(served, prompt=f"{WORDS} <<script tokens=1 fail=save>>")
    assert response.status_code == 507
    assert response.json()["error"]["code"] == "storage_full"
    assert response.headers["x-should-retry"] == "false"
    assert cache_files(served) == []
    assert create(served).status_code == 200


def test_no_room_for_caches_is_said(serve: Callable[..., Server]) -> None:
    server = serve(models={"tiny/tiny.rkllm": ""}, CACHE_MAX_BYTES="0")
    assert "CACHE_MAX_BYTES is 0" in create(server).json()["error"]["message"]
    assert server.get("/v1/cache").json()["max_mb"] == 0


def test_a_model_that_can_not_save_says_so_and_requests_go_on_without(serve: Callable[..., Server]) -> None:
    server = serve(models={"tiny/tiny.rkllm": "arch=rwkv7"})
    response = create(server)
    assert response.status_code == 400
    assert "keep no KV cache" in response.json()["error"]["message"]
    assert chat(server)["completion_tokens"] == 3


def test_the_room_goes_to_those_used_last(serve: Callable[..., Server]) -> None:
    server = serve(models={"tiny/tiny.rkllm": "cache_bytes_per_token=1000"}, CACHE_MAX_BYTES="1000000")
    for name in ("a", "b", "c"):
        assert create(server, name, prompt=f"{name} {SYSTEM}").status_code == 200
        something_else(server)
        assert chat(server, use_cache=name)["cache_hit"] is True
    something_else(server)
    chat(server, use_cache="a")
    assert create(server, "d", prompt=f"d {SYSTEM}").status_code == 200
    assert {one["cache_name"] for one in listed(server)} == {"a", "c", "d"}
    assert create(server, "large", prompt=f"{SYSTEM} " * 4).status_code == 507
    assert {one["cache_name"] for one in listed(server)} == {"a", "c", "d"}


def test_a_models_name_may_hold_a_slash(serve: Callable[..., Server]) -> None:
    server = serve(models={"org+tiny@7b/weights.rkllm": "", "org+tiny@7b/Modelfile": "FROM ./weights.rkllm\n"})
    assert create(server, model="org/tiny:7b").json()["model"] == "org/tiny:7b"
    assert server.get("/v1/cache/org/tiny:7b").json()["count"] == 1
    assert server.get("/v1/cache/org/tiny:7b/system").json()["cache_name"] == "system"
    assert server.delete("/v1/cache/org/tiny:7b/system").json()["deleted"] is True


# What it is bound to


def test_another_chat_template_makes_it_stale_until_it_is_made_anew(serve: Callable[..., Server]) -> None:
    server = serve(models={"tiny/tiny.rkllm": "", "tiny/Modelfile": "FROM ./tiny.rkllm\n"})
    create(server)
    template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    (server.folder / "models/tiny/Modelfile").write_text(f'FROM ./tiny.rkllm\nTEMPLATE """{template}"""\n')
    eventually(lambda: listed(server)[0]["stale"])
    assert "chat template" in listed(server)[0]["stale_reason"]
    something_else(server)
    usage = chat(server, use_cache="system")
    assert usage["cache_hit"] is False
    assert "chat template has changed" in usage["cache_miss_reason"]
    create(server)
    something_else(server)
    assert chat(server, use_cache="system")["cache_hit"] is True


def test_another_model_file_makes_it_stale(tiny: Server) -> None:
    create(tiny)
    path = tiny.folder / "models/tiny/tiny.rkllm"
    new = path.with_name("new")
    new.write_text(path.read_text())
    os.utime(new, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    new.rename(path)
    eventually(lambda: listed(tiny)[0]["stale"])
    assert "model's file has changed" in chat(tiny, use_cache="system")["cache_miss_reason"]


def test_a_model_that_is_gone_leaves_caches_that_can_be_deleted(tiny: Server) -> None:
    create(tiny)
    (tiny.folder / "models/tiny/tiny.rkllm").unlink()
    eventually(lambda: listed(tiny)[0]["stale"])
    assert "not on disk" in listed(tiny, "/v1/cache/tiny")[0]["stale_reason"]
    assert tiny.delete("/v1/cache/tiny/system").json()["deleted"] is True


def test_a_model_that_is_deleted_takes_its_caches_along(tiny: Server) -> None:
    create(tiny)
    assert tiny.delete("/api/delete", json={"model": "tiny"}).status_code == 200
    assert listed(tiny) == []
    assert not list((tiny.folder / "cache").rglob("*.kv"))


def test_the_other_family_of_the_runtime_makes_it_stale(serve: Callable[..., Server], tmp_path: Path) -> None:
    folder = str(tmp_path / "cache")
    (tmp_path / "models/tiny").mkdir(parents=True)
    (tmp_path / "models/tiny/tiny.rkllm").write_text("")
    shared = {"CACHE_DIR": folder, "MODELS_DIR": str(tmp_path / "models")}
    first = serve(family="1.3", models={}, **shared)
    create(first)
    assert first.stop() == 0
    second = serve(family="1.2", models={}, **shared)
    assert "runtime 1.3" in listed(second)[0]["stale_reason"]
    assert "runtime 1.3" in chat(second, use_cache="system")["cache_miss_reason"]
    create(second)
    assert listed(second)[0]["stale"] is False
    assert second.stop() == 0
    third = serve(family="1.2", models={}, **shared)
    something_else(third)
    assert chat(third, use_cache="system")["cache_hit"] is True


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_a_damaged_file_is_a_miss_with_a_right_answer_and_listed_as_such(tiny: Server, damage: str) -> None:
    create(tiny)
    path = next((tiny.folder / "cache/tiny").glob("*.kv"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if damage == "flip" else content[:-7])
    something_else(tiny)
    usage = chat(tiny, use_cache="system")
    assert usage["completion_tokens"] == 3
    assert "damaged" in usage["cache_miss_reason"]
    assert "damaged" in listed(tiny)[0]["stale_reason"]
    create(tiny)
    something_else(tiny)
    assert chat(tiny, use_cache="system")["cache_hit"] is True


# Several things at once


def test_two_posts_of_one_name_at_once_leave_one_whole_cache(served: Server) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda number: create(served, prompt=f"{number} {SYSTEM}"), range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert len(listed(served)) == 1
    assert listed(served)[0]["stale"] is False
    assert cache_files(served) == ["system.json", "system.kv"]
    something_else(served)
    assert chat(served, use_cache="system")["cache_hit"] is True


def test_a_cache_deleted_while_it_is_in_use_ends_no_answer(served: Server) -> None:
    create(served)
    something_else(served)
    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "<<script tokens=30 decode_ms=10>>"}],
        "use_cache": "system",
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    with requests.post(f"{served.url}/v1/chat/completions", json=body, stream=True, timeout=30) as response:
        lines = response.iter_lines()
        next(lines)
        assert served.delete("/v1/cache/tiny/system").status_code == 200
        usage = [json.loads(line[6:])["usage"] for line in lines if line.startswith(b"data: {")][-1]
    assert (usage["completion_tokens"], usage["cache_hit"]) == (30, True)
    assert chat(served)["completion_tokens"] == 3
    assert cache_files(served) == []


def test_a_cache_deleted_while_the_request_waits_is_a_miss(served: Server) -> None:
    create(served)
    slow = threading.Thread(target=chat, args=(served, "<<script tokens=50 decode_ms=10>>"))
    slow.start()
    eventually(lambda: served.get("/health").json()["busy"] == "generating")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(chat, served, use_cache="system")
        eventually(lambda: served.get("/health").json()["queue"]["waiting"] == 1)
        served.delete("/v1/cache/tiny/system")
        usage = waiting.result()
    slow.join()
    assert "deleted" in usage["cache_miss_reason"]


# A process that dies


def worker_of(server: Server) -> int:
    return journal.parse(server.calls)[-1].pid


def test_a_process_killed_in_the_middle_of_a_save_leaves_nothing(serve: Callable[..., Server]) -> None:
    server = serve(models={"tiny/tiny.rkllm": "cache_bytes_per_token=500000"})
    chat(server)
    folder = server.folder / "cache/tiny"
    failed: list[Exception] = []

    def post() -> None:
        try:
            create(server)
        except requests.ConnectionError as error:
            failed.append(error)

    posting = threading.Thread(target=post)
    posting.start()
    eventually(lambda: any(path.stat().st_size > 0 for path in folder.glob("*.part-*")))
    os.kill(worker_of(server), signal.SIGKILL)
    posting.join(30)
    assert failed
    eventually(lambda: answers(server))
    assert listed(server) == []
    assert chat(server)["completion_tokens"] == 3
    assert cache_files(server) == []
    assert create(server, prompt="A short prompt for a large model.").status_code == 200


def answers(server: Server) -> bool:
    try:
        return server.get("/ready").status_code == 200
    except requests.ConnectionError:
        return False


@pytest.mark.parametrize("place", ["save", "load"])
def test_a_cache_that_kills_the_process_twice_is_refused_and_no_request_is(
    serve: Callable[..., Server], place: str
) -> None:
    """While it is saved, or while it is loaded: with a switch that is thrown later."""
    server = serve(models={"tiny/tiny.rkllm": ""})
    prompt = f"{SYSTEM} <<script tokens=1 segv={place}>>" if place == "save" else SYSTEM
    if place == "load":
        create(server)
        assert server.stop() == 0
        server = serve(
            models={},
            MODELS_DIR=str(server.folder / "models"),
            CACHE_DIR=str(server.folder / "cache"),
            RKLLM_SCRIPT_SEGV="load",
        )
    for _ in range(2):
        with pytest.raises(requests.ConnectionError):
            create(server, prompt=prompt) if place == "save" else chat(server, use_cache="system")
        eventually(lambda: answers(server))
    if place == "save":
        assert "crashed" in create(server, prompt=prompt).json()["error"]["message"]
    else:
        assert "crashed" in chat(server, use_cache="system")["cache_miss_reason"]
    assert chat(server)["completion_tokens"] == 3


# Automatic caches


def test_what_conversations_share_is_cached_after_two_idle_seconds(served: Server, family: str) -> None:
    served.post("/v1/models/load", {"model": "tiny"})
    shared = f"{SYSTEM} <<script tokens=1 prefill_us_per_token=1000>>"
    dear = "<<script tokens=3 prefill_us_per_token=1000>>"
    for says in ("first", "second"):
        chat(served, f"{says} {dear}", system=shared)
    begun = time.monotonic()
    eventually(lambda: listed(served))
    assert time.monotonic() - begun > 1
    (made,) = listed(served)
    assert (made["source"], made["cache_name"][:5], made["stale"]) == ("automatic", "auto-", False)
    something_else(served, dear)  # the last measured prefill decides whether loading is the quicker way
    usage = chat(served, f"third {dear}", system=shared)
    assert made["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"] <= 16
    assert "cache_hit" not in usage
    assert (
        served.post(
            "/v1/chat/completions",
            {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "use_cache": made["cache_name"]},
        ).status_code
        == 404
    )
    assert served.delete(f"/v1/cache/tiny/{made['cache_name']}").json()["deleted"] is True
