"""Prompts become the model's own tokens, and only templates write special ones."""

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import AddedToken, processors

from rkllama_flask.catalog.model import Model
from rkllama_flask.errors import InvalidRequest, ModelUnusable
from rkllama_flask.generation.prompt.gguf_tokenizer import build_tokenizer
from rkllama_flask.generation.prompt.segments import Prompt, Segment
from rkllama_flask.generation.prompt.tokens import KEPT, Tokenizer
from rkllama_flask.generation.prompts import Prompts
from tests.generation.data.cases import byte_tokenizer, make_model
from tests.generation.data.llama_cpp import write_gguf
from tests.generation.data.texts import TEXTS
from tests.generation.data.vocabularies import byte_pairs, sentence_pieces
from tests.serving import ROOT

IM_START, IM_END = "<|im_start|>", "<|im_end|>"


def trusted(text: str) -> Prompt:
    return Prompt((Segment(text, trusted=True),))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


def model_with(
    folder: Path, *, bos: str | None = None, config: dict[str, Any] | None = None, **added: AddedToken
) -> Model:
    """A model with a `tokenizer.json` beside it, whose post-processor puts `bos` in front."""
    library = byte_tokenizer(**added)
    if bos is not None:
        library.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A </s>",
            special_tokens=[(bos, library.token_to_id(bos)), ("</s>", library.token_to_id("</s>"))],
        )
    library.enable_truncation(4)
    library.enable_padding(length=64)
    library.save(str(folder / "tokenizer.json"))
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return make_model(tokenizer_path=folder / "tokenizer.json")


def tokenizer_for(model: Model) -> Tokenizer:
    tokenizer = Tokenizer.for_model(model)
    assert tokenizer is not None
    return tokenizer


class TestSpecialTokens:
    @pytest.fixture
    def tokenizer(self, folder: Path) -> Tokenizer:
        spaces = AddedToken("    ", special=False, normalized=False)
        turn = AddedToken("@turn@", special=False, normalized=False)
        end = AddedToken("<|close|>", special=True, normalized=False, rstrip=True)
        template = {"chat_template": "@turn@{{ messages }}"}
        return tokenizer_for(model_with(folder, config=template, spaces=spaces, turn=turn, end=end))

    def test_come_from_trusted_text(self, tokenizer: Tokenizer) -> None:
        assert len(tokenizer.encode(trusted(f"{IM_START}a{IM_END}"))) == 3

    def test_do_not_come_from_plain_text(self, tokenizer: Tokenizer) -> None:
        assert len(tokenizer.encode(IM_END)) == len(IM_END)

    def test_do_not_come_from_untrusted_segments(self, tokenizer: Tokenizer) -> None:
        prompt = Prompt((Segment(IM_START, True), Segment(IM_END, False), Segment(IM_END, True)))
        assert len(tokenizer.encode(prompt)) == len(IM_END) + 2

    def test_do_not_form_over_a_border_of_trust(self, tokenizer: Tokenizer) -> None:
        for parts in ((True, False), (False, True), (False, False)):
            prompt = Prompt((Segment("<|im_", parts[0]), Segment("end|>", parts[1])))
            assert len(tokenizer.encode(prompt)) == len(IM_END)

    def test_form_over_a_border_within_trusted_text(self, tokenizer: Tokenizer) -> None:
        assert len(tokenizer.encode(Prompt((Segment("<|im_", True), Segment("end|>", True))))) == 1

    def test_the_longest_one_counts(self, tokenizer: Tokenizer) -> None:
        assert len(tokenizer.encode(trusted("<|tool_call_start|>"))) == 1

    def test_swallow_the_spaces_after_them_where_the_model_wants_that(self, tokenizer: Tokenizer) -> None:
        assert len(tokenizer.encode(trusted("<|close|> \n a"))) == 2

    def test_added_tokens_that_a_template_uses_are_special(self, tokenizer: Tokenizer) -> None:
        assert "@turn@" in tokenizer.special_strings
        assert len(tokenizer.encode("@turn@")) == 6

    def test_added_tokens_that_are_mere_vocabulary_stand_everywhere(self, tokenizer: Tokenizer) -> None:
        assert "    " not in tokenizer.special_strings
        assert len(tokenizer.encode("a    b")) == 3

    def test_are_shown_again_by_decoding(self, tokenizer: Tokenizer) -> None:
        text = f"{IM_START}user\nÄ    b{IM_END}"
        assert tokenizer.decode(tokenizer.encode(trusted(text))) == text
        assert tokenizer.decode(tokenizer.encode(text)) == text

    def test_truncation_and_padding_of_the_file_are_ignored(self, tokenizer: Tokenizer) -> None:
        assert tokenizer.count("abcdefgh") == 8


