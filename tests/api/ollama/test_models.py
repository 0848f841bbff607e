"""`/api/tags`, `/api/show`, and what programs ask to find the server."""

import os
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.api.ollama.conftest import OllamaApi
from tests.api.ollama.reading import LOCAL
from tests.catalog.gguf_files import gguf_bytes
from tests.contract.ollama_spec import check


def show(api: OllamaApi, name: str, **options: Any) -> Any:
    response = api.post("/api/show", {"model": name}, **options)
    assert response.status_code == 200, response.text
    check(response.json, "ShowResponse")
    return response.json


def test_every_model_is_listed_the_newest_first(api: OllamaApi) -> None:
    os.utime(api.models_dir / "tiny.rkllm", (1_700_000_000, 1_700_000_000))
    api.catalog.refresh()
    body = api.get("/api/tags").json
    check(body, "ListResponse")
    times = [datetime.fromisoformat(model["modified_at"]) for model in body["models"]]
    assert times == sorted(times, reverse=True)
    tiny = next(model for model in body["models"] if model["name"] == "tiny:latest")
    assert tiny["model"] == "tiny:latest"
    assert tiny["size"] == len(b"weights")
    assert re.fullmatch(r"[0-9a-f]{64}", tiny["digest"])
    assert LOCAL.fullmatch(tiny["modified_at"])
    assert tiny["capabilities"] == ["completion", "tools", "thinking"]
    assert tiny["details"] == {
        "parent_model": "",
        "format": "rkllm",
        "family": "",
        "families": [],
        "parameter_size": "",
        "quantization_level": "",
        "context_length": 4096,
    }
    assert "expires_at" not in tiny


def test_no_model_is_an_empty_list(api: OllamaApi) -> None:
    for path in (api.models_dir / "tiny.rkllm", api.models_dir / "tuned" / "Modelfile"):
        path.unlink()
    api.catalog.refresh()
    assert api.get("/api/tags").json == {"models": []}


def test_show_tells_how_calls_are_read(api: OllamaApi) -> None:
    assert show(api, "tiny")["turns"] == {"calls": "none"}
    template = (Path(__file__).parents[2] / "generation" / "data" / "turns" / "arg-key-value.jinja").read_text()
    (api.models_dir / "tuned" / "Modelfile").write_text(f'FROM tiny.rkllm\nTEMPLATE """{template}"""\n')
    api.catalog.refresh()
    assert show(api, "tuned")["turns"] == {"calls": "found"}
    (api.models_dir / "tuned" / "Modelfile").write_text("FROM tiny.rkllm\nTEMPLATE {{ broken(\n")
    api.catalog.refresh()
    assert show(api, "tuned")["turns"] == {"calls": "unread", "why": "the template can't be rendered"}


