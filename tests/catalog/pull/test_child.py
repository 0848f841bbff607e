"""Whole pulls in their child process, against a hub on a loopback port."""

import fcntl
import hashlib
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rkllama_flask.catalog.catalog import Catalog
from rkllama_flask.catalog.pull.workshop import KEPT
from tests.catalog.pull.conftest import FILE, FOLDER, REPO, WEIGHTS, command, environment, tree
from tests.hub import Hub
from tests.serving import ROOT

Pull = Callable[..., list[dict[str, Any]]]


def test_a_model_comes_whole_with_its_side_files(pull: Pull, models: Path, catalog: Catalog) -> None:
    steps = pull()
    assert steps[0] == {"status": f"taking {FILE}: made for RK3588, which this is"}
    assert [step["status"] for step in steps[-3:]] == ["verifying sha256 digest", "writing manifest", "success"]
    side = ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja", "config.json")
    assert tree(models) == {f"{FOLDER}/{name}" for name in (FILE, *side)}
    assert (models / FOLDER / FILE).read_bytes() == WEIGHTS
    assert (models / FOLDER / "config.json").read_text() == '{"model_type": "qwen3"}'  # its own before the original's
    model = catalog.find("qwen3-0.6b")
    assert (model.quantization, model.eos_token_ids, model.chat_template) == ("W8A8", (151645,), "{{ messages }}")


def test_progress_has_true_totals(pull: Pull) -> None:
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    steps = [step for step in pull() if step.get("digest") == f"sha256:{digest}"]
    assert {(step["status"], step["total"]) for step in steps} == {(f"pulling {digest[:12]}", len(WEIGHTS))}
    assert [step.get("completed", 0) for step in (steps[0], steps[-1])] == [0, len(WEIGHTS)]


@pytest.mark.parametrize("name", [f"{REPO}:{FILE}", f"{REPO}:w8a8", f"hf.co/{REPO}"])
def test_a_pulled_model_is_found_by_the_name_it_was_pulled_by(name: str, pull: Pull, catalog: Catalog) -> None:
    assert pull(name)[-1] == {"status": "success"}
    bare = name.removeprefix("hf.co/")
    for asked in (bare, f"hf.co/{bare}", bare.upper(), f"{REPO}:{FILE}"):
        assert catalog.find(asked).name == "qwen3-0.6b"


def test_its_checksum_is_known_without_reading_it_again(pull: Pull, catalog: Catalog, models: Path) -> None:
    pull()
    assert (models / ".rkllama" / "sha256").is_dir()
    catalog.refresh()
    assert catalog.find_weights(hashlib.sha256(WEIGHTS).hexdigest()) == models / FOLDER / FILE


def test_a_model_that_is_there_is_not_fetched_again(pull: Pull, hub: Hub, models: Path) -> None:
    pull()
    before = (models / FOLDER).stat().st_mtime_ns
    assert pull()[-1] == {"status": "success"}
    assert len(hub.downloads(FILE)) == 1
    assert (models / FOLDER).stat().st_mtime_ns == before


def test_a_model_that_changed_on_the_hub_takes_the_place_of_the_old_one(pull: Pull, hub: Hub, models: Path) -> None:
    pull()
    (models / FOLDER / "Modelfile").write_text("SYSTEM mine\n")
    hub.repos[REPO][FILE] = WEIGHTS[::-1]
    assert pull()[-1] == {"status": "success"}
    assert (models / FOLDER / FILE).read_bytes() == WEIGHTS[::-1]
    assert (models / FOLDER / "Modelfile").read_text() == "SYSTEM mine\n"
    assert [path.name for path in models.iterdir() if path.name.startswith(".pull-")] == []


def test_another_model_of_the_same_file_name_gets_another_folder(pull: Pull, hub: Hub, models: Path) -> None:
    hub.repos["other/repo"] = {FILE: b"another" * 500}
    pull()
    assert pull("other/repo")[-1] == {"status": "success"}
    assert (models / FOLDER / FILE).read_bytes() == WEIGHTS
    assert (models / f"other-{FOLDER}" / FILE).read_bytes() == b"another" * 500


def test_nothing_goes_behind_a_link(pull: Pull, models: Path, canary: Path) -> None:
    (models / FOLDER).symlink_to(canary / "folder")
    assert pull()[-1] == {"status": "success"}
    assert (models / f"org-{FOLDER}" / FILE).is_file()


def test_a_file_with_a_name_that_says_nothing_is_called_as_its_repository(
    pull: Pull, hub: Hub, catalog: Catalog
) -> None:
    hub.repos["org/Tiny-1B-rk3588-w8a8"] = {"model.rkllm": b"weights" * 300}
    hub.repos["org/Small-2B-GGUF"] = {"ggml-model-Q8_0.gguf": b"weights" * 300}
    hub.repos["org/Large-3B"] = {"w8a8_rk3588.rkllm": b"weights" * 300}
    for repo in ("org/Tiny-1B-rk3588-w8a8", "org/Small-2B-GGUF", "org/Large-3B"):
        pull(repo)
    assert [model.name for model in catalog.list()] == ["large-3b", "small-2b", "tiny-1b"]


