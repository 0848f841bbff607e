"""Conversations become the prompts that their models were trained on."""

from datetime import datetime

import pytest

from rkllama_flask.catalog.model import Modelfile
from rkllama_flask.errors import TemplateFailed
from rkllama_flask.generation.prompt.builtin_templates import template_name, template_text
from rkllama_flask.generation.prompt.segments import Prompt, Segment
from rkllama_flask.generation.prompt.templates import ChatTemplate
from rkllama_flask.generation.request import Message, Tool, ToolCall
from tests.generation.data.cases import (
    FAMILIES,
    conversations,
    family_template,
    make_model,
    messages_of,
    renderings,
    tools_of,
)

CASES = [(family, name) for family in FAMILIES for name in conversations()]
HELLO = [Message("user", "Hello!")]
WEATHER = Tool("get_weather", "Current weather", {"type": "object", "properties": {}})
CALL = ToolCall("get_weather", '{"city": "Köln"}', "call_1")
RESULT = Message("tool", "21", tool_call_id="call_1", name="get_weather")

CHATML = template_text("chatml")
NO_SYSTEM = """{%- for message in messages %}
{%- if message.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif -%}
[{{ message.role }}]{{ message.content }}
{%- endfor %}"""


def render(source: str, *messages: Message, **options: object) -> str:
    return ChatTemplate(source).render(messages, **options).text  # type: ignore[arg-type]


@pytest.mark.parametrize(("family", "name"), CASES)
def test_each_family_renders_each_conversation_as_published(family: str, name: str) -> None:
    conversation = conversations()[name]
    prompt = family_template(family).render(
        messages_of(conversation),
        tools_of(conversation),
        thinking=conversation.get("thinking"),
        arguments={"date_string": "26 Jul 2024"},
    )
    assert prompt.text == renderings(family)[name]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_without_an_open_turn_is_a_beginning_of_the_one_with_it(family: str) -> None:
    template, history = family_template(family), [*HELLO, Message("assistant", "Hi."), *HELLO]
    closed = template.render(history, add_generation_prompt=False, arguments={"date_string": "x"}).text
    opened = template.render(history, arguments={"date_string": "x"}).text
    assert opened.startswith(closed.removesuffix("<|endoftext|>"))


class TestWhichTemplate:
    def test_a_template_of_the_request_comes_first(self) -> None:
        model = make_model(chat_template="own", modelfile=Modelfile(template="modelfile"))
        assert ChatTemplate.for_model(model, override="asked").source == "asked"

    def test_the_modelfile_comes_before_the_models_own(self) -> None:
        model = make_model(chat_template="own", modelfile=Modelfile(template="modelfile"))
        assert ChatTemplate.for_model(model).source == "modelfile"

    def test_where_tools_are_given_the_one_for_tools_is_used(self) -> None:
        model = make_model(chat_template="own", tool_template="for tools")
        assert ChatTemplate.for_model(model, tools=True).source == "for tools"
        assert ChatTemplate.for_model(model).source == "own"
        assert ChatTemplate.for_model(make_model(chat_template="own"), tools=True).source == "own"

    def test_the_models_own_comes_before_a_built_in_one(self) -> None:
        assert ChatTemplate.for_model(make_model(name="qwen3-0.6b", chat_template="own")).source == "own"

    @pytest.mark.parametrize(
        ("name", "family", "expected"),
        [
            ("qwen3-0.6b", None, "qwen3"),
            ("qwen2.5-1.5b-instruct", "qwen2", "qwen2"),
            ("deepseek-r1-distill-qwen-1.5b", "qwen2", "deepseek-r1"),
            ("llama-3.2-1b-instruct", "llama", "llama3"),
            ("tinyllama-1.1b-chat", "llama", "zephyr"),
            ("gemma-3-1b-it", "gemma3", "gemma"),
            ("ministral-8b", "llama", "mistral"),
            ("phi-3.5-mini-instruct", "phi3", "phi3"),
            ("phi-4-mini-instruct", "phi3", "phi4-mini"),
            ("phi-4", "phi3", "phi4"),
            ("minicpm-2b", "minicpm", "minicpm"),
            ("minicpm4-0.5b", "minicpm", "chatml"),
            ("internlm2-chat-1.8b", "internlm2", "internlm2"),
            ("smollm2-135m-instruct", "llama", "chatml"),
            ("my-model", "qwen3", "qwen3"),
            ("my-model", None, "chatml"),
        ],
    )
    def test_a_name_or_a_family_tells_the_built_in_one(self, name: str, family: str | None, expected: str) -> None:
        assert template_name(make_model(name=name, family=family)) == expected


