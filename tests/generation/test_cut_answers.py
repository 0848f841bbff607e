"""Whatever cuts an answer, in every API, streamed and whole: no client gets half a call or value as a whole one."""

import json
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import scripted_library
from tests.generation.cut_answers import APIS, MODEL, NAME, TEXT_APIS, Answer, Asked
from tests.serving import Server, start_server

ARGUMENTS = {"path": "/home/user/project/build/tmp", "force": True}
CALL = f'<tool_call>\n{{"name": "{NAME}", "arguments": {json.dumps(ARGUMENTS)}}}\n</tool_call>'
OTHER = CALL.replace("/project/", "/other/")
TWICE = f"I will clean up.\n{CALL}\n{OTHER}"
LIMITS = range(1, 40)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("cut")
    started = start_server(folder, library=scripted_library("1.3"), models={f"{MODEL}.rkllm": "load_ms=0"})
    yield started
    started.end()


Ask = Callable[[Asked], Answer]


@pytest.fixture
def ask(request: pytest.FixtureRequest, server: Server) -> Ask:
    name, way = request.param.split(", ")
    return lambda asked: (APIS | TEXT_APIS)[name](server, asked, stream=way == "streamed")


def through(*names: str) -> pytest.MarkDecorator:
    """Through these APIs, streamed and whole."""
    ways = [f"{name}, {way}" for name in names for way in ("whole", "streamed")]
    return pytest.mark.parametrize("ask", ways, indirect=True)


@through(*APIS)
def test_a_limit_leaves_the_calls_that_were_finished_and_the_text_of_the_one_that_was_not(ask: Ask) -> None:
    seen = set()
    for limit in LIMITS:
        answer = ask(Asked(TWICE, limit=limit))
        assert (
            answer.calls
            == [ARGUMENTS, json.loads(json.dumps(ARGUMENTS).replace("/project/", "/other/"))][: len(answer.calls)]
        )
        assert len(answer.half) <= 1
        if not answer.calls and not answer.half:
            assert TWICE.startswith(answer.text)
        seen.add((len(answer.calls), answer.reason))
        if answer.reason != "length":
            break
    assert seen == {(0, "length"), (1, "length"), (2, "length"), (2, "tool_calls")}


@through("chat", "messages", "ollama")
@pytest.mark.parametrize("stop", ["ject", '": "/home', "true", "delete", "force"])
def test_a_stop_string_within_a_call_leaves_none(ask: Ask, stop: str) -> None:
    answer = ask(Asked(CALL, stop=stop))
    assert (answer.calls, answer.reason) == ([], "stop")
    if not answer.half:
        assert answer.text == CALL[: CALL.index(stop)]


@through("chat", "messages", "ollama")
def test_a_stop_string_behind_a_call_leaves_it_and_is_the_reason(ask: Ask) -> None:
    answer = ask(Asked(TWICE, stop="/other"))
    assert (answer.calls, answer.reason) == ([ARGUMENTS], "stop")


@through("chat", "responses", "messages")
def test_a_call_that_must_be_made_is_whole_or_none(ask: Ask) -> None:
    reasons = []
    for limit in LIMITS:
        answer = ask(Asked('/a/b/c"', limit=limit, forced=True))
        reasons.append(answer.reason)
        for call in answer.calls:
            assert call == {"path": "/a/b/c", "force": True}
        assert len(answer.calls) + len(answer.half) <= 1
        if answer.reason != "length":
            break
    assert answer.calls
    assert reasons[-1] == "tool_calls"
    assert len(reasons) > 3


@through("chat", "messages")
def test_a_stop_string_within_a_value_of_a_call_that_must_be_made_leaves_none(ask: Ask) -> None:
    answer = ask(Asked('/a/b/c"', stop="b/c", forced=True))
    assert (answer.calls, answer.reason) == ([], "stop")
    assert answer.half or answer.text.endswith('"/a/')


@through(*APIS)
def test_a_value_of_a_format_is_whole_or_stays_as_it_stands(ask: Ask) -> None:
    reasons = []
    for limit in LIMITS:
        answer = ask(Asked('/a/b/c"', limit=limit, form=True))
        reasons.append(answer.reason)
        if answer.reason != "length":
            assert json.loads(answer.text)["path"] == "/a/b/c"
            break
        with pytest.raises(json.JSONDecodeError):
            json.loads(answer.text)
    assert reasons[-1] == "stop"
    assert len(reasons) > 3


CHARACTERS = "é🦙e\u0301"


@through(*APIS, *TEXT_APIS)
def test_a_limit_within_a_character_leaves_the_ones_before_it(ask: Ask) -> None:
    data = CHARACTERS.encode()
    for limit in range(1, len(data)):
        answer = ask(Asked(CHARACTERS, limit=limit, bytewise=True))
        assert answer.text == data[:limit].decode(errors="ignore")
        assert answer.reason == "length"


@through(*APIS)
def test_a_limit_within_a_character_of_a_value_leaves_nothing_of_it(ask: Ask) -> None:
    for limit in range(1, 20):
        answer = ask(Asked(f'{CHARACTERS}"', limit=limit, form=True, bytewise=True))
        assert "\ufffd" not in answer.text
    assert CHARACTERS in answer.text


def test_a_deadline_within_a_call_is_an_error_and_leaves_none(serve: Callable[..., Server]) -> None:
    server = serve(REQUEST_TIMEOUT="0.2", models={f"{MODEL}.rkllm": "decode_ms=45"})
    for api in APIS.values():
        with pytest.raises(AssertionError, match="was not complete after"):
            api(server, Asked(CALL), stream=False)