def test_show_tells_what_the_modelfile_says(api: OllamaApi) -> None:
    body = show(api, "TUNED:latest")
    assert body["system"] == "Be brief."
    assert body["license"] == "MIT"
    assert body["messages"] == [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    assert body["parameters"].splitlines() == [
        "num_predict                    7",
        'stop                           "<end>"',
        'stop                           "x y"',
        "temperature                    0.5",
    ]
    assert body["capabilities"] == ["completion", "tools", "thinking"]
    assert LOCAL.fullmatch(body["modified_at"])
    assert "messages" in body["template"]


def test_the_modelfile_that_is_shown_makes_the_same_model(api: OllamaApi) -> None:
    shown = show(api, "tuned")
    response = api.post("/api/create", {"model": "again", "modelfile": shown["modelfile"], "stream": False})
    assert response.json == {"status": "success"}
    same = ("modelfile", "parameters", "system", "template", "license", "messages", "details", "model_info")
    assert {key: show(api, "again").get(key) for key in same} == {key: shown.get(key) for key in same}


def test_what_is_not_known_is_left_out(api: OllamaApi) -> None:
    body = show(api, "tiny")
    assert not {"license", "parameters", "system", "messages"} & set(body)
    assert body["model_info"] == {"rkllm.context_length": 4096}


def test_a_gguf_file_speaks_for_itself(api: OllamaApi) -> None:
    (api.models_dir / "small.gguf").write_bytes(
        gguf_bytes(
            {
                "general.architecture": "llama",
                "general.name": "Small",
                "llama.context_length": 8192,
                "llama.embedding_length": 64,
                "llama.block_count": 2,
                "llama.rope.freq_base": float("inf"),
                "tokenizer.chat_template": "{{ messages }}",
                "tokenizer.ggml.tokens": ["a"] * 100,
            },
        )
    )
    (api.models_dir / "small@short").mkdir()
    (api.models_dir / "small@short" / "Modelfile").write_text("FROM small.gguf\nPARAMETER num_ctx 512\n")
    api.catalog.refresh()
    body = show(api, "small:short")
    info = body["model_info"]
    assert info["general.architecture"] == "llama"
    assert info["llama.context_length"] == 8192
    assert info["llama.embedding_length"] == 64
    assert info["llama.rope.freq_base"] is None
    assert info["tokenizer.ggml.tokens"] is None
    assert not {"general.name", "tokenizer.chat_template"} & set(info)
    assert body["details"]["families"] == ["llama"]
    assert body["details"]["context_length"] == 512
    api.post("/api/chat", {"model": "small:short", "options": {"num_ctx": 4096}})
    assert api.inference.moves == [("load", "small:short", None, 4096)]


def test_what_show_does_not_do_is_named(api: OllamaApi) -> None:
    response = api.post("/api/show", {"model": "tiny", "verbose": True, "system": "x", "template": "", "options": {}})
    assert response.headers["X-Unapplied-Parameters"] == "system, verbose"


def test_older_clients_say_name(api: OllamaApi) -> None:
    assert api.post("/api/show", {"name": "tiny"}).status_code == 200


@pytest.mark.parametrize("name", ["tiny:local", "tiny:LATEST:local", "tiny:local "])
def test_a_name_may_say_that_it_is_a_local_one(api: OllamaApi, name: str) -> None:
    assert api.post("/api/show", {"model": name}).json["details"]["format"] == "rkllm"
    assert api.post("/api/show", {"model": "nope:local"}).status_code == 404
    assert api.post("/api/show", {"model": ":local"}).status_code == 400
    assert api.post("/api/copy", {"source": "tiny", "destination": "own:local"}).status_code == 200
    assert api.post("/api/show", {"model": "own:local"}).status_code == 200


def test_copilot_reads_the_name_it_asked_for(api: OllamaApi) -> None:
    asked_by = {"User-Agent": "GitHubCopilotChat/0.30"}
    assert show(api, "tiny", headers=asked_by)["model_info"]["general.basename"] == "tiny"


@pytest.mark.parametrize(
    ("name", "status", "text"),
    [
        ("", 400, "model is required"),
        ("nope", 404, "model 'nope:latest' not found"),
        ("org/nope:7b", 404, "model 'org/nope:7b' not found"),
        ("../../etc/passwd", 400, "invalid model name"),
    ],
)
def test_names_that_lead_nowhere(api: OllamaApi, name: str, status: int, text: str) -> None:
    response = api.post("/api/show", {"model": name})
    assert (response.status_code, response.json) == (status, {"error": text})


def test_a_model_whose_template_is_broken_is_still_shown(api: OllamaApi) -> None:
    (api.models_dir / "broken").mkdir()
    (api.models_dir / "broken" / "Modelfile").write_text('FROM tiny.rkllm\nTEMPLATE """{% if %}"""\n')
    api.catalog.refresh()
    assert show(api, "broken")["template"] == "{% if %}"


def test_programs_that_look_for_the_server_find_it(api: OllamaApi) -> None:
    root = api.get("/")
    assert (root.status_code, root.text) == (200, "Ollama is running")
    assert root.content_type.startswith("text/plain")
    assert api.client.head("/").status_code == 200
    assert api.client.head("/api/tags").status_code == 200
    assert api.client.head("/api/version").status_code == 200


def test_the_version_can_be_compared(api: OllamaApi) -> None:
    body = api.get("/api/version").json
    check(body, "VersionResponse")
    assert tuple(map(int, body["version"].split("."))) >= (0, 6, 4)


def test_paths_that_are_not_there(api: OllamaApi) -> None:
    response = api.get("/api/nothing")
    assert response.status_code == 404
    assert set(response.json) == {"error"}
    response = api.get("/api/chat")
    assert response.status_code == 405
    assert "POST" in response.headers["Allow"]
    assert set(response.json) == {"error"}
