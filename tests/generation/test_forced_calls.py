"""Tool calls that have to be made: of an offered function, with arguments that its parameters allow."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rkllama_flask.errors import AnswerUnfit, InvalidRequest
from rkllama_flask.generation.events import ToolArguments, ToolCallFinished, ToolCallStarted
from rkllama_flask.generation.guided.filling import Filling
from rkllama_flask.generation.guided.forced_calls import CheckedCalls, ForcedCall, checkers_of, parameters_of
from rkllama_flask.generation.guided.written import Written
from rkllama_flask.generation.output.tool_calls import ToolCallParser
from rkllama_flask.generation.output.tool_dialects.dialects import DIALECTS, HERMES
from rkllama_flask.generation.request import Tool, ToolChoice
from tests.generation.filled import encode, play

WEATHER = Tool(
    "get_weather",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}, "days": {"type": "integer"}},
        "required": ["city", "unit", "days"],
    },
)
TOOLS = (WEATHER, Tool("get_time", parameters={"type": "object", "properties": {}}), Tool("now"))
REQUIRED = ToolChoice("required")


def called(say, choice=REQUIRED, *, dialect=HERMES, tools=TOOLS, parallel=False):
    """(The calls that a client gets, the prompts of the runs)."""
    if not callable(say):
        words = iter(say)
        say = lambda _: next(words)  # noqa: E731
    call = ForcedCall(tools, choice, dialect, parallel=parallel)
    written = Written()
    text, prompts = play(Filling(call.script(written), written, encode), say)
    parser = CheckedCalls(ToolCallParser.for_request(tools, choice, parallel=parallel), call.checkers)
    calls = []
    for event in [event for letter in text for event in parser.feed(letter)] + parser.finish():
        if isinstance(event, ToolCallStarted):
            calls.append([event.name, ""])
        elif isinstance(event, ToolArguments):
            calls[event.index][1] += event.text
        else:
            assert isinstance(event, ToolCallFinished)
    assert parser.problem is None
    return [(name, json.loads(arguments)) for name, arguments in calls], prompts


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_call_is_begun_in_the_models_own_way_and_filled_in(dialect):
    calls, prompts = called(["get_w", 'Rome"', "F", " 3"], dialect=dialect)
    assert calls == [("get_weather", {"city": "Rome", "unit": "F", "days": 3})]
    assert prompts[0] == (dialect.begin if dialect.after_name.endswith("{") else HERMES.begin)


def test_a_named_function_is_called_without_asking_which():
    calls, prompts = called(['Rome"', "C", " 3"], ToolChoice("named", "get_weather"))
    assert calls == [("get_weather", {"city": "Rome", "unit": "C", "days": 3})]
    assert prompts[0] == '<tool_call>\n{"name": "get_weather", "arguments": {"city": "'


def test_a_function_without_parameters_is_called_without_arguments():
    for name in ("get_time", "now"):
        assert called(["whatever"], ToolChoice("named", name))[0] == [(name, {})]


def test_a_model_that_asks_for_several_calls_gets_them_where_it_may():
    words = ['get_weather"', 'Rome"', "C", " 1", "\n<tool_call>", 'get_time"', "\n", "I am done"]
    both = [("get_weather", {"city": "Rome", "unit": "C", "days": 1}), ("get_time", {})]
    assert called(words, parallel=True)[0] == both
    assert called(words)[0] == both[:1]


def test_a_model_that_only_repeats_itself_is_stopped():
    def say(prompt):
        return "\n<tool_call>" if prompt.endswith("</tool_call>") else 'now"'

    assert called(say, parallel=True)[0] == [("now", {})]


@pytest.mark.parametrize("name", ["<|im_end|>", 'a"b', "[INST]", "a\nb", "é"])
def test_any_name_can_be_called_and_brings_no_markup_into_the_prompt(name):
    call = ForcedCall([Tool(name)], ToolChoice("named", name), HERMES)
    written = Written()
    list(call.script(written))
    assert all(not segment.trusted for segment in written.segments if name in segment.text)
    assert called(["x"], ToolChoice("named", name), tools=[Tool(name)])[0] == [(name, {})]


def test_parameters_that_can_not_be_used_are_refused_before_anything_runs():
    for parameters in ({"type": "array"}, {"type": "object", "properties": {"a": {"$ref": "https://example.com"}}}):
        with pytest.raises(InvalidRequest) as refused:
            ForcedCall([Tool("f", parameters=parameters)], REQUIRED, HERMES)
        assert refused.value.param == "tools"


@given(st.lists(st.text(max_size=12), min_size=1, max_size=6))
@settings(max_examples=100, deadline=None)
def test_whatever_the_model_says_it_is_a_valid_call_or_an_error(words):
    asked = []

    def say(prompt):
        asked.append(prompt)
        return words[len(asked) % len(words)]

    try:
        calls, _ = called(say)
    except AnswerUnfit:
        return
    [(name, arguments)] = calls
    tool = next(tool for tool in TOOLS if tool.name == name)
    assert checkers_of({name: parameters_of(tool)})[name].problem(arguments) is None


def test_arguments_that_were_promised_to_be_valid_and_are_not_are_told():
    parser = CheckedCalls(ToolCallParser(TOOLS), checkers_of({"get_weather": parameters_of(WEATHER)}))
    parser.feed('<tool_call>{"name": "get_weather", "arguments": {"city": "Rome", "unit": "K"}}</tool_call>')
    parser.feed('<tool_call>{"name": "now", "arguments": {"x": 1}}</tool_call>')
    parser.finish()
    assert parser.problem is not None
    assert parser.problem.startswith("The call of 'get_weather': ")
