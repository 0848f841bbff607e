"""The commands, configuration and client code of RockchipLlama's README work as its readers know them."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rkllama_flask.inference_config import parse
from rkllama_flask.settings import Settings
from tests.serving import ROOT, Server

Shell = Callable[[str], str]


def test_load_a_model_and_chat(shell: Shell) -> None:
    loaded = json.loads(
        shell("""
curl -X POST http://localhost:8080/v1/models/load \\
  -d '{"model": "qwen3-0.6b"}'
""")
    )
    assert {name: loaded[name] for name in ("success", "model_name", "loaded")} == {
        "success": True,
        "model_name": "qwen3-0.6b",
        "loaded": True,
    }
    answer = json.loads(
        shell("""
curl -X POST http://localhost:8080/v1/chat/completions \\
  -d '{
    "model": "qwen3-0.6b",
    "messages": [{"role": "user", "content": "Hello!"}]
  }'
""")
    )
    assert answer["choices"][0]["message"]["content"]


def test_the_prompt_cache_from_its_creation_to_its_deletion(shell: Shell) -> None:
    """`use_cache` names no model and brings no system message, and the curl lines send no JSON content type."""
    created = json.loads(
        shell("""
curl -X POST http://localhost:8080/v1/cache/qwen3-0.6b \\
  -H 'Content-Type: application/json' \\
  -d '{
    "cache_name": "system",
    "prompt": "You are a helpful AI assistant..."
  }'
""")
    )
    assert (created["object"], created["cache_name"]) == ("cache.created", "system")
    assert {"size_mb", "ttft_ms", "message"} <= set(created)
    answer = json.loads(
        shell("""
curl -X POST http://localhost:8080/v1/chat/completions \\
  -d '{
    "use_cache": "system",
    "messages": [{"role": "user", "content": "Hello!"}]
  }'
""")
    )
    assert answer["usage"]["cache_hit"] is True
    assert answer["usage"]["cached_prompts"] == ["system"]
    listed = json.loads(shell("curl http://localhost:8080/v1/cache/qwen3-0.6b"))
    assert [entry["cache_name"] for entry in listed["data"]] == ["system"]
    deleted = json.loads(shell("curl -X DELETE http://localhost:8080/v1/cache/qwen3-0.6b/system"))
    assert (deleted["object"], deleted["deleted"]) == ("cache.deleted", True)


def test_the_routes_of_models(shell: Shell) -> None:
    available = json.loads(shell("curl http://localhost:8080/v1/models/available"))
    assert {"name", "filename", "size_mb", "loaded"} <= set(available["models"][0])
    shell("""curl -X POST http://localhost:8080/v1/models/load -d '{"model": "qwen3-0.6b"}'""")
    assert json.loads(shell("curl http://localhost:8080/v1/models/loaded"))["model_name"] == "qwen3-0.6b"
    assert json.loads(shell("curl -X POST http://localhost:8080/v1/models/unload"))["success"] is True
    assert "swagger" in shell("curl -L http://localhost:8080/docs").lower()


def test_the_openai_client(documented: Server, capsys: pytest.CaptureFixture[str]) -> None:
    code = """
from openai import OpenAI

client = OpenAI(
    base_url='http://localhost:8080/v1',
    api_key='dummy'  # Not required but OpenAI client needs something
)

# Chat completion
response = client.chat.completions.create(
    model='qwen3-0.6b',
    messages=[
        {'role': 'system', 'content': 'You are a helpful assistant'},
        {'role': 'user', 'content': 'Explain quantum computing'}
    ],
    temperature=0.7,
    max_tokens=512
)

print(response.choices[0].message.content)
"""
    names: dict[str, object] = {}
    exec(code.replace("localhost:8080", f"127.0.0.1:{documented.port}"), names)
    names["client"].close()  # type: ignore[attr-defined]
    assert capsys.readouterr().out.strip()


def test_the_configuration_file_with_its_comment() -> None:
    config = parse("""
{
  "inference_params": {
    "top_k": 20,
    "top_p": 0.95,
    "temperature": 0.6,
    "repeat_penalty": 0.9
  },
  "hardware": {
    "num_npu_cores": 3,
    "enabled_cpus_mask": 240,  // 0xF0 = big cores 4-7
    "num_threads": 4
  }
}
""")
    assert (config.cpus, config.npu_cores, config.sampling.repeat_penalty) == ((4, 5, 6, 7), 3, 0.9)


def test_the_settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOST", "PORT", "MODELS_DIR", "RKLLM_LIB_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ENV_FILE", str(tmp_path / ".env"))
    (tmp_path / ".env").write_text(
        "HOST=0.0.0.0\nPORT=8080\nMODELS_DIR=./models\nRKLLM_LIB_PATH=/usr/lib/librkllmrt.so\n"
    )
    with monkeypatch.context():
        settings = Settings.from_environment()
    assert (settings.address, settings.models_dir) == ("0.0.0.0:8080", ROOT / "models")
    assert str(settings.rkllm_lib_path) == "/usr/lib/librkllmrt.so"


def test_the_start_script_is_the_readmes_command() -> None:
    """What it sets up on a fresh machine is too slow for a test; it passes its arguments on."""
    script = str(ROOT / "start_server.sh")
    shown = subprocess.run([script, "--help"], capture_output=True, text=True, check=True).stdout
    assert "Usage: scripts/serve" in shown


@pytest.mark.parametrize("page", ["BENCHMARKS", "longrope_guide", "queue_architecture", "rkllm", "copilot"])
def test_the_promised_pages_are_there(page: str) -> None:
    assert len((ROOT / "docs" / f"{page}.md").read_text()) > 1000
