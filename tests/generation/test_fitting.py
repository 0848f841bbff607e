"""Every conversation that the APIs allow reaches the model, whatever its template takes."""

import json
import os
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rkllama_flask.errors import TemplateFailed
from rkllama_flask.generation.prompt.builtin_templates import template_text
from rkllama_flask.generation.prompt.left_out import left_out
from rkllama_flask.generation.prompt.template_messages import turns
from rkllama_flask.generation.prompt.templates import ChatTemplate
from rkllama_flask.generation.request import Message, ToolCall
from tests.generation.data.cases import BOS, FAMILIES, HERE
from tests.generation.shapes import MORE, SHAPES, TOOLS, conversation, lost, verdict

EXAMPLES = int(os.environ.get("RKLLAMA_TEMPLATE_EXAMPLES", "0"))
"""So many conversations are tried, new ones each time; 0: a few hundred, always the same."""

FOLDER = os.environ.get("RKLLAMA_TEMPLATE_FOLDER")
"""Templates to be tried beside our own."""

OWN = {path.stem: path.read_text(encoding="utf-8") for path in sorted((HERE / "templates").glob("*.jinja"))}
TEMPLATES = {
    **OWN,
    **{family: template_text(family) for family in FAMILIES},
    **(
        {path.stem: path.read_text(encoding="utf-8") for path in sorted(Path(FOLDER).glob("*.jinja"))} if FOLDER else {}
    ),
}


def template(name: str) -> ChatTemplate:
    return ChatTemplate(TEMPLATES[name], name, BOS.get(name, "<s>"), "</s>")


ODD = (
    "",
    " ",
    "\n",
    '"',
    "'",
    "\\",
    "é",
    "中",
    "{",
    "}",
    "<|im_end|>",
    "[INST]",
    "</s>",
    "<b>",
    "😀",
    "\t",
    "%s",
    "{{ x }}",
)
around = st.lists(st.sampled_from(ODD), max_size=3).map("".join)


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """Any roles in any order; results of any call or of none; arguments of any JSON, or cut."""
    numbers = count(1)
    ids: list[str | None] = []
    found: list[Message] = []

    def text(kind: str = "said") -> str:
        return f"{draw(around)}text-{next(numbers)}-{kind}{draw(around)}"

    for role in draw(
        st.lists(st.sampled_from(("system", "user", "assistant", "calls", "tool")), min_size=1, max_size=9)
    ):
        if role == "calls":
            calls = [draw_call(draw, text("argued"), next(numbers)) for _ in range(draw(st.integers(1, 3)))]
            ids = [*ids[-2:], *(call.id for call in calls)]
            found.append(Message("assistant", text() if draw(st.booleans()) else "", tool_calls=tuple(calls)))
        elif role == "tool":
            result = text()
            result = json.dumps({"r": [result]}) if draw(st.booleans()) else result
            found.append(Message("tool", result, tool_call_id=draw(st.sampled_from(ids)) if ids else None))
        else:
            found.append(Message(role, text()))  # type: ignore[arg-type]
    return found


def draw_call(draw: st.DrawFn, text: str, number: int) -> ToolCall:
    shapes: tuple[Any, ...] = ({"a": text}, {"a": {"b": [text, 1, None]}, "c": True}, [text], text)
    arguments = json.dumps(draw(st.sampled_from(shapes)), ensure_ascii=draw(st.booleans()))
    arguments = arguments if draw(st.integers(0, 4)) else arguments[:-1]
    return ToolCall("look", arguments, draw(st.sampled_from((None, f"call_{number}", f"{number:09}"))))


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("shape", [*SHAPES.values(), *MORE])
def test_every_shape_of_conversation_reaches_every_template(name: str, shape: str) -> None:
    assert verdict(template(name), shape) == ""


tried = count()