class TestWhatATemplateIsGiven:
    def test_the_tokens_that_open_and_close_texts(self) -> None:
        model = make_model(chat_template="{{ bos_token }}|{{ eos_token }}", bos_token="<s>", eos_token="</s>")
        assert ChatTemplate.for_model(model).render(HELLO).text == "<s>|</s>"

    def test_arguments_reach_it_as_variables_but_can_not_replace_the_messages(self) -> None:
        source = "{{ mood }} {{ messages[0].content }}"
        assert render(source, *HELLO, arguments={"mood": "calm", "messages": []}) == "calm Hello!"

    def test_tools_are_function_objects(self) -> None:
        source = "{{ messages[0].content }}{% for tool in tools %}{{ tool | tojson }}{% endfor %}"
        assert render(source, *HELLO, tools=[Tool("f", "does <b>", {"type": "object"})]) == (
            'Hello!{"type": "function", "function": '
            '{"name": "f", "description": "does <b>", "parameters": {"type": "object"}}}'
        )

    def test_without_tools_there_are_none_not_an_empty_list(self) -> None:
        assert render("{{ tools is none }} {{ documents is none }}", *HELLO) == "True True"

    def test_calls_have_objects_as_arguments(self) -> None:
        source = "{% for m in messages %}{% if m.tool_calls %}{{ m.tool_calls[0].function.arguments.city }}{% endif %}"
        source += "{{ m.tool_calls | tojson if m.tool_calls }}{{ m.content if not m.tool_calls }}{% endfor %}"
        text = render(source, *HELLO, Message("assistant", tool_calls=(CALL,)), RESULT)
        assert text.startswith("Hello!Köln[{")
        assert '"id": "call_1"' in text

    def test_calls_have_text_as_arguments_where_the_template_adds_it_to_text(self) -> None:
        source = "{% for m in messages %}{% if m.tool_calls %}{{ m.tool_calls[0].function.name + ':' +"
        source += " m.tool_calls[0].function.arguments }}{% else %}{{ m.content }};{% endif %}{% endfor %}"
        text = render(source, *HELLO, Message("assistant", tool_calls=(CALL,)), RESULT)
        assert text == 'Hello!;get_weather:{"city": "Köln"}21;'

    def test_content_is_null_beside_calls_where_the_template_asks_for_that(self) -> None:
        source = "{% for m in messages %}{% if m.role == 'assistant' and m.content is none %}"
        source += "{{ m.tool_calls | tojson }}{% else %}{{ m.content }};{% endif %}{% endfor %}"
        assert "get_weather" in render(source, *HELLO, Message("assistant", tool_calls=(CALL,)), RESULT)

    def test_arguments_that_are_no_object_stay_text(self) -> None:
        call = ToolCall("get_weather", "not json")
        text = render(template_text("qwen3"), *HELLO, Message("assistant", tool_calls=(call,)), RESULT)
        assert '"arguments": not json}' in text

    def test_keys_are_missing_where_nothing_was_said(self) -> None:
        source = "{{ 'tool_calls' in messages[0] }}{{ messages[0].reasoning_content is defined }}"
        assert render(source, *HELLO) == "FalseFalse"

    def test_long_call_ids_are_cut_for_templates_that_insist_on_nine_characters(self) -> None:
        source = """{%- for m in messages %}{%- set id = m.tool_calls[0].id if m.tool_calls else m.tool_call_id %}
        {%- if id is defined and id|length != 9 %}{{ raise_exception('length 9!') }}{% endif %}{{- id }}
        {%- if m.tool_calls %}{{ m.tool_calls | tojson }}{% else %}{{ m.content }}{% endif %},{% endfor %}"""
        text = render(source, *HELLO, Message("assistant", tool_calls=(CALL,)), RESULT)
        call_id, answered = text.split(",")[1][:9], text.split(",")[-2][:9]
        assert call_id == answered
        assert call_id.isalnum()

    def test_the_date_comes_from_the_clock(self) -> None:
        assert render("{{ strftime_now('%Y') }}", *HELLO) == datetime.now().strftime("%Y")


