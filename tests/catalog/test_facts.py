from pathlib import Path

import pytest

from rkllama_flask.catalog.catalog import Catalog
from rkllama_flask.catalog.reading.facts import capabilities, human_count, pooling
from tests.catalog.gguf_files import gguf_bytes


def folder(models: Path, name: str, modelfile: str = "", **sides: str) -> None:
    place = models / name
    place.mkdir()
    (place / f"{name}.rkllm").touch()
    if modelfile:
        (place / "Modelfile").write_text(modelfile)
    for side, text in sides.items():
        (place / f"{side}.json").write_text(text)


@pytest.mark.parametrize(
    ("name", "context"),
    [
        ("m", 4096),
        ("m-ctx8192", 8192),
        ("m_ctx16k", 16384),
        ("m-16k", 16384),
        ("m-context-2048", 2048),
        ("m-2048ctx", 2048),
        ("m-128k-instruct", 4096),
        ("m-16kg", 4096),
        ("qwen2.5-3b", 4096),
    ],
)
def test_a_file_name_tells_the_context_of_an_npu_model(models: Path, catalog: Catalog, name: str, context: int) -> None:
    (models / f"{name}.rkllm").touch()
    assert catalog.find(name).context_length == context


def test_the_modelfile_goes_before_the_name(models: Path, catalog: Catalog) -> None:
    folder(models, "m-ctx8192", "PARAMETER num_ctx 1024\n")
    assert catalog.find("m-ctx8192").context_length == 1024


@pytest.mark.parametrize(
    ("model_type", "family"),
    [
        ("qwen2_5_vl", "qwen2"),
        ("qwen3", "qwen3"),
        ("gemma3_text", "gemma3"),
        ("minicpm", "minicpm"),
        ("exaone4", "exaone4"),
    ],
)
def test_the_family_is_what_the_config_says(models: Path, catalog: Catalog, model_type: str, family: str) -> None:
    folder(models, "llama", config=f'{{"model_type": "{model_type}"}}')
    assert catalog.find("llama").family == family


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (134515008, "134.52M"),
        (7_615_616_512, "7.6B"),
        (8_000_000_000, "8B"),
        (6464, "6K"),
        (500, "500"),
        (22_000_000, "22M"),
    ],
)
def test_counts_are_written_as_ollama_does(count: int, text: str) -> None:
    assert human_count(count) == text


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ('{"temperature": 0.6, "top_k": 20, "top_p": 0.95, "repetition_penalty": 1.05}', (0.6, 20, 0.95, 1.05)),
        ('{"temperature": 0.6, "do_sample": false}', (None,) * 4),
        ('{"temperature": "hot", "top_k": -1, "top_p": 7, "repetition_penalty": null}', (None,) * 4),
        ("[]", (None,) * 4),
    ],
)
def test_recommended_sampling_is_taken_where_it_makes_sense(
    models: Path, catalog: Catalog, config: str, expected: tuple[float | None, ...]
) -> None:
    folder(models, "m", generation_config=config)
    found = catalog.find("m").recommended_sampling
    assert (found.temperature, found.top_k, found.top_p, found.repeat_penalty) == expected


@pytest.mark.parametrize(
    ("sides", "ids"),
    [
        ({"generation_config": '{"eos_token_id": [1, 2]}', "config": '{"eos_token_id": 3}'}, (1, 2)),
        ({"config": '{"eos_token_id": 3}'}, (3,)),
        (
            {"tokenizer_config": '{"eos_token": "E", "added_tokens_decoder": {"9": {"content": "E"}, "8": "F"}}'},
            (9,),
        ),
        ({"generation_config": '{"eos_token_id": ["1", true, -1]}'}, ()),
    ],
)
def test_end_tokens_are_found_where_they_are_said(
    models: Path, catalog: Catalog, sides: dict[str, str], ids: tuple[int, ...]
) -> None:
    folder(models, "m", **sides)
    assert catalog.find("m").eos_token_ids == ids


def test_the_special_tokens_of_the_tokenizer_are_known(models: Path, catalog: Catalog) -> None:
    decoder = '{"9": {"content": "<|fim_prefix|>", "special": true}, "8": "F", "7": {}, "6": 5}'
    folder(models, "m", tokenizer_config=f'{{"added_tokens_decoder": {decoder}}}')
    assert catalog.find("m").special_tokens == ("<|fim_prefix|>", "F")


def test_of_several_templates_the_default_is_taken(models: Path, catalog: Catalog) -> None:
    listed = '[{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]'
    folder(models, "m", tokenizer_config=f'{{"chat_template": {listed}}}')
    assert catalog.find("m").chat_template == "d"
    assert catalog.find("m").tool_template == "t"


@pytest.mark.parametrize("place", ["additional_chat_templates/tool_use.jinja", "tool_use.jinja"])
def test_a_template_for_tools_may_lie_in_a_file_of_its_own(catalog: Catalog, models: Path, place: str) -> None:
    folder(models, "m", tokenizer_config='{"chat_template": "d"}')
    (models / "m" / place).parent.mkdir(exist_ok=True)
    (models / "m" / place).write_text("t")
    assert (catalog.find("m").chat_template, catalog.find("m").tool_template) == ("d", "t")


@pytest.mark.parametrize(("own", "expected"), [("own", "own"), ("", "j")])
def test_a_template_may_be_published_as_json(catalog: Catalog, models: Path, own: str, expected: str) -> None:
    folder(models, "m", tokenizer_config='{"chat_template": "d"}')
    (models / "m" / "chat_template.json").write_text('{"chat_template": "j"}')
    (models / "m" / "chat_template.jinja").write_text(own)
    assert catalog.find("m").chat_template == expected


def test_a_modelfiles_template_is_the_one_for_tools_too(catalog: Catalog, models: Path) -> None:
    listed = '[{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]'
    folder(models, "m", tokenizer_config=f'{{"chat_template": {listed}}}')
    (models / "m" / "Modelfile").write_text("TEMPLATE mine")
    model = catalog.find("m")
    assert (model.chat_template, model.tool_template) == ("mine", None)


def test_an_embedding_model_completes_nothing(models: Path, catalog: Catalog) -> None:
    (models / "minilm.gguf").write_bytes(gguf_bytes({"general.architecture": "bert", "bert.pooling_type": 1}))
    (models / "pooled.gguf").write_bytes(gguf_bytes({"general.architecture": "qwen3", "qwen3.pooling_type": 3}))
    for name in ("bge-small", "Qwen3-Embedding-0.6B", "chat", "embedder"):
        (models / f"{name}.rkllm").touch()
    found = {model.name: (capabilities(model), pooling(model)) for model in catalog.list()}
    assert found == {
        "minilm": (("embedding",), "mean"),
        "pooled": (("embedding",), "last"),
        "bge-small": (("embedding",), None),
        "qwen3-embedding-0.6b": (("embedding",), None),
        "chat": (("completion",), None),
        "embedder": (("completion",), None),
    }


def test_a_chat_model_embeds_where_its_modelfile_says_how(models: Path, catalog: Catalog) -> None:
    folder(models, "m", "PARAMETER pooling last\n")
    model = catalog.find("m")
    assert (capabilities(model), pooling(model)) == (("completion", "embedding"), "last")