def test_split_weights_come_whole(pull: Pull, hub: Hub, models: Path) -> None:
    hub.repos["org/big"] = {f"big-Q4_K_M-0000{n}-of-00002.gguf": b"%d" % n * 2000 for n in (1, 2)}
    assert pull("org/big", platform="")[-1] == {"status": "success"}
    assert tree(models) == {f"big-Q4_K_M/big-Q4_K_M-0000{n}-of-00002.gguf" for n in (1, 2)}


# Interrupted


def test_a_pull_killed_at_any_byte_goes_on_and_ends_with_the_same_bytes(pull: Pull, hub: Hub, models: Path) -> None:
    chance = random.Random(7)
    for hold in sorted(chance.randrange(len(WEIGHTS)) for _ in range(4)):
        hub.hold, before = hold, len(hub.downloads(FILE))
        hub.held.clear()
        hub.release.clear()
        with subprocess.Popen(
            command(models), env=environment(hub, models), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert hub.held.wait(30)
            wait_for(lambda hold=hold: sizes(models) > hold - 262144)
            process.kill()
        hub.release.set()
        assert len(hub.downloads(FILE)) == before + 1
        assert not (models / FOLDER).exists()
    hub.hold = None
    assert pull()[-1] == {"status": "success"}
    assert hub.downloads(FILE)[-1].startswith("bytes=")
    assert (models / FOLDER / FILE).read_bytes() == WEIGHTS
    assert not list(models.glob(".pull-*"))


def test_a_lost_connection_is_taken_up_again_by_itself(pull: Pull, hub: Hub, models: Path) -> None:
    hub.pieces = 300_000
    assert pull()[-1] == {"status": "success"}
    assert hub.downloads(FILE) == ["", "bytes=300000-", "bytes=600000-", "bytes=900000-"]
    assert (models / FOLDER / FILE).read_bytes() == WEIGHTS


def test_a_hub_that_knows_no_ranges_sends_all_again(pull: Pull, hub: Hub, models: Path) -> None:
    begin(models, hub)
    hub.ranges = False
    assert pull()[-1] == {"status": "success"}
    assert (models / FOLDER / FILE).read_bytes() == WEIGHTS


def test_what_was_begun_and_spoiled_is_fetched_once_more(pull: Pull, hub: Hub, models: Path) -> None:
    part = begin(models, hub)
    part.write_bytes(bytes(part.stat().st_size))  # as a power cut may leave it
    assert pull()[-1] == {"status": "success"}
    assert (models / FOLDER / FILE).read_bytes() == WEIGHTS


def test_what_was_begun_of_another_state_is_thrown_away(pull: Pull, hub: Hub, models: Path) -> None:
    begin(models, hub)
    hub.repos[REPO][FILE] = WEIGHTS[::-1]
    assert pull()[-1] == {"status": "success"}
    assert hub.downloads(FILE)[-1] == ""
    assert not list(models.glob(".pull-*"))


def test_what_nobody_took_up_again_for_a_week_is_thrown_away(pull: Pull, hub: Hub, models: Path) -> None:
    old, recent = models / ".pull-old-1", models / ".pull-recent-1"
    for folder in (old, recent):
        folder.mkdir()
        (folder / "part").write_bytes(b"x")
    for path in (old / "part", old):
        os.utime(path, (time.time() - KEPT - 60,) * 2)
    pull()
    assert [path.name for path in models.glob(".pull-*")] == [recent.name]


def test_a_child_ends_with_its_server(hub: Hub, models: Path) -> None:
    hub.hold = 1000
    with subprocess.Popen(
        command(models), env=environment(hub, models), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert hub.held.wait(30)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 1


def test_two_servers_on_one_folder_fetch_a_model_once(pull: Pull, hub: Hub, models: Path) -> None:
    hub.hold = 1000
    with subprocess.Popen(
        command(models), env=environment(hub, models), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert hub.held.wait(30)
        with subprocess.Popen(
            command(models), env=environment(hub, models), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        ) as second:  # fmt: skip
            assert second.stdout is not None
            lines = iter(second.stdout)
            assert any("waiting for the same pull" in line for line in lines)
            hub.release.set()
            assert [*lines][-1] == '{"status": "success"}\n'
        assert first.wait(10) == 0
    assert len(hub.downloads(FILE)) == 1


# Refused


def test_wrong_bytes_are_never_shown(pull: Pull, hub: Hub, models: Path) -> None:
    hub.lies.add(FILE)
    last = pull()[-1]
    assert last["code"] == 502
    assert last["error"].startswith(f"{FILE} did not arrive as it is on the hub")
    assert not (models / FOLDER).exists()
    assert not list(models.glob(f".pull-*/{FILE}"))


def test_wrong_bytes_of_a_small_file_are_noticed_too(pull: Pull, hub: Hub, models: Path) -> None:
    hub.lies.add("chat_template.jinja")
    assert pull()[-1]["error"].startswith("chat_template.jinja did not arrive")
    assert not (models / FOLDER).exists()
    hub.lies.clear()
    assert pull()[-1] == {"status": "success"}
    assert len(hub.downloads(FILE)) == 1  # what was right has stayed


def test_a_full_disk_is_told_and_nothing_stays(pull: Pull, models: Path) -> None:
    last = pull(limit=900)[-1]
    assert last["code"] == 507
    assert last["error"].startswith(f"The disk of {models} is full: delete models")
    assert tree(models) == set()
    assert not list(models.glob(".pull-*"))


def test_free_space_is_looked_at_first(pull: Pull, hub: Hub, models: Path) -> None:
    free = shutil.disk_usage(models).free
    hub.listed_sizes[FILE] = free * 2
    last = pull()[-1]
    assert last["code"] == 507
    assert "GiB are needed" in last["error"]
    assert hub.downloads(FILE) == []
    assert not list(models.glob(".pull-*"))


def test_a_model_with_conditions_or_without_access_says_what_to_do(pull: Pull, hub: Hub, models: Path) -> None:
    hub.private.add(REPO)
    last = pull()[-1]
    assert last["code"] == 404
    assert last["error"].startswith("pull model manifest: file does not exist")
    assert "HF_TOKEN" in last["error"]
    assert pull(HF_TOKEN=hub.token)[-1] == {"status": "success"}


def test_the_token_stays_with_the_hub(pull: Pull, hub: Hub) -> None:
    hub.private.add(REPO)
    hub.cdn = True
    hub.pieces = 600_000
    assert pull(HF_TOKEN=hub.token)[-1] == {"status": "success"}
    assert len(hub.strangers) > 2
    assert not any("Authorization" in headers for headers in hub.strangers)


@pytest.mark.parametrize(
    "garbage", [b"<html>Please log in</html>", b"[]", b"{}", b'{"siblings": [1]}', b'{"id": 1}', b"null"]
)
def test_another_server_at_the_endpoint_is_noticed(garbage: bytes, pull: Pull, hub: Hub) -> None:
    hub.garbage = garbage
    assert pull()[-1] == {
        "error": f"{hub.url} doesn't answer as Hugging Face does: check HF_ENDPOINT.",
        "code": 502,
    }


def test_a_private_original_is_no_hindrance(pull: Pull, hub: Hub, models: Path) -> None:
    hub.private.add("Qwen/Qwen3-0.6B")
    assert pull()[-1] == {"status": "success"}
    assert tree(models) == {f"{FOLDER}/{FILE}", f"{FOLDER}/config.json"}


def test_without_a_network_it_says_so(pull: Pull, hub: Hub) -> None:
    last = pull(HF_ENDPOINT="http://127.0.0.1:9")[-1]
    assert last["code"] == 502
    assert last["error"].startswith("127.0.0.1:9 can't be reached (")
    assert "HF_ENDPOINT" in last["error"]
    assert "HF_HUB_OFFLINE is set" in pull(HF_HUB_OFFLINE="1")[-1]["error"]


@pytest.mark.parametrize(
    "path", ["../evil.rkllm", "/evil.rkllm", "a/../../evil.rkllm", "a\\..\\evil.rkllm", "e\0.rkllm"]
)
def test_a_hub_that_names_places_outside_is_not_believed(path: str, pull: Pull, hub: Hub, models: Path) -> None:
    hub.listed_paths[FILE] = path
    assert "doesn't answer as Hugging Face does" in pull()[-1]["error"]
    assert tree(models) == set()


def test_a_name_that_can_be_none_touches_nothing(pull: Pull, hub: Hub, models: Path) -> None:
    assert pull("../../etc/passwd", HF_TOKEN="") == [{"error": "invalid model name", "code": 400}]
    assert hub.requests == []
    assert list(models.iterdir()) == []


def test_a_folder_that_others_work_in_is_left_alone(pull: Pull, models: Path) -> None:
    place = models / ".pull-busy-1"
    place.mkdir()
    os.utime(place, (0, 0))
    descriptor = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert pull()[-1] == {"status": "success"}
        assert place.exists()
    finally:
        os.close(descriptor)


def begin(models: Path, hub: Hub) -> Path:
    """Break off a pull after some bytes of the weights; their file."""
    hub.hold = 300_000
    with subprocess.Popen(
        command(models), env=environment(hub, models), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert hub.held.wait(30)
        wait_for(lambda: sizes(models) > 0)
        process.kill()
    hub.release.set()
    hub.hold = None
    return next(models.glob(f".pull-*/{FILE}"))


def sizes(models: Path) -> int:
    return sum(path.stat().st_size for path in models.glob(f".pull-*/{FILE}"))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
