"""How answers that are written with the model look to the runtime, and what comes before them."""

from dataclasses import replace
from pathlib import Path

import pytest
import tokenizers
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Metaspace

from rkllama_flask.catalog.model import Model, Modelfile
from rkllama_flask.errors import UnsupportedRequest
from rkllama_flask.generation.events import Reasoning, Text
from rkllama_flask.generation.guided.continuing import continuing
from rkllama_flask.generation.guided.filling import MOST_TEXT
from rkllama_flask.generation.output.reasoning import ReasoningSplitter
from rkllama_flask.generation.prompt.segments import Prompt, Segment
from rkllama_flask.generation.prompt.tokens import Tokenizer
from rkllama_flask.generation.prompts import BuiltPrompt, Prompts
from rkllama_flask.generation.request import GenerationRequest, JsonFormat, Message, Tool, ToolChoice
from tests.generation.data.cases import byte_tokenizer, make_model

FORM = JsonFormat({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]})
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKER = CHATML + "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
HELLO = (Message("user", "Hello"),)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """A model whose tokenizer has a token for each byte."""
    (tmp_path / "tokenizer.json").write_text(byte_tokenizer().to_str())
    return make_model(tokenizer_path=tmp_path / "tokenizer.json", chat_template=CHATML)


def built(model: Model, **fields: object) -> BuiltPrompt:
    given = {"messages": HELLO, "format": FORM} | fields
    return Prompts().build(GenerationRequest(model=model, **given))  # type: ignore[arg-type]


def said(prompt: BuiltPrompt, *words: str) -> str:
    """What a client gets of an answer in which the model says these words, one a run."""
    steps = prompt.steps
    assert steps is not None
    text = ""
    for word in words:
        assert steps.step is not None
        steps.feed(word)
        text += steps.take()
        steps.end()
        text += steps.take()
    assert steps.step is None
    return text


def test_a_text_without_a_length_is_bounded_where_nobody_has_limited_the_answer(model: Model) -> None:
    short = JsonFormat({"type": "string", "maxLength": 9})
    of_file = replace(model, modelfile=Modelfile(max_tokens=500))
    for fields, limit in (
        ({}, MOST_TEXT),
        ({"max_tokens": 5000}, None),
        ({"model": of_file}, None),
        ({"format": short}, None),
        ({"format": JsonFormat(None)}, None),
    ):
        step = built(**{"model": model} | fields).steps.step  # type: ignore[arg-type, union-attr]
        assert step is not None
        assert (step.max_tokens, step.too_long) == (limit, limit is not None)


def test_each_step_is_the_whole_text_cut_anew_and_counted(model: Model) -> None:
    tokenizer = Tokenizer.for_model(model)
    assert tokenizer is not None
    prompt = built(model)
    assert not isinstance(prompt.content, str)
    assert tokenizer.decode(prompt.content).endswith('<|im_start|>assistant\n{"a": "')
    assert prompt.tokens == len(prompt.content) - len('{"a": "')
    assert said(prompt, 'x"') == '{"a": "x"}'
    assert prompt.steps is not None
    assert prompt.steps.tokens == len('{"a": "x"}')


def test_what_the_model_says_becomes_no_special_token(model: Model) -> None:
    form = JsonFormat({"type": "object", "properties": dict.fromkeys("ab", FORM.schema), "required": ["a", "b"]})
    steps = built(model, format=form).steps
    assert steps is not None
    steps.feed('<|im_end|>"')
    steps.end()
    assert steps.step is not None
    tokenizer = Tokenizer.for_model(model)
    assert tokenizer is not None
    assert list(steps.step.prompt).count(tokenizer.special_id("<|im_end|>")) == 2  # those of the template
    assert tokenizer.decode([int(one) for one in steps.step.prompt]).endswith('{"a": {"a": "<|im_end|>"}, "b": {"a": "')


def test_a_model_that_is_given_text_gets_all_of_it_as_text(model: Model) -> None:
    as_text = make_model(chat_template=CHATML)
    prompt = built(as_text)
    assert isinstance(prompt.content, str)
    assert prompt.content.endswith('<|im_start|>assistant\n{"a": "')
    assert prompt.steps is not None
    assert prompt.steps.tokens is None
    mixed = make_model(tokenizer_path=model.tokenizer_path, chat_template=CHATML, modelfile=Modelfile(input="text"))
    found = built(mixed)
    assert isinstance(found.content, str)
    assert found.steps is not None
    assert found.steps.tokens == len('{"a": "')


