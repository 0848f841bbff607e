"""What becomes of a text that is to be a vector: on paper, and through the engine on the scripted runtime."""

import math
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import processors

from rkllama_flask.catalog.catalog import Catalog
from rkllama_flask.catalog.model import Model, Modelfile
from rkllama_flask.engine.engine import Engine
from rkllama_flask.errors import ContextLengthExceeded, InvalidRequest, UnsupportedRequest, WaitedTooLong
from rkllama_flask.generation.embeddings import Embeddings, pooler, pooling_of, prompt_of
from rkllama_flask.generation.events import Waiting
from rkllama_flask.generation.inference import Inference
from rkllama_flask.generation.prompt.tokens import Tokenizer
from rkllama_flask.generation.request import GenerationRequest, Message
from rkllama_flask.inference_config import LiveConfig
from tests.conftest import scripted_library
from tests.generation.data.cases import byte_tokenizer, make_model

END = "<|endoftext|>"
QWEN = Path("/models/qwen3-embedding-0.6b.rkllm")
ROWS = tuple(array("f", row) for row in ([1, 2, 3], [3, 2, -3], [2, -1, 6]))


# On paper


@pytest.mark.parametrize(("kind", "vector"), [("mean", [2, 1, 2]), ("cls", [1, 2, 3]), ("last", [2, -1, 6])])
def test_hidden_states_are_pooled(kind: Any, vector: list[float]) -> None:
    assert list(pooler(kind, normalize=False)(ROWS)) == vector


def test_a_vector_has_length_one() -> None:
    assert list(pooler("mean")(ROWS)) == list(array("f", [2 / 3, 1 / 3, 2 / 3]))


def test_a_vector_that_is_cut_has_length_one_again() -> None:
    assert list(pooler("mean", dimensions=2)(ROWS)) == list(array("f", [2 / math.sqrt(5), 1 / math.sqrt(5)]))
    assert len(pooler("mean", dimensions=9)(ROWS)) == 3


def test_nothing_has_no_direction() -> None:
    assert list(pooler("last")([array("f", [0, 0])])) == [0, 0]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_no_embedding(number: float) -> None:
    with pytest.raises(UnsupportedRequest):
        pooler("mean")([array("f", [1, number])])


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        ({"path": QWEN, "family": "qwen3"}, "last"),
        ({"path": Path("/models/bge-small.rkllm"), "family": "bert"}, "mean"),
        ({"family": "qwen3"}, "mean"),
        ({"path": QWEN, "family": "qwen3", "modelfile": Modelfile(pooling="mean")}, "mean"),
        ({"family": "bert", "metadata": {"bert.pooling_type": 2}}, "cls"),
    ],
)
def test_a_models_files_say_how_else_its_kind(facts: dict[str, Any], kind: str) -> None:
    assert pooling_of(make_model(**facts)) == kind


def tokenizer(folder: Path, *, ending: str = "") -> Tokenizer:
    """One token per byte; with `ending` its post-processor puts that after a text."""
    library = byte_tokenizer()
    if ending:
        special = [(ending, library.token_to_id(ending))]
        library.post_processor = processors.TemplateProcessing(single=f"$A {ending}", special_tokens=special)
    library.save(str(folder / "tokenizer.json"))
    found = Tokenizer.for_model(make_model(tokenizer_path=folder / "tokenizer.json"))
    assert found is not None
    return found


def prompt(text: Any, model: Model, tokenizer: Tokenizer | None, *, room: int = 99, truncate: bool = False) -> Any:
    return prompt_of(text, model, tokenizer, room=room, truncate=truncate)


def test_a_text_ends_as_the_tokenizer_ends_it(tmp_path: Path) -> None:
    ending = tokenizer(tmp_path, ending="</s>")
    assert ending.decode(prompt("ab", make_model(), ending)) == "ab</s>"


def test_last_token_pooling_gathers_in_the_familys_end_token(tmp_path: Path) -> None:
    plain = tokenizer(tmp_path)
    encoder = make_model(path=QWEN, family="qwen3")
    assert plain.decode(prompt("ab", encoder, plain)) == f"ab{END}"
    assert plain.decode(prompt("ab", make_model(family="qwen3"), plain)) == "ab"
    assert prompt("ab", encoder, None) == f"ab{END}"


def test_text_input_ends_the_same_way(tmp_path: Path) -> None:
    model = make_model(path=QWEN, family="qwen3", modelfile=Modelfile(input="text"))
    assert prompt("ab", model, tokenizer(tmp_path)) == f"ab{END}"


def test_a_clients_text_is_never_a_special_token(tmp_path: Path) -> None:
    plain = tokenizer(tmp_path)
    assert len(prompt(END, make_model(), plain)) == len(END)
    assert END not in prompt(END, make_model(), None)


def test_a_long_text_is_cut_before_its_ending_if_it_may_be(tmp_path: Path) -> None:
    ending = tokenizer(tmp_path, ending="</s>")
    assert ending.decode(prompt("abcdef", make_model(), ending, room=4, truncate=True)) == "abc</s>"
    with pytest.raises(ContextLengthExceeded) as refusal:
        prompt("abcdef", make_model(), ending, room=4)
    assert (refusal.value.prompt_tokens, refusal.value.limit, refusal.value.param) == (7, 4, "input")


def test_token_ids_are_taken_as_they_are_but_only_those_of_the_vocabulary(tmp_path: Path) -> None:
    ending = tokenizer(tmp_path, ending="</s>")
    assert prompt((5, 6), make_model(), ending) == [5, 6]
    assert prompt((5, 6, 7), make_model(), ending, room=2, truncate=True) == [5, 6]
    with pytest.raises(InvalidRequest):
        prompt((5, 100_000), make_model(), ending)