class TestSystemMessages:
    def test_several_at_the_start_become_one(self) -> None:
        assert render(CHATML, Message("system", "A"), Message("system", "B"), *HELLO) == (
            "<|im_start|>system\nA\n\nB<|im_end|>\n<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n"
        )

    def test_they_open_the_first_question_where_the_template_refuses_them(self) -> None:
        assert render(NO_SYSTEM, Message("system", "A"), *HELLO) == "[user]A\n\nHello!"

    def test_they_open_the_first_question_where_the_template_would_drop_them(self) -> None:
        source = "{% for message in messages if message.role == 'user' %}{{ message.content }}{% endfor %}"
        assert render(source, Message("system", "A"), *HELLO) == "A\n\nHello!"

    def test_a_late_one_opens_the_next_question_where_the_template_can_not_take_it(self) -> None:
        history = [*HELLO, Message("assistant", "Hi."), Message("system", "A"), *HELLO]
        assert render(NO_SYSTEM, *history) == "[user]Hello![assistant]Hi.[user]A\n\nHello!"

    def test_the_last_one_closes_the_last_question_where_none_follows(self) -> None:
        assert render(NO_SYSTEM, *HELLO, Message("system", "A")) == "[user]Hello!\n\nA"

    def test_one_alone_becomes_a_question_where_the_template_takes_none(self) -> None:
        assert render(NO_SYSTEM, Message("system", "A")) == "[user]A"


class TestToolsWithoutTemplateSupport:
    def test_an_instruction_declares_them(self) -> None:
        text = render(CHATML, Message("system", "Be brief."), *HELLO, tools=[WEATHER])
        assert text.startswith("<|im_start|>system\nBe brief.\n\n")
        assert '<tools>\n{"name": "get_weather"' in text
        assert "<tool_call>\n" in text

    def test_calls_and_results_are_tagged_text_also_when_no_tools_are_offered_any_more(self) -> None:
        text = render(CHATML, *HELLO, Message("assistant", "So:", tool_calls=(CALL, CALL)), RESULT, RESULT)
        call = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Köln"}}\n</tool_call>'
        result = "<tool_response>\n21\n</tool_response>"
        assert f"<|im_start|>assistant\nSo:\n{call}\n{call}<|im_end|>\n" in text
        assert f"<|im_start|>user\n{result}\n{result}<|im_end|>\n" in text
        assert "<tools>" not in text


class TestAnswersToBeContinued:
    @pytest.mark.parametrize("family", FAMILIES)
    def test_a_conversation_that_ends_with_an_answer_is_left_open_there(self, family: str) -> None:
        prompt = family_template(family).render([*HELLO, Message("assistant", "The answer is")])
        assert prompt.text.endswith("The answer is")

    def test_the_turn_is_the_models(self) -> None:
        text = render(CHATML, *HELLO, Message("assistant", "So "))
        assert text == "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\nSo "

    def test_open_thoughts_go_on(self) -> None:
        template = family_template("deepseek-r1")
        assert not template.thinking_is_prefilled(template.render([*HELLO, Message("assistant", "So ")]))
        template = ChatTemplate(CHATML + "{# <think> </think> #}")
        assert template.thinking_is_prefilled(template.render([*HELLO, Message("assistant", "<think>\nSo ")]))

    def test_an_answer_that_the_template_drops_is_followed_by_a_new_one(self) -> None:
        source = (
            "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}{{ '>' if add_generation_prompt }}"
        )
        assert render(source, *HELLO, Message("assistant", "So ")) == "Hello!>"

    def test_a_call_is_not_continued(self) -> None:
        text = render(template_text("qwen2"), *HELLO, Message("assistant", tool_calls=(CALL,)))
        assert text.endswith("</tool_call><|im_end|>\n<|im_start|>assistant\n")


