"""What Prometheus reads, and that names are the same in the server, its documentation and its dashboard."""

import json
import re
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from rkllama_flask.api.observability import metrics
from rkllama_flask.machine.board import Board, Clock
from tests.api.conftest import Api
from tests.serving import ROOT, Server

LOAD = "NPU load:  Core0: 42%, Core1:  0%, Core2:  7%,\n"


@pytest.fixture
def board(tmp_path: Path) -> Board:
    for name, text in {
        "sys/kernel/debug/rknpu/load": LOAD,
        "sys/class/devfreq/fdab0000.npu/cur_freq": "300000000\n",
        "sys/class/devfreq/fdab0000.npu/max_freq": "1000000000\n",
        "proc/meminfo": "MemTotal:  100 kB\nMemAvailable:  2 kB\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return Board(tmp_path)


def read(text: str) -> dict[str, float]:
    """Samples by name and labels, in the notation of the page itself."""
    return {
        sample.name + "".join(f"[{value}]" for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(server: Server) -> dict[str, float]:
    return read(server.get("/metrics").text)


def names(text: str) -> set[str]:
    """The names as they are written in the table: a histogram's is its family's."""
    return {
        family.name + ("_total" if family.type == "counter" else "") for family in text_string_to_metric_families(text)
    }


def test_every_figure_of_the_server_is_documented_and_no_other(api: Api, board: Board) -> None:
    metrics.install(api.app, board)
    documented = set(re.findall(r"`(rkllama_\w+)`", (ROOT / "docs" / "monitoring.md").read_text()))
    assert {name for name in names(api.get("/metrics").text) if name.startswith("rkllama_")} == documented


def test_the_dashboard_asks_for_what_is_there(api: Api, board: Board) -> None:
    metrics.install(api.app, board)
    here = names(api.get("/metrics").text)
    dashboard = (ROOT / "conf" / "grafana" / "rkllama-flask.json").read_text()
    queries = [target["expr"] for panel in json.loads(dashboard)["panels"] for target in panel["targets"]]
    asked = {name for query in queries for name in re.findall(r"\b((?:rkllama|process)_\w+)", query)}
    assert {name.removesuffix("_bucket") for name in asked} - here == set()
    assert len(asked) > 15
    assert "label_values(rkllama_ready, instance)" in dashboard


def test_every_label_that_the_dashboard_groups_by_is_documented() -> None:
    documented = (ROOT / "docs" / "monitoring.md").read_text()
    dashboard = (ROOT / "conf" / "grafana" / "rkllama-flask.json").read_text()
    for label in set(re.findall(r"\{\{(\w+)\}\}", dashboard)) - {"instance"}:
        assert f"`{label}`" in documented


def test_an_answer_is_counted_once_whichever_api_it_went_through(scripted: Server) -> None:
    before = of(scripted)
    prompt = "<<script tokens=5 decode_ms=2>>"
    chat = {"model": "scripted", "messages": [{"role": "user", "content": prompt}]}
    assert scripted.post("/v1/chat/completions", chat).ok
    assert scripted.post("/v1/chat/completions", chat | {"stream": True}).ok
    assert scripted.post("/v1/messages", chat | {"max_tokens": 50, "stream": True}).ok
    assert scripted.post("/api/chat", chat).ok
    assert scripted.post("/v1/responses", {"model": "scripted", "input": prompt}).ok
    after = of(scripted)

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown("rkllama_runs_total[answer][scripted][stop]") == 5
    assert grown("rkllama_completion_tokens_total[scripted]") == 25
    assert grown("rkllama_cached_tokens_total[scripted]") > 0  # the same prompt again
    assert grown("rkllama_prompt_tokens_total[scripted]") > grown("rkllama_cached_tokens_total[scripted]")
    assert grown("rkllama_time_to_first_token_seconds_count[scripted]") == 5
    assert grown("rkllama_decode_tokens_per_second_count[scripted]") == 5
    assert grown("rkllama_queue_wait_seconds_count[scripted]") == 5
    assert grown("rkllama_http_requests_total[POST][/v1/chat/completions][200]") == 2
    assert after["rkllama_model_loads_total[done]"] >= 1
    assert after["rkllama_model_bytes[scripted]"] > 0
    assert after["process_resident_memory_bytes"] > 1_000_000


def test_what_went_wrong_is_counted_by_its_code(scripted: Server) -> None:
    before = of(scripted)
    scripted.post("/v1/chat/completions", {"model": "nobody", "messages": [{"role": "user", "content": "x"}]})
    scripted.get("/nowhere/at/all")
    broken = {"model": "scripted", "prompt": "<<script tokens=9 fail=3>>", "raw": True}
    assert "error" in scripted.post("/api/generate", broken).text
    after = of(scripted)
    assert after["rkllama_errors_total[storage_full]"] == 0  # each code is there from the start
    for name in ("model_not_found", "not_found", "runtime_failed"):
        assert after[f"rkllama_errors_total[{name}]"] - before.get(f"rkllama_errors_total[{name}]", 0) == 1, name
    assert after["rkllama_http_requests_total[][][404]"] - before.get("rkllama_http_requests_total[][][404]", 0) == 1
    assert after["rkllama_runs_total[answer][scripted][failed]"] >= 1


def test_an_embedding_is_counted(scripted: Server) -> None:
    before = of(scripted)
    assert scripted.post("/v1/embeddings", {"model": "scripted", "input": "some words"}).ok
    name = "rkllama_runs_total[embedding][scripted][done]"
    assert of(scripted)[name] - before.get(name, 0) == 1


def test_the_board_is_read_where_it_can_be(board: Board) -> None:
    assert board.npu_load() == {"0": 0.42, "1": 0.0, "2": 0.07}
    assert board.npu_clock() == Clock(300_000_000, 1_000_000_000)
    assert board.available_memory() == 2048


def test_a_board_with_one_core(board: Board, tmp_path: Path) -> None:
    (tmp_path / "sys/kernel/debug/rknpu/load").write_text("NPU load:  8%\n")
    assert board.npu_load() == {"0": 0.08}


def test_without_a_board_its_figures_are_left_out(api: Api, tmp_path: Path) -> None:
    metrics.install(api.app, Board(tmp_path / "empty"))
    text = api.get("/metrics").text
    assert "rkllama_npu" not in text
    assert "rkllama_memory" not in text
    assert read(text)["rkllama_ready"] == 1


def test_figures_are_for_those_who_have_a_key(api: Api) -> None:
    api.configure(api_keys=("secret",))
    assert api.get("/metrics").status_code == 401
    assert api.get("/metrics", headers={"Authorization": "Bearer secret"}).status_code == 200


def test_the_newer_format_can_be_asked_for(api: Api) -> None:
    response = api.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.content_type.startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")
    assert api.get("/metrics").content_type.startswith("text/plain")


def test_strangers_can_not_fill_the_memory_with_names(api: Api) -> None:
    for index in range(20):
        api.client.open(f"/no/{index}", method=f"ODD{index}", buffered=True).close()
    assert len(re.findall("rkllama_http_requests_total{", api.get("/metrics").text)) == 1


def test_a_client_that_leaves_is_counted_as_cancelled(scripted: Server) -> None:
    before = of(scripted)
    body = {"model": "scripted", "messages": [{"role": "user", "content": "<<script tokens=3000 decode_ms=5>>"}]}
    with requests.post(f"{scripted.url}/v1/chat/completions", json=body | {"stream": True}, stream=True) as response:
        next(response.iter_lines())
    scripted.post("/v1/chat/completions", {"model": "scripted", "messages": [{"role": "user", "content": "next"}]})
    name = "rkllama_runs_total[answer][scripted][cancelled]"
    assert of(scripted)[name] - before.get(name, 0) == 1
