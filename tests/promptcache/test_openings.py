"""An opening is what every prompt with the same first messages begins with, in whatever way a template writes it."""

from pathlib import Path

import pytest

from rkllama_flask.catalog.model import Model, Modelfile
from rkllama_flask.generation.prompt import builtin_templates
from rkllama_flask.generation.prompts import Prompts
from rkllama_flask.generation.request import GenerationRequest, Message, Tool
from tests.api.stub import make_model
from tests.serving import ROOT

TEMPLATES = sorted(Path(builtin_templates.__file__).parent.glob("*.jinja"))
SYSTEM = Message("system", "You are a coding assistant.")
TOOL = Tool("look_up", "Looks a word up.", {"type": "object", "properties": {"word": {"type": "string"}}})
SAID = ["Hello!", "7", "\u4e2d\u6587", "  spaces", "<|im_end|>", "You are", "\n\nnew lines"]


@pytest.fixture(params=TEMPLATES, ids=lambda path: path.stem)
def template(request: pytest.FixtureRequest) -> str:
    return str(request.param.read_text())


@pytest.fixture(params=["text", "tokens"])
def model(request: pytest.FixtureRequest, template: str) -> Model:
    tokenizer = ROOT / "tests/native/byte_tokenizer.json" if request.param == "tokens" else None
    return make_model("tiny", chat_template=template, bos_token="<s>", eos_token="</s>", tokenizer_path=tokenizer)


def build(prompts: Prompts, model: Model, *messages: Message, **fields: object) -> tuple[object, ...]:
    """The prompt in the form it is compared in, its opening, and the mark of its conversation."""
    built = prompts.build(GenerationRequest(model, messages=messages, **fields))  # type: ignore[arg-type]
    content = built.content if isinstance(built.content, str) else tuple(built.content)
    return content, built.opening, built.conversation


def test_every_prompt_with_the_same_messages_begins_with_their_opening(model: Model) -> None:
    prompts = Prompts()
    opening = prompts.opening(model, [SYSTEM])
    assert len(opening) >= len(SYSTEM.content)
    for said in SAID:
        content, _, _ = build(prompts, model, SYSTEM, Message("user", said))
        shared = len(opening) - 1 if said[0].isspace() else len(opening)  # white space may join what stands before
        assert content[:shared] == opening[:shared]  # type: ignore[index]


def test_an_opening_of_several_turns_begins_their_prompts_too(model: Model) -> None:
    prompts = Prompts()
    turns = [SYSTEM, Message("user", "Capital of France?"), Message("assistant", "Paris")]
    opening = prompts.opening(model, turns)
    content, _, _ = build(prompts, model, *turns, Message("user", "Of Spain?"))
    assert content[: len(opening)] == opening  # type: ignore[index]
    assert len(opening) > len(prompts.opening(model, [SYSTEM]))


def test_a_prompts_own_opening_is_what_a_cache_of_its_system_message_would_hold(model: Model) -> None:
    prompts = Prompts(openings_from=1)
    _, opening, _ = build(prompts, model, SYSTEM, Message("user", "Hello!"))
    assert opening == prompts.opening(model, [SYSTEM])


def test_what_comes_later_changes_neither_the_opening_nor_the_conversation(model: Model) -> None:
    prompts = Prompts(openings_from=1)
    first = [SYSTEM, Message("user", "Hello!")]
    _, opening, conversation = build(prompts, model, *first)
    later = [*first, Message("assistant", "Hi."), Message("user", "And now?")]
    content, of_later, still = build(prompts, model, *later)
    assert still == conversation
    if "last_question" in str(model.chat_template):  # Mistral's system text moves along with the last question
        assert opening != of_later == opening[: len(of_later)]  # type: ignore[arg-type,index]
    else:
        assert content[: len(opening)] == of_later == opening  # type: ignore[arg-type,index]
    _, same, another = build(prompts, model, SYSTEM, Message("user", "Good morning!"))
    assert same == opening
    assert another != conversation


def test_tools_belong_to_the_opening() -> None:
    qwen = next(path for path in TEMPLATES if path.stem == "qwen3").read_text()
    model, prompts = make_model("tiny", chat_template=qwen), Prompts(openings_from=1)
    without = build(prompts, model, SYSTEM, Message("user", "Hello!"))[1]
    with_tools = build(prompts, model, SYSTEM, Message("user", "Hello!"), tools=(TOOL,))[1]
    assert isinstance(with_tools, str)
    assert "look_up" in with_tools
    assert with_tools != without


def test_what_a_modelfile_says_first_belongs_to_the_opening() -> None:
    modelfile = Modelfile(system="Be brief.", messages=(("user", "Ping"), ("assistant", "Pong")))
    model, prompts = make_model("tiny", modelfile=modelfile), Prompts(openings_from=1)
    _, opening, _ = build(prompts, model, Message("user", "Hello!"))
    assert isinstance(opening, str)
    assert "Be brief." in opening
    assert "Pong" in opening


def test_short_prompts_and_prompts_without_a_user_have_no_opening_to_keep() -> None:
    model = make_model("tiny")
    assert build(Prompts(openings_from=1000), model, SYSTEM, Message("user", "x"))[1] is None
    assert build(Prompts(openings_from=0), model, SYSTEM, Message("user", "x"))[1] is None
    assert build(Prompts(openings_from=1), model, SYSTEM)[1] is None
