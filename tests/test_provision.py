"""What the first start brings along."""

from pathlib import Path

from rkllama_flask.provision import can_chat
from tests.catalog.gguf_files import gguf_bytes


def test_a_model_that_only_makes_embeddings_is_no_reason_to_bring_none_that_answers(tmp_path: Path) -> None:
    assert not can_chat(tmp_path / "nowhere")
    (tmp_path / "minilm.gguf").write_bytes(gguf_bytes({"general.architecture": "bert"}))
    assert not can_chat(tmp_path)
    (tmp_path / "chat.rkllm").write_text("scripted")
    assert can_chat(tmp_path)
