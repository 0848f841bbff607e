"""What a person reads when the server starts."""

from dataclasses import replace
from pathlib import Path

import pytest

from rkllama_flask.hosting.banner import banner
from rkllama_flask.settings import Settings

WARNING = "everybody who reaches this address may use it"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in ("HOST", "API_KEYS", "API_KEYS_FILE", "MODELS_DIR", "DEFAULT_MODEL"):
        monkeypatch.delenv(name, raising=False)
    return Settings.from_environment(tmp_path)


@pytest.mark.parametrize(
    ("host", "keys", "warned"),
    [
        ("0.0.0.0", "", True),
        ("::", "", True),
        ("192.0.2.7", "", True),
        ("0.0.0.0", "secret", False),
        ("127.0.0.1", "", False),
        ("::1", "", False),
        ("unix:/run/rkllama/http.sock", "", False),
    ],
)
def test_a_server_that_others_reach_without_a_key_warns_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, keys: str, warned: bool
) -> None:
    monkeypatch.setenv("HOST", host)
    monkeypatch.setenv("API_KEYS", keys)
    text = banner(Settings.from_environment(tmp_path))
    assert (WARNING in text) is warned
    assert "secret" not in text


def test_without_models_it_says_how_to_get_one(settings: Settings) -> None:
    text = banner(settings)
    assert str(settings.models_dir) in text
    assert "scripts/rkllama pull" in text


def test_with_a_model_it_shows_a_command_to_try(settings: Settings) -> None:
    settings.make_folders()
    (settings.models_dir / "tiny.rkllm").write_text("")
    assert '"model": "tiny"' in banner(settings)


@pytest.mark.parametrize(("default", "shown"), [("TINY:latest", "TINY:latest"), ("nowhere", "tiny"), ("../x", "tiny")])
def test_the_default_model_is_in_that_command_if_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, default: str, shown: str
) -> None:
    monkeypatch.setenv("DEFAULT_MODEL", default)
    settings = Settings.from_environment(tmp_path)
    settings.make_folders()
    (settings.models_dir / "tiny.rkllm").write_text("")
    assert f'"model": "{shown}"' in banner(settings)


def test_a_model_for_embeddings_alone_is_not_shown_to_be_talked_to(settings: Settings) -> None:
    settings.make_folders()
    (settings.models_dir / "bge-small.rkllm").write_text("")
    assert "models   bge-small" in banner(settings)
    assert "  try " not in banner(settings)
    (settings.models_dir / "tiny.rkllm").write_text("")
    assert '"model": "tiny"' in banner(settings)
    assert '"model": "tiny"' in banner(replace(settings, default_model="bge-small"))


def test_where_keys_are_wanted_the_command_has_a_place_for_one(settings: Settings) -> None:
    settings.make_folders()
    (settings.models_dir / "tiny.rkllm").write_text("")
    text = banner(replace(settings, api_keys=("secret",)))
    assert "-H 'x-api-key: <one of API_KEYS>'" in text
    assert "secret" not in text


def test_each_runtime_has_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RKLLM_LIB_PATH", "/nowhere/librkllmrt.so")
    monkeypatch.setenv("CPU_RUNTIME_PATH", str(tmp_path / "cpu.so"))
    (tmp_path / "cpu.so").write_text("RKLLM SDK (version: 1.3.0)")
    first, second = banner(Settings.from_environment(tmp_path)).splitlines()[1:3]
    assert first.startswith("  runtime  Rockchip NPU: There is no file /nowhere/librkllmrt.so.")
    assert second.startswith("           CPU")