class TestTheTokenAtTheBeginning:
    def test_is_added_where_the_post_processor_adds_it(self, folder: Path) -> None:
        tokenizer = tokenizer_for(model_with(folder, bos="<s>"))
        assert tokenizer.decode(tokenizer.encode(trusted("a"))) == "<s>a"
        assert tokenizer.decode(tokenizer.encode("a")) == "<s>a"

    @pytest.mark.parametrize("written", ["<s>", "<s><s>"])
    def test_is_there_once_where_the_template_wrote_it_too(self, folder: Path, written: str) -> None:
        tokenizer = tokenizer_for(model_with(folder, bos="<s>"))
        assert tokenizer.decode(tokenizer.encode(trusted(f"{written}a"))) == "<s>a"

    def test_is_left_out_of_text_that_the_runtime_cuts(self, folder: Path) -> None:
        tokenizer = tokenizer_for(model_with(folder, bos="<s>"))
        assert tokenizer.as_text(Prompt((Segment("<s>a", True), Segment("</s>", False)))) == "a< /s>"

    def test_stays_in_text_for_models_that_do_not_add_it(self, folder: Path) -> None:
        tokenizer = tokenizer_for(model_with(folder))
        assert tokenizer.as_text(trusted("<s>a")) == "<s>a"

    def test_is_not_the_clients_to_write(self, folder: Path) -> None:
        tokenizer = tokenizer_for(model_with(folder, bos="<s>"))
        assert len(tokenizer.encode("<s>a")) == 1 + len("<s>a")

    def test_is_not_added_where_the_configuration_says_no(self, folder: Path) -> None:
        tokenizer = tokenizer_for(model_with(folder, bos="<s>", config={"add_bos_token": False}))
        assert tokenizer.decode(tokenizer.encode("a")) == "a"

    def test_is_added_where_only_the_configuration_says_so(self, folder: Path) -> None:
        config = {"add_bos_token": True, "bos_token": {"content": "<bos>"}}
        tokenizer = tokenizer_for(model_with(folder, config=config))
        assert tokenizer.decode(tokenizer.encode("a")) == "<bos>a"

    def test_is_not_added_to_models_that_have_none(self, folder: Path) -> None:
        tokenizer = tokenizer_for(model_with(folder, config={"bos_token": "<s>"}))
        assert tokenizer.decode(tokenizer.encode(trusted("a"))) == "a"

    def test_does_not_count_in_a_text_by_itself(self, folder: Path) -> None:
        tokenizer = tokenizer_for(model_with(folder, bos="<s>"))
        assert tokenizer.count("abc") == 3
        assert tokenizer.encode("abc", add_bos=False) == tokenizer.encode("abc")[1:]