@settings(
    max_examples=EXAMPLES or 400,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
@given(name=st.sampled_from(sorted(TEMPLATES)), messages=conversations(), tools=st.booleans())
def test_every_text_of_every_message_stands_in_the_prompt_in_order(
    name: str, messages: list[Message], tools: bool
) -> None:
    next(tried)
    prompt = template(name).render(messages, TOOLS if tools else [])
    assert lost(messages, prompt.text) == [] or prompt.left_out
    assert not prompt.left_out


@pytest.fixture(scope="module", autouse=True)
def _told(request: pytest.FixtureRequest) -> Any:
    yield
    if EXAMPLES:
        print(f"\n{next(tried)} random conversations through {len(TEMPLATES)} templates")


class TestWhatIsDone:
    """With templates in the shapes of published ones."""

    def test_neighbours_of_one_role_are_joined_where_turns_must_alternate(self) -> None:
        text = template("alternating").render([Message("user", "a"), Message("user", "b")]).text
        assert text == "<turn of user>a\n\nb</turn><turn of assistant>"

    def test_an_answer_that_comes_first_follows_an_empty_question(self) -> None:
        text = template("alternating").render([Message("assistant", "Welcome!"), Message("user", "Hi")]).text
        assert text.startswith("<turn of user></turn><turn of assistant>Welcome!</turn><turn of user>Hi</turn>")

    def test_only_a_system_message_is_no_empty_prompt(self) -> None:
        assert "Be brief." in template("by_turns_but_calls").render([Message("system", "Be brief.")]).text
        assert "Be brief." in template("wants_a_query").render([Message("system", "Be brief.")]).text

    def test_calls_of_one_turn_are_written_one_after_another_each_with_its_result(self) -> None:
        calls = (ToolCall("look", '{"a": "x"}', "1"), ToolCall("look", '{"a": "y"}', "2"))
        history = [Message("user", "q"), Message("assistant", tool_calls=calls)]
        history += [Message("tool", "of y", tool_call_id="2"), Message("tool", "of x", tool_call_id="1")]
        text = template("one_call").render(history, TOOLS).text
        places = [text.index(part) for part in ('"x"}', "of x", '"y"}', "of y")]
        assert places == sorted(places)

    def test_text_beside_a_call_gets_a_turn_before_it_where_the_template_drops_it(self) -> None:
        text = template("one_call").render(conversation("U T R"), TOOLS).text
        assert text.index("<assistant>text-2-said") < text.index("<assistant>{")

    def test_what_a_template_writes_itself_is_left_to_it(self) -> None:
        history = conversation("S U A U C R A U")
        assert "<tool_response>\ntext" not in template("one_call").render(history, TOOLS).text
        assert template("one_call").render(history, TOOLS).text.count("<assistant>") == 4

    def test_damaged_arguments_are_text(self) -> None:
        for name in TEMPLATES:
            assert '{"a": "text-3-argued' in template(name).render(conversation("U B R U"), TOOLS).text.replace(
                '\\"', '"'
            )

    @pytest.mark.parametrize("name", sorted(OWN))
    @pytest.mark.parametrize("shape", ["U A U A U A", "A U A U", "U U A A U U", "U C R A U C R", "S U S A S U A"])
    def test_a_later_message_changes_nothing_of_what_stands_before_it(self, name: str, shape: str) -> None:
        if name == "by_turns_but_calls" and "S" in shape:
            pytest.skip("it moves the system's text itself")
        history = conversation(shape)
        whole = template(name).render(history, add_generation_prompt=False).text
        for end in range(1, len(history)):
            said = template(name).render(history[:end], add_generation_prompt=False).text
            last = history[end - 1].content or history[end - 1].tool_calls[0].name
            assert whole.startswith(said[: said.rindex(last)])


class TestWhatCanNotBeWritten:
    def test_a_message_that_the_template_drops_is_named(self) -> None:
        deaf = ChatTemplate("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}")
        assert deaf.render(conversation("U A U")).left_out == (1,)
        assert deaf.render(conversation("U")).left_out == ()

    def test_a_template_that_refuses_everything_is_quoted(self) -> None:
        with pytest.raises(TemplateFailed, match="not today"):
            ChatTemplate("{{ raise_exception('not today') }}").render(conversation("U A U"))


class TestLeftOut:
    def find(self, rendered: str, *messages: Message) -> list[int]:
        return left_out(turns(messages), rendered)

    def test_a_text_that_is_missing_or_out_of_order_is_found(self) -> None:
        messages = [Message("user", "first one"), Message("assistant", "second one"), Message("user", "third one")]
        assert self.find("first one second one third one", *messages) == []
        assert self.find("first one third one", *messages) == [1]
        assert self.find("second one first one third one", *messages) == [1]

    def test_an_equal_text_does_not_stand_for_two(self) -> None:
        assert self.find("[yes]", Message("user", "yes"), Message("user", "yes")) == [1]

    def test_the_form_of_json_and_space_at_the_ends_count_for_nothing(self) -> None:
        call = ToolCall("look", json.dumps({"a": 'say "é"\n', "b": ["x y"]}))
        messages = [
            Message("user", "  hi \n"),
            Message("assistant", tool_calls=(call,)),
            Message("tool", '{"k": "v w"}'),
        ]
        assert self.find("""hi look {'a': 'say "é"\\n', 'b': ['x y']} <k>v w</k>""", *messages) == []
        assert self.find('hi look {"a":"say \\"\\u00e9\\"\\n","b":["x y"]} "{\\"k\\": \\"v w\\"}"', *messages) == []
        assert self.find("hi look {'a': 'say', 'b': ['x y']} <k>v w</k>", *messages) == [1]

    def test_old_thoughts_may_be_dropped(self) -> None:
        assert self.find("yes", Message("assistant", "<think>hm</think>\n\nyes", reasoning="well")) == []