class TestThinking:
    def test_the_switch_reaches_the_template(self) -> None:
        source = "{{ enable_thinking is defined }} {{ enable_thinking }} {{ reasoning_effort }}"
        assert render(source, *HELLO) == "False  "
        assert render(source, *HELLO, thinking=True) == "True True "
        assert render(source, *HELLO, thinking="high") == "True True high"

    def test_an_argument_can_say_it_too(self) -> None:
        text = render(template_text("qwen3"), *HELLO, arguments={"enable_thinking": False})
        assert text.endswith("<think>\n\n</think>\n\n")

    def test_thoughts_that_the_template_opens_are_closed_when_thinking_is_off(self) -> None:
        text = render("{{ messages[0].content }}<think>\n\n", *HELLO, thinking=False)
        assert text == "Hello!<think>\n</think>\n\n"

    def test_thoughts_that_a_template_can_not_switch_off_are_skipped(self) -> None:
        source = "{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}"
        assert render(source, *HELLO, thinking=False) == "Hello!<think>\n\n</think>\n\n"
        assert render(source, *HELLO) == "Hello!"

    @pytest.mark.parametrize(
        ("segments", "expected"),
        [
            ([("<|im_start|>assistant\n<think>\n", True)], True),
            ([("<|im_start|>assistant\n<think>\nSo, ", True)], True),
            ([("<|im_start|>assistant\n<think>\n\n</think>\n\n", True)], False),
            ([("<|im_start|>assistant\n", True)], False),
            ([("Wrap thoughts in <think>.<|im_end|>\n<|im_start|>assistant\n", True)], False),
            ([("<|im_start|>user\n", True), ("<think>", False)], False),
            ([("[SYSTEM_PROMPT]…[/SYSTEM_PROMPT][THINK]", True)], True),
        ],
    )
    def test_an_open_thought_at_the_end_is_seen(self, segments: list[tuple[str, bool]], expected: bool) -> None:
        prompt = Prompt(tuple(Segment(*segment) for segment in segments))
        assert ChatTemplate(CHATML).thinking_is_prefilled(prompt) is expected


class TestWhatATemplateCanDo:
    @pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama3", "mistral", "phi4-mini"])
    def test_templates_that_declare_tools_support_them(self, family: str) -> None:
        assert family_template(family).supports_tools

    @pytest.mark.parametrize("family", ["chatml", "gemma", "deepseek-r1", "phi3", "phi4", "minicpm", "internlm2"])
    def test_others_do_not(self, family: str) -> None:
        assert not family_template(family).supports_tools

    def test_mentioning_tools_is_not_declaring_them(self) -> None:
        assert not ChatTemplate("{# no tools here #}{{ messages[0].content }}").supports_tools

    def test_templates_that_know_thoughts_support_thinking(self) -> None:
        assert [family for family in FAMILIES if family_template(family).supports_thinking] == ["deepseek-r1", "qwen3"]

    def test_a_broken_template_can_do_nothing(self) -> None:
        assert not ChatTemplate("{% if tools").supports_tools


class TestWhatATemplateRefuses:
    def test_its_own_message_is_told(self) -> None:
        with pytest.raises(TemplateFailed, match="roles must alternate") as caught:
            render("{{ raise_exception('roles must alternate') }}", *HELLO)
        assert caught.value.status == 400
        assert caught.value.param == "messages"

    def test_a_template_that_can_not_be_read_says_where(self) -> None:
        with pytest.raises(TemplateFailed, match="line 2"):
            render("{{ a }}\n{% iff %}", *HELLO)

    def test_a_go_template_is_called_what_it_is(self) -> None:
        with pytest.raises(TemplateFailed, match="Go's template language"):
            render("{{ if .System }}{{ .System }}{{ end }}{{ .Prompt }}", *HELLO)

    @pytest.mark.parametrize(
        "source", ["{{ nobody.name }}", "{{ 1 / 0 }}", "{{ messages + 1 }}", "{{ raise_exception() }}"]
    )
    def test_every_mistake_of_a_template_is_a_client_error(self, source: str) -> None:
        with pytest.raises(TemplateFailed):
            render(source, *HELLO)