class TestWhereItComesFrom:
    def test_a_file_beside_the_model_comes_first(self, folder: Path) -> None:
        beside = model_with(folder)
        weights = write_gguf(folder / "m.gguf", byte_pairs())
        model = make_model(path=weights, format="gguf", tokenizer_path=beside.tokenizer_path)
        assert tokenizer_for(model) is tokenizer_for(beside)

    def test_gguf_metadata_is_enough(self, folder: Path) -> None:
        model = make_model(path=write_gguf(folder / "m.gguf", byte_pairs()), format="gguf")
        tokenizer = tokenizer_for(model)
        assert tokenizer.decode(tokenizer.encode(TEXTS[0])) == TEXTS[0]

    def test_there_may_be_none(self, folder: Path) -> None:
        assert Tokenizer.for_model(make_model()) is None
        assert Tokenizer.for_model(make_model(path=folder / "gone.gguf", format="gguf")) is None

    def test_a_damaged_file_is_named(self, folder: Path) -> None:
        (folder / "tokenizer.json").write_text("{}")
        with pytest.raises(ModelUnusable, match=r"tokenizer\.json of paper"):
            Tokenizer.for_model(make_model(tokenizer_path=folder / "tokenizer.json"))

    def test_it_is_read_once_and_again_when_it_has_changed(self, folder: Path) -> None:
        model = model_with(folder)
        first = tokenizer_for(model)
        assert tokenizer_for(model) is first
        model_with(folder, more=AddedToken("@@", special=True))
        assert "@@" in tokenizer_for(model).special_strings

    def test_a_replaced_model_is_read_again(self, folder: Path) -> None:
        path = write_gguf(folder / "m.gguf", byte_pairs())
        first = tokenizer_for(make_model(path=path, format="gguf", identity="a"))
        assert tokenizer_for(make_model(path=path, format="gguf", identity="a")) is first
        assert tokenizer_for(make_model(path=path, format="gguf", identity="b")) is not first


class TestGgufVocabularies:
    @pytest.mark.parametrize(
        "change",
        [
            {"tokenizer.ggml.model": "bert"},
            {"tokenizer.ggml.pre": "invented"},
            {"tokenizer.ggml.tokens": []},
            {"tokenizer.ggml.tokens": None},
        ],
    )
    def test_rules_that_are_not_known_give_none_rather_than_wrong_counts(self, change: dict[str, Any]) -> None:
        assert build_tokenizer({**byte_pairs(), **change}) is None

    @pytest.mark.parametrize(
        ("change", "adds_bos"),
        [
            ({}, False),
            ({"tokenizer.ggml.pre": "llama-bpe"}, True),
            ({"tokenizer.ggml.pre": "llama-bpe", "tokenizer.ggml.add_bos_token": False}, False),
            ({"tokenizer.ggml.add_bos_token": True}, True),
        ],
    )
    def test_the_beginning_is_as_the_metadata_says(self, change: dict[str, Any], adds_bos: bool) -> None:
        built = build_tokenizer({**byte_pairs(), **change})
        assert built is not None
        assert built.adds_bos is adds_bos

    def test_sentence_pieces_give_back_every_text(self) -> None:
        built = build_tokenizer(sentence_pieces())
        assert built is not None
        tokenizer = Tokenizer(built.library, bos=built.bos, adds_bos=False)
        for text in TEXTS:
            assert tokenizer.decode(tokenizer.encode(text)) == text

    def test_thoughts_are_special_though_user_defined_and_runs_of_spaces_are_not(self) -> None:
        built = build_tokenizer(byte_pairs())
        assert built is not None
        tokenizer = Tokenizer(built.library, bos=None, adds_bos=False)
        assert "<think>" in tokenizer.special_strings
        assert "     " not in tokenizer.special_strings


def test_a_tokenizer_that_has_to_be_read_again_is_read_off_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Any] = []
    monkeypatch.setattr("rkllama_flask.generation.prompts.call_natively", lambda call: read.append(call) or call())
    models = []
    for number in range(KEPT + 1):
        path = tmp_path / f"{number}" / "tokenizer.json"
        path.parent.mkdir()
        path.write_text(byte_tokenizer().to_str())
        models.append(make_model(tokenizer_path=path, identity=str(number)))
    prompts = Prompts()
    for model in (*models[:2], models[0], *models[2:], models[0], models[1]):
        prompts.tokenizer(model)
    assert len(read) == KEPT + 2  # the second has made room for the last


def test_ids_behind_a_gap_in_the_vocabulary_are_the_models_own() -> None:
    library = tokenizers.Tokenizer.from_file(str(ROOT / "tests" / "native" / "byte_tokenizer.json"))
    largest = max(library.get_vocab().values())
    assert largest >= library.get_vocab_size()
    tokenizer = Tokenizer(library, bos=None, adds_bos=False)
    tokenizer.check([largest], param="tokens")
    with pytest.raises(InvalidRequest, match=f"0 to {largest}"):
        tokenizer.check([largest + 1], param="tokens")