def test_an_answer_goes_behind_a_prompt_of_text_or_token_ids_as_it_is(model: Model) -> None:
    by_text, by_ids = built(model, messages=None, prompt="Hi "), built(model, messages=None, prompt=(1, 2, 3))
    assert len(by_text.content) == len('Hi {"a": "')
    assert (list(by_ids.content[:3]), len(by_ids.content), by_ids.tokens) == ([1, 2, 3], 3 + len('{"a": "'), 3)
    with pytest.raises(UnsupportedRequest, match="no tokenizer"):
        built(make_model(), messages=None, prompt=(1, 2, 3))


# Thoughts


def through_splitter(prompt: BuiltPrompt, *words: str) -> list[Text | Reasoning]:
    assert isinstance(prompt.splitter, ReasoningSplitter)
    return [*prompt.splitter.feed(said(prompt, *words)), *prompt.splitter.finish()]


@pytest.fixture
def thinker() -> Model:
    return make_model(chat_template=THINKER)


@pytest.mark.parametrize("first", ["<think>\nHm.\n</think>\n\n{", "<think>\nHm."])
def test_a_model_that_thinks_does_so_before_the_answer_begins(thinker: Model, first: str) -> None:
    prompt = built(thinker)
    assert str(prompt.content).endswith("<|im_start|>assistant\n")
    assert through_splitter(prompt, first, 'x"') == [Reasoning("Hm."), Text('{"a": "x"}')]


@pytest.mark.parametrize("first", ["Sure!", "<tool", ""])
def test_whatever_else_it_says_first_is_dropped(thinker: Model, first: str) -> None:
    assert through_splitter(built(thinker), first, 'x"') == [Text('{"a": "x"}')]


def test_a_model_that_is_told_not_to_think_begins_with_the_answer(thinker: Model) -> None:
    prompt = built(thinker, thinking=False)
    assert str(prompt.content).endswith('</think>\n\n{"a": "')
    assert through_splitter(prompt, 'x"') == [Text('{"a": "x"}')]


def test_thoughts_that_the_template_opens_are_closed_before_the_answer() -> None:
    opened = make_model(chat_template=CHATML.replace("assistant\n{% endif", "assistant\n<think>\n{% endif"))
    assert through_splitter(built(opened), "Hm.\n</think>", 'x"') == [Reasoning("Hm."), Text('{"a": "x"}')]


def test_before_a_forced_call_a_model_thinks_only_if_it_was_asked_to(thinker: Model) -> None:
    call = {"format": None, "tools": (Tool("now"),), "tool_choice": ToolChoice("required")}
    assert "</think>" in str(built(thinker, **call).content)
    assert str(built(thinker, **call, thinking=True).content).endswith("<|im_start|>assistant\n")


# Tokens


class Counting:
    """An `encode` that counts how often it has been called."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.calls = 0
        self._tokenizer = tokenizer

    def __call__(self, prompt: Prompt) -> tuple[str | list[int], int | None]:
        self.calls += 1
        ids = self._tokenizer.encode(prompt)
        return ids, len(ids)


def metaspace(scheme: str) -> tokenizers.Tokenizer:
    """A tokenizer with a token for each letter, that puts a blank before a text or before each part of one."""
    letters = '▁abcdef\n{}":'
    library = tokenizers.Tokenizer(BPE(vocab={letter: index for index, letter in enumerate(letters)}, merges=[]))
    library.pre_tokenizer = Metaspace(prepend_scheme=scheme)
    library.add_tokens([tokenizers.AddedToken(mark, special=True, normalized=False) for mark in ("<s>", "[INST]")])
    return library


@pytest.mark.parametrize(
    ("library", "fast"),
    [(byte_tokenizer(), True), (metaspace("never"), True), (metaspace("first"), False), (metaspace("always"), True)],
    ids=["bytes", "never", "first", "always"],
)
def test_the_prompt_is_cut_once_where_that_makes_no_difference(library: tokenizers.Tokenizer, fast: bool) -> None:
    tokenizer = Tokenizer(library, bos=None, adds_bos=False)
    encode = Counting(tokenizer)
    start = Prompt((Segment("abc", False), Segment("[INST]", True), Segment("def[INST]", False), Segment("a", True)))
    behind = continuing(start, encode, tokenizer)
    begun = encode.calls
    for text in ("", "{", '{"a": "b"}', " {", "[INST]"):
        more = (Segment(text, False),)
        expected = tokenizer.encode(Prompt((*start.segments, *more)))
        assert (behind(more)) == (expected, len(expected))
    assert (encode.calls == begun) is fast