@pytest.mark.parametrize("empty", ["", ()])
def test_an_empty_input_is_refused(tmp_path: Path, empty: Any) -> None:
    for known in (None, tokenizer(tmp_path)):
        with pytest.raises(InvalidRequest, match="empty"):
            prompt(empty, make_model(), known)


# Through the engine

Make = Callable[..., tuple[Inference, Model]]


@pytest.fixture
def make(family: str, tmp_path: Path) -> Iterator[Make]:
    """An inference with one model, whose file's script is given; tokens are the client's own ids."""
    engines = []

    def made(script: str = "load_ms=0", name: str = "tiny", modelfile: str = "", **options: Any) -> Any:
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        (folder / f"{name}.rkllm").write_text(script)
        (folder / "Modelfile").write_text(f"FROM {name}.rkllm\n{modelfile}")
        libraries = {"rkllm": scripted_library(family), "gguf": None}
        engines.append(Engine(libraries=libraries, lock_path=tmp_path / "npu.lock"))
        catalog = Catalog(tmp_path / "models")
        return Inference(engines[-1], catalog, LiveConfig(tmp_path / "none.json"), **options), catalog.find(name)

    yield made
    for engine in engines:
        assert engine.close()


def embeddings(inference: Inference, model: Model, inputs: Sequence[Any], **options: Any) -> Embeddings:
    events = [event for event in inference.embed(model, inputs, **options) if not isinstance(event, Waiting)]
    assert len(events) == 1
    return events[0]


def vectors(inference: Inference, model: Model, inputs: Sequence[Any], **options: Any) -> list[list[float]]:
    return [list(vector) for vector in embeddings(inference, model, inputs, **options).vectors]


def test_one_vector_for_each_input_in_order_whatever_stands_beside_it(make: Make) -> None:
    inference, model = make()
    inputs = ["one two", "one two three", (7, 8, 9), "one two"]
    found = embeddings(inference, model, inputs)
    assert [list(vector) for vector in found.vectors] == [vectors(inference, model, [one])[0] for one in inputs]
    assert found.prompt_tokens == 2 + 3 + 3 + 2
    assert all(math.isclose(math.hypot(*vector), 1, rel_tol=1e-6) for vector in found.vectors)
    assert [len(vector) for vector in found.vectors] == [64] * 4


def test_the_mean_is_of_what_each_token_left(make: Make) -> None:
    """In the scripted runtime a token's state follows from the tokens up to it alone."""
    inference, mean = make()
    last = replace(mean, modelfile=Modelfile(pooling="last"))
    assert (pooling_of(mean), pooling_of(last)) == ("mean", "last")
    ids = (5, 6, 7)
    [whole] = vectors(inference, mean, [ids], normalize=False)
    ends = vectors(inference, last, [ids[:1], ids[:2], ids], normalize=False)
    assert whole == list(array("f", [math.fsum(column) / 3 for column in zip(*ends, strict=True)]))


def test_times_are_told(make: Make) -> None:
    inference, model = make("load_ms=20\nprefill_ms=10")
    timings = embeddings(inference, model, ["one", "two"]).timings
    assert timings.load >= 20_000_000
    assert timings.prefill >= 20_000_000
    assert timings.total >= timings.load + timings.prefill


def test_text_that_only_the_runtime_can_count_is_cut_or_refused_too(make: Make) -> None:
    inference, model = make("context_limit=64", modelfile="PARAMETER num_ctx 64")
    long = " ".join(["word"] * 200)
    with pytest.raises(ContextLengthExceeded) as refusal:
        embeddings(inference, model, [long])
    assert (refusal.value.prompt_tokens, refusal.value.limit) == (200, 60)
    assert 40 < embeddings(inference, model, [long], truncate=True).prompt_tokens <= 60


def test_a_reader_that_leaves_ends_the_job(make: Make) -> None:
    inference, model = make("prefill_ms=50")
    leaving = inference.embed(model, ["text"] * 1000)
    assert isinstance(next(leaving), Waiting)
    leaving.close()
    begun = time.monotonic()
    embeddings(inference, model, ["text"])
    assert time.monotonic() - begun < 10


def test_a_turn_that_does_not_come_is_given_up(make: Make) -> None:
    inference, model = make("prefill_ms=700", queue_timeout=0.1)
    running, waiting = inference.embed(model, ["text"] * 9), inference.embed(model, ["text"])
    assert isinstance(next(running), Waiting)
    with pytest.raises(WaitedTooLong):
        list(waiting)
    running.close()


def test_a_model_that_shows_no_hidden_states_says_so(make: Make) -> None:
    inference, model = make("embd_size=0")
    with pytest.raises(UnsupportedRequest, match="hidden states"):
        embeddings(inference, model, ["text"])


def test_an_encoder_answers_nobody(make: Make) -> None:
    inference, model = make(name="bge-small")
    assert inference.capabilities(model) == ("embedding",)
    with pytest.raises(UnsupportedRequest, match='"bge-small" does not support chat'):
        inference.generate(GenerationRequest(model, messages=(Message("user", "Hi"),)))


def test_a_chat_model_tells_of_embeddings_only_where_its_modelfile_says_how(make: Make) -> None:
    inference, model = make(modelfile="PARAMETER pooling mean")
    assert inference.capabilities(model)[:2] == ("completion", "embedding")
