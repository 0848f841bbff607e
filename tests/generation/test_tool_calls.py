"""Tool calls in every dialect, wherever the tokens are cut; and everything else stays text."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rkllama_flask.errors import InvalidRequest
from rkllama_flask.generation.events import Text, ToolArguments, ToolCallFinished, ToolCallStarted
from rkllama_flask.generation.output.tool_calls import ToolCallParser
from rkllama_flask.generation.output.tool_dialects.dialects import detect_dialect
from rkllama_flask.generation.request import Tool, ToolChoice
from tests.generation.pieces import cuts, every_cut

PROPERTIES = {"city": {"type": "string"}, "days": {"type": "integer"}, "where": {"type": "object"}}
TOOLS = (
    Tool("get_weather", parameters={"type": "object", "properties": PROPERTIES}),
    Tool("get", parameters={"type": "object", "properties": {"key": {"type": "string"}}}),
    Tool("now"),
)
WEATHER = {"city": 'Saint "Ö"', "days": 3, "where": {"in": ["a", {"b": None}]}}
BOTH = [("get_weather", WEATHER), ("now", {})]

_ARGUMENTS = json.dumps(WEATHER)
_OBJECTS = [f'{{"name": "get_weather", "arguments": {_ARGUMENTS}}}', '{"name": "now", "arguments": {}}']
_LLAMA = [one.replace("arguments", "parameters") for one in _OBJECTS]
_PYTHON = """get_weather(city='Saint "Ö"', days=3, where={'in': ['a', {'b': None}]})"""

TWO_CALLS = {
    "hermes": "".join(f"<tool_call>\n{one}\n</tool_call>\n" for one in _OBJECTS),
    "hermes, one tag": f"<tool_call>\n{_OBJECTS[0]}\n{_OBJECTS[1]}\n</tool_call>",
    "hermes, a list": f"<tool_call>[{', '.join(_OBJECTS)}]</tool_call>",
    "qwen3-coder": (
        "<tool_call>\n<function=get_weather>\n<parameter=city>\n"
        'Saint "Ö"\n</parameter>\n<parameter=days>\n3\n</parameter>\n<parameter=where>\n{"in": ["a", {"b": null}]}\n'
        "</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=now>\n</function>\n</tool_call>"
    ),
    "llama3": f"{_LLAMA[0]}; {_LLAMA[1]}",
    "llama3, lines": f"{_LLAMA[0]}\n{_LLAMA[1]}",
    "llama3, python_tag": f"<|python_tag|>{_LLAMA[0]}; {_LLAMA[1]}<|eom_id|>",
    "llama3, function tags": f"<function=get_weather>{_ARGUMENTS}</function>\n<function=now>{{}}</function>",
    "llama3, pythonic": f"[{_PYTHON}, now()]",
    "mistral": f'[TOOL_CALLS] [{_OBJECTS[0]}, {_OBJECTS[1][:-1]}, "id": "abcdefghi"}}]</s>',
    "mistral, args": f"[TOOL_CALLS]get_weather[ARGS]{_ARGUMENTS}[TOOL_CALLS]now[ARGS]{{}}",
    "mistral, ids": f"[TOOL_CALLS]get_weather[CALL_ID]abc[ARGS]{_ARGUMENTS}[TOOL_CALLS]now[CALL_ID]d[ARGS]{{}}",
    "gemma, tool_code": f"```tool_code\n{_PYTHON}\nprint(now())\n```",
    "functiongemma": (
        '<start_function_call>call:get_weather{city:<escape>Saint "Ö"<escape>,days:3,where:{in:[<escape>a<escape>,'
        "{b:null}]}}<end_function_call><start_function_call>call:now{}<end_function_call>"
    ),
    "gemma4": (
        '<|tool_call>call:get_weather{city:<|"|>Saint "Ö"<|"|>,days:3,where:{in:[<|"|>a<|"|>,{b:null}]}}<tool_call|>'
        "<|tool_call>call:now{}<tool_call|>"
    ),
    "deepseek": "<｜tool▁calls▁begin｜>"
    + "\n".join(
        f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{arguments}\n```<｜tool▁call▁end｜>"
        for name, arguments in (("get_weather", _ARGUMENTS), ("now", "{}"))
    )
    + "<｜tool▁calls▁end｜>",
    "deepseek-v3.1": "<｜tool▁calls▁begin｜>"
    + "".join(
        f"<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{arguments}<｜tool▁call▁end｜>"
        for name, arguments in (("get_weather", _ARGUMENTS), ("now", "{}"))
    )
    + "<｜tool▁calls▁end｜>",
    "phi": f"<|tool_call|>[{', '.join(_OBJECTS)}]<|/tool_call|>",
    "phi, functools": f"functools[{', '.join(_OBJECTS)}]",
    "internlm2": "".join(f"<|action_start|><|plugin|>\n{one}<|action_end|>\n" for one in _LLAMA),
    "minicpm": f"<|tool_call_start|>\n```python\n{_PYTHON}\nnow()\n```\n<|tool_call_end|>",
    "lfm2": f"<|tool_call_start|>[{_PYTHON}, now()]<|tool_call_end|>",
    "bare list": f"[{', '.join(_OBJECTS)}]",
    "fenced": f"```json\n[{', '.join(_OBJECTS)}]\n```",
    "fenced, plain": f"```\n{_OBJECTS[0]}\n{_OBJECTS[1]}\n```",
    "openai": json.dumps([{"type": "function", "id": "x", "function": json.loads(one)} for one in _OBJECTS]),
}


def parsed(pieces, **options):
    """(Text, calls) of text that arrives in these pieces; a call is (name, arguments)."""
    parser = ToolCallParser(TOOLS, **options)
    return collected([event for piece in pieces for event in parser.feed(piece)] + parser.finish())


def collected(events):
    text, calls, ids, finished = "", [], set(), 0
    for event in events:
        if isinstance(event, Text):
            assert event.text
            text += event.text
        elif isinstance(event, ToolCallStarted):
            assert event.index == len(calls)
            assert event.index == finished
            assert re.fullmatch(r"call_[\w-]{24}", event.id)
            ids.add(event.id)
            calls.append([event.name, ""])
        elif isinstance(event, ToolCallFinished):
            assert event.index == finished
            finished += 1
        else:
            assert isinstance(event, ToolArguments)
            assert event.index == len(calls) - 1
            calls[-1][1] += event.text
    assert len(ids) == len(calls) == finished
    calls = [(name, json.loads(arguments)) for name, arguments in calls]
    assert all(isinstance(arguments, dict) for _, arguments in calls)
    return text, calls


@pytest.mark.parametrize("dialect", TWO_CALLS)
def test_every_dialect_is_understood_wherever_it_is_cut(dialect):
    for pieces in every_cut(TWO_CALLS[dialect]):
        assert parsed(pieces) == ("", BOTH)


@pytest.mark.parametrize("dialect", TWO_CALLS)
def test_text_before_and_after_calls_stays(dialect):
    text, calls = parsed([f"I will look.\n{TWO_CALLS[dialect]}\n\nDone."])
    assert calls == BOTH
    assert re.fullmatch(r"I will look\.\n\s*Done\.", text)


@pytest.mark.parametrize("dialect", TWO_CALLS)
def test_functions_that_are_not_offered_are_text_unchanged(dialect):
    text = TWO_CALLS[dialect].replace("get_weather", "get_wether").replace("now", "later")
    for pieces in ([text], list(text)):
        assert parsed(pieces) == (text, [])


@pytest.mark.parametrize("dialect", TWO_CALLS)
def test_with_no_tools_everything_is_text(dialect):
    parser = ToolCallParser(())
    assert parser.feed(TWO_CALLS[dialect]) == [Text(TWO_CALLS[dialect])]
    assert parser.finish() == []


@pytest.mark.parametrize("dialect", TWO_CALLS)
def test_with_one_call_wanted_the_answer_is_done_after_it(dialect):
    parser = ToolCallParser(TOOLS, only_one=True)
    events = []
    for piece in TWO_CALLS[dialect]:
        assert not parser.done or not parser.feed("more")
        events += parser.feed(piece)
    assert parser.done
    assert collected(events + parser.finish()) == ("", BOTH[:1])


_JSON_SCRAPS = [
    '{"name": "now"',
    '"arguments": ',
    "{",
    "}",
    "[",
    "]",
    '"',
    ", ",
    "\n",
    " ",
    "x",
    ": ",
    "name",
    "\\",
    "'",
    "é",
]
_MARKED_SCRAPS = ["<tool_call>", "</tool_call>", "<function=get>", "<parameter=key>", "</parameter>", "[TOOL_CALLS]"]
_OTHER_SCRAPS = [
    "get_weather(",
    "now()",
    "```",
    "json",
    "call:get{",
    "functools[",
    "<|tool_call>",
    "<｜tool▁call▁begin｜>",
]
SCRAPS = st.lists(st.sampled_from([*_JSON_SCRAPS, *_MARKED_SCRAPS, *_OTHER_SCRAPS, "<", "`"]), max_size=14).map("".join)


@given(SCRAPS.flatmap(lambda text: cuts(text).map(lambda pieces: (text, pieces))))
def test_any_text_gives_the_same_events_however_it_is_cut(case):
    text, pieces = case
    assert parsed(pieces) == parsed([text]) == parsed(list(text))


@given(SCRAPS)
def test_where_no_call_is_found_nothing_is_lost(text):
    found, calls = parsed([text])
    if not calls:
        assert found == text


@given(st.sampled_from(sorted(TWO_CALLS)), st.data())
def test_a_call_that_breaks_off_is_completed_or_was_none(dialect, data):
    text = TWO_CALLS[dialect]
    broken = text[: data.draw(st.integers(0, len(text)))]
    found, calls = parsed([broken])
    assert [name for name, _ in calls] in (["get_weather", "now"][:count] for count in range(3))
    if not calls:
        assert found == broken


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>\n{'name': 'get', 'arguments': {'key': 'v'}}\n</tool_call>",
        '<tool_call>\n{"name": "get", "arguments": {"key": "v",},}\n</tool_call>',
        '<tool_call>\n{"name": "get", "parameters": {"key": "v"}}\n</tool_call>',
        '<tool_call>\n{"name": "get", "arguments": "{\\"key\\": \\"v\\"}"}\n</tool_call>',
        '<tool_call>\n{"arguments": {"key": "v"}, "name": "get"}\n</tool_call>',
        '<tool_call>\n{"name": "get", "arguments": {"key": "v"}}}\n</tool_call>',
        '<tool_call>\n{"name": "get", "arguments": {"key": "v"}\n</tool_call>',
        '<tool_call>\n{"name": "get", "arguments": {"key": "v"\n</tool_call>',
        '<tool_call>\n{"name": "get", "arguments": {"key": "v"}}',
        '<tool_call>\n{"name": "get", "arguments": {"key": "v"',
        '<tool_call>\n{"name": "get", "id": 7, "why": ["x"], "arguments": {"key": "v"}, "more": {"a": 1}}</tool_call>',
        '<tool_call>\n```json\n{"name": "get", "arguments": {"key": "v"}}\n```\n</tool_call>',
        '<tool_call>\nget(key="v")\n</tool_call>',
        "<tool_call>\n<function=get>\n<parameter=key>\nv\n</function>\n</tool_call>",
        "<function=get>\n<parameter=key>\nv\n</parameter>\n</function>",
        '```tool_code\nprint(get("v"))\n```',
        '<|python_tag|>get.call(key="v")',
        '{"type": "function", "name": "get", "parameters": {"key": "v"}}',
        '  {"name": "get", "args": {"key": "v"}}\n',
    ],
)
def test_what_small_models_get_wrong_is_tolerated(text):
    for pieces in ([text], list(text)):
        assert parsed(pieces) == ("", [("get", {"key": "v"})])


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "now"}</tool_call>',
        '<tool_call>{"name": "now", "arguments": null}</tool_call>',
        '<tool_call>{"name": "now", "arguments": ""}</tool_call>',
        '<tool_call>{"name": "now", "arguments": []}</tool_call>',
        "<tool_call><function=now></function></tool_call>",
    ],
)
def test_a_call_without_arguments_has_an_empty_object(text):
    assert parsed([text]) == ("", [("now", {})])


@pytest.mark.parametrize(
    "text",
    [
        "Use <tool_call> and </tool_call> around it.",
        "<tool_call></tool_call>",
        "<tool_call>{}</tool_call>",
        '<tool_call>{"name": "get", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "get", "arguments": "v"}</tool_call>',
        '{"name": "get"}',
        '{"name": "get", "age": 3}',
        '{"results": [{"name": "get"}]}',
        'She said {"name": "now", "arguments": {}} in the middle of a line.',
        '{"type": "function", "function": {"name": "get", "description": "d", "parameters": {"key": "v"}}}',
        "```python\nnow()\n```",
        "```json\n[1, 2]\n```",
        "[1] A reference, and `code`.",
        "[now] is a word",
        "\n  \n",
        '<tool_call>\n{"name": "get',  # it may have become get_weather
        "A tail `",
        "A tail <tool_ca",
    ],
)
def test_what_is_no_call_is_text_unchanged(text):
    for pieces in ([text], list(text)):
        assert parsed(pieces) == (text, [])


def test_text_streams_without_delay_but_for_an_undecided_marker():
    parser = ToolCallParser(TOOLS)
    assert parser.feed("Let") == [Text("Let")]
    assert parser.feed(" me see. 1 <") == [Text(" me see. 1 ")]
    assert parser.feed(" 2 if {") == [Text("< 2 if {")]
    assert parser.feed("\n") == [Text("\n")]
    assert parser.feed("<tool") == []
    assert parser.feed("box>") == [Text("<toolbox>")]


def test_arguments_stream_as_they_come():
    parser = ToolCallParser(TOOLS)
    assert parser.feed('<tool_call>\n{"name": "get", "argum') == []
    (started, first) = parser.feed('ents": {"key": "one')
    assert (started.index, started.name) == (0, "get")
    assert first == ToolArguments(0, '{"key": "one')
    assert parser.feed(" two") == [ToolArguments(0, " two")]
    assert parser.feed('"}') == [ToolArguments(0, '"}'), ToolCallFinished(0)]
    assert parser.feed("}\n</tool_call>") == []
    assert parser.finish() == []


@pytest.mark.parametrize(
    ("schema", "written", "value"),
    [
        ({"type": "string"}, "5", "5"),
        ({"type": "string"}, "a,\n b ", "a,\n b "),
        ({"type": "integer"}, "5", 5),
        ({"type": "integer"}, "5.0", 5),
        ({"type": "integer"}, "many", "many"),
        ({"type": "number"}, "2.5", 2.5),
        ({"type": "boolean"}, "True", True),
        ({"type": ["string", "null"]}, "null", None),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "7", 7),
        ({"enum": [1, 2]}, "2", 2),
        ({"enum": ["1", "2"]}, "2", "2"),
        ({"type": "array"}, "['a', 1]", ["a", 1]),
        ({"type": "object"}, '{"a": true}', {"a": True}),
        ({"type": 5}, "text", "text"),
        ({}, "5", 5),
        ({}, "NaN", "NaN"),
        (None, "text, more", "text, more"),
    ],
)
def test_parameters_written_as_text_get_the_type_of_their_schema(schema, written, value):
    parser = ToolCallParser([Tool("f", parameters={"properties": {"x": schema}})])
    text = f"<function=f>\n<parameter=x>\n{written}\n</parameter>\n</function>"
    assert collected(parser.feed(text) + parser.finish()) == ("", [("f", {"x": value})])


def test_python_arguments_without_a_name_get_the_names_of_the_schema():
    assert parsed(['[get_weather("Paris", 3, where={}), now(1)]']) == (
        "",
        [("get_weather", {"city": "Paris", "days": 3, "where": {}}), ("now", {"argument1": 1})],
    )


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ('get_weather(city="Paris", days=3)', [("get_weather", {"city": "Paris", "days": 3})]),
        ("  now()  \n", [("now", {})]),
        ("get('v')\nnow()", [("get", {"key": "v"}), ("now", {})]),
        (
            "get_weather(city='x', where={'a': [True, None, \"b)\"]})",
            [("get_weather", {"city": "x", "where": {"a": [True, None, "b)"]}})],
        ),
    ],
)
def test_a_call_alone_on_its_line_needs_no_mark(text, calls):
    for pieces in every_cut(text):
        assert parsed(pieces) == ("", calls)
    assert parsed([f"I will look.\n\n{text}"])[1] == calls


@pytest.mark.parametrize(
    "text",
    [
        "get_weather(city, days) tells the weather.",
        "get_weather(city, days)",
        "get_weather(city: str, days: int)",
        "get_weather(the city that you want)",
        "get_weather(city='Paris'",
        "I call now().",
        "* now()",
        "now() or later",
        "`now()`",
        "now",
        "nowhere()",
        "later()",
        "So:\n```python\nnow()\nget('v')\n```\nDone.",
        "~ ```\n now",
    ],
)
def test_a_line_that_is_not_beyond_doubt_a_call_is_text(text):
    for pieces in (*every_cut(text), list(text)):
        assert parsed(pieces) == (text, [])


def test_no_tool_choice_means_no_calls():
    parser = ToolCallParser.for_request(TOOLS, ToolChoice("none"))
    text = TWO_CALLS["hermes"]
    assert collected(parser.feed(text) + parser.finish()) == (text, [])


def test_without_parallel_calls_the_first_one_ends_the_answer():
    parser = ToolCallParser.for_request(TOOLS, ToolChoice(), parallel=False)
    assert collected(parser.feed(TWO_CALLS["hermes"])) == ("", BOTH[:1])
    assert parser.done


def test_a_named_call_counts_only_for_that_function_and_only_once():
    parser = ToolCallParser.for_request(TOOLS, ToolChoice("named", "get"))
    call = '<tool_call>\n{"name": "get", "arguments": {"key": "v"}}\n</tool_call>\n'
    assert collected(parser.feed(call + TWO_CALLS["hermes"])) == ("", [("get", {"key": "v"})])
    assert parser.done


def test_a_function_that_is_not_offered_can_not_be_chosen():
    with pytest.raises(InvalidRequest) as refused:
        ToolCallParser.for_request(TOOLS, ToolChoice("named", "nope"))
    assert refused.value.param == "tool_choice"


@pytest.mark.parametrize(
    ("template", "family", "name"),
    [
        (None, None, "hermes"),
        ("{{ messages }}", "llama", "hermes"),
        ("{{ tools }}", "llama", "llama3"),
        ("{{ tools }}", "mistral3", "mistral"),
        ("<tool_call>", "qwen2", "hermes"),
        ("<tool_call><function=...><parameter=...>", "qwen3", "qwen3-coder"),
        ('{"name": function name, "parameters": dictionary}', "llama", "llama3"),
        ("<|python_tag|>", "llama", "llama3"),
        ("[TOOL_CALLS]", "llama", "mistral"),
        ("[TOOL_CALLS] [ARGS]", "llama", "mistral-args"),
        ("<|tool_call>call:", "gemma4", "gemma4"),
        ("<start_function_call>", "gemma3", "functiongemma"),
        ("<｜tool▁call▁begin｜> ```json", "qwen2", "deepseek"),
        ("<｜tool▁call▁begin｜>", "deepseek2", "deepseek-v3.1"),
        ("<|tool|>", "phi3", "phi"),
        ("<|tool_call_start|> ```python", "minicpm", "minicpm"),
    ],
)
def test_the_dialect_is_told_by_the_template(template, family, name):
    assert detect_dialect(template, family).name == name
