"""A template can do what published ones do, and can't take the server's time, memory or secrets."""

import itertools
import time
from datetime import datetime
from types import SimpleNamespace

import jinja2
import pytest

from rkllama_flask.errors import TemplateFailed
from rkllama_flask.generation.prompt import template_limits
from rkllama_flask.generation.prompt.template_limits import TemplateLimit
from rkllama_flask.generation.prompt.template_sandbox import TemplateEnvironment
from rkllama_flask.generation.prompt.templates import ChatTemplate
from rkllama_flask.generation.request import Message, Tool

ENVIRONMENT = TemplateEnvironment(now=lambda: datetime(2025, 3, 4))


def render(source: str, **variables: object) -> str:
    return ENVIRONMENT.render_metered(ENVIRONMENT.compile_metered(source), variables)


class TestWhatPublishedTemplatesUse:
    def test_blocks_leave_no_line_ends_or_indents(self) -> None:
        assert render("a\n    {% if true %}\nb\n    {% endif %}\nc") == "a\nb\nc"

    def test_loops_can_be_left_and_continued(self) -> None:
        source = "{% if i == 1 %}{% continue %}{% elif i == 3 %}{% break %}{% endif %}{{ i }}"
        assert render("{% for i in range(9) %}" + source + "{% endfor %}") == "02"

    def test_generation_marks_are_passed_over(self) -> None:
        assert render("a{% generation %}b{{ 1 }}{% endgeneration %}c") == "ab1c"

    def test_json_is_plain(self) -> None:
        assert render("{{ value | tojson }}", value={"é": "<'&'>"}) == '{"é": "<\'&\'>"}'
        assert render("{{ value | tojson(indent=2) }}", value=[1]) == "[\n  1\n]"
        assert render("{{ value | tojson(separators=(',', ':'), sort_keys=true) }}", value={"b": 1, "a": 2}) == (
            '{"a":2,"b":1}'
        )

    def test_dates_come_from_the_clock(self) -> None:
        assert render("{{ strftime_now('%d %b %Y') }}") == "04 Mar 2025"

    def test_an_exception_has_the_templates_words(self) -> None:
        with pytest.raises(jinja2.TemplateError, match="no such role"):
            render("{{ raise_exception('no such role') }}")

    @pytest.mark.parametrize(
        ("source", "expected"),
        [
            ("{{ 'a' ~ 1 ~ none }}", "a1None"),
            ("{{ 'ab' * 2 }}{{ [1] + [2] }}{{ 3 * 4 }}{{ 2 ** 3 }}{{ 7 % 4 }}", "abab[1, 2]1283"),
            ("{{ '%s-%d' % ('a', 2) }}{{ '{}-{:>3}'.format('a', 'b') }}{{ '%s' | format('x') }}", "a-2a-  bx"),
            ("{{ 'a,b'.replace(',', ';') }}{{ 'aa' | replace('a', 'b', 1) }}", "a;bba"),
            ("{{ '-'.join(['a', 'b']) }}{{ [{'n': 1}, {'n': 2}] | join('+', attribute='n') }}", "a-b1+2"),
            ("{{ 'a\nb' | indent(2) }}|{{ 'a\n\nb' | indent('> ', first=true, blank=true) }}", "a\n  b|> a\n> \n> b"),
            ("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m('a') }}", "<a>"),
            ("{% macro m() %}{{ caller() }}!{% endmacro %}{% call m() %}a{% endcall %}", "a!"),
            ("{% set ns = namespace(n=0) %}{% for i in [1, 2] %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}", "3"),
            ("{% set x %}a{{ 1 }}{% endset %}{{ x ~ x }}", "a1a1"),
            ("{% for m in [[1, [2]], 3] recursive %}{{ loop(m) if m is iterable else m }}{% endfor %}", "123"),
            ("{{ messages[::-1] | map(attribute='role') | list }}", "['user', 'system']"),
            ("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "1"),
            (
                "{{ {'a': 1} | items | list }}{{ {'a': 1}.items() | list }}{{ 'x' in 'xyz' }}",
                "[('a', 1)][('a', 1)]True",
            ),
        ],
    )
    def test_expressions_mean_what_they_mean_in_jinja(self, source: str, expected: str) -> None:
        assert render(source, messages=[{"role": "system"}, {"role": "user"}]) == expected


class TestLimits:
    @pytest.mark.parametrize(
        "source",
        [
            "{{ 'a' * 10**12 }}",
            "{{ 10**12 * [1] }}",
            "{{ 9 ** (9 ** 9) }}",
            "{% set ns = namespace(n=10) %}{% for i in range(64) %}{% set ns.n = ns.n * ns.n %}{% endfor %}{{ ns.n }}",
            "{% set ns = namespace(s='a' * 999) %}{% for i in range(64) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
            "{% set ns = namespace(s='a' * 999) %}{% for i in range(64) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
            "{% set ns = namespace(s=[1] * 999) %}{% for i in range(64) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
            "{% set x = 'a' * 9**6 %}{{ x.replace('a', x) }}",
            "{% set x = 'a' * 9**6 %}{{ x | replace('a', x) }}",
            "{% set x = 'a' * 9**6 %}{{ x.join(x) }}",
            "{% set x = 'a' * 9**6 %}{{ x | join(x) }}",
            "{% set x = '\n' * 9**6 %}{{ x | indent(60) }}",
            "{% set x = 'a' * 9**6 %}{% for i in range(99) %}{{ x }}{% endfor %}",
            "{% macro m() %}{% for i in range(99) %}{{ 'a' * 9**6 }}{% endfor %}{% endmacro %}{% set y = m() %}",
            "{% set y %}{% for i in range(99) %}{{ 'a' * 9**6 }}{% endfor %}{% endset %}",
            "{{ 'a'.ljust(10**12) }}",
            "{{ 'a'.center(10**12) }}",
            "{{ '1'.zfill(10**12) }}",
            "{{ '\t'.expandtabs(10**12) }}",
            "{{ '%999999999d' % 1 }}",
            "{{ '%*d' % (999999999, 1) }}",
            "{{ '%999999999d' | format(1) }}",
            "{{ '{:>999999999}'.format(1) }}",
            "{{ '{:{}}'.format(1, 999999999) }}",
            "{% set x = ['a' * 9**6] * 9**4 %}{{ x }}",
            "{% set x = ['a' * 9**6] * 9**4 %}{{ x | string }}",
            "{% set x = ['a' * 9**6] * 9**4 %}{{ x | tojson }}",
            "{% set x = ['a' * 9**6] * 9**4 %}{{ x | join }}",
            "{% set x = ['a' * 9**6] * 9**4 %}{{ x | map('string') | list }}",
            "{% set x = ['a' * 9**6] * 9**4 %}{{ [x] | map('string') | list }}",
            "{% set x = ['a' * 9**6] * 9**4 %}{% set y = 'a' ~ x %}",
            "{% set x = ['a' * 9**6] * 9**4 %}{% set y = '%s' % x %}",
            "{% set x = ['a' * 9**6] * 9**4 %}{% set y = '{}'.format(x) %}",
            "{% set x = 'a' * 9**6 %}{% for i in range(999) %}{% set y = x[1:] %}{% endfor %}",
            "{% set x = 'a' * 9**6 %}{% for i in range(999) %}{% set y = x | upper %}{% endfor %}",
            "{% set x = 'a' * 9**6 %}{% for i in range(999) %}{% set y = x.upper() %}{% endfor %}",
            "{% set x = 'a' * 9**6 %}{% for i in range(999) %}{% set y = x | list %}{% endfor %}",
        ],
    )
    def test_no_value_grows_out_of_bounds(self, source: str) -> None:
        with pytest.raises(TemplateLimit):
            render(source)

    @pytest.mark.parametrize(
        "source",
        [
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
            "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(99) }}",
            "{% for i in [[1] * 9999] * 9999 %}{% for j in i %}{% endfor %}{% endfor %}",
        ],
    )
    def test_no_loop_runs_for_ever(self, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(template_limits, "TIME_LIMIT", 0.05)
        begun = time.monotonic()
        with pytest.raises(TemplateLimit, match="seconds"):
            render(source)
        assert time.monotonic() - begun < 5

    def test_time_in_which_others_work_is_not_the_templates(self, monkeypatch: pytest.MonkeyPatch) -> None:
        looks = itertools.count()
        stalled = SimpleNamespace(monotonic=lambda: 10 * next(looks), thread_time=lambda: 0.0)
        monkeypatch.setattr(template_limits, "time", stalled)
        assert render("{% for i in range(9) %}{{ i }}{% endfor %}") == "012345678"

    def test_what_the_template_can_do_is_tried_out_within_the_same_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        looks = itertools.count()  # one is a second

        def clock() -> int:
            return next(looks)

        monkeypatch.setattr(template_limits, "time", SimpleNamespace(monotonic=clock, thread_time=clock))
        template = ChatTemplate("{% for i in range(99999) %}{% endfor %}{# tools, and no more than this #}")
        conversation = [Message("system", "a"), Message("user", "b"), Message("system", "c"), Message("tool", "d")]
        with pytest.raises(TemplateFailed, match="seconds"):
            template.render(conversation, [Tool("f")])
        assert next(looks) < 25

    @pytest.mark.parametrize(
        "source",
        [
            "{{ ''.__class__.__mro__ }}",
            "{{ ''['__cla' ~ 'ss__'].mro() }}",
            "{{ range(10**9) | list }}",
            "{{ ('%c' * 10**9) % 1 }}",
            "{% include '/etc/passwd' %}",
            "{{ lipsum(10**9) }}",
            "{{ 'a' | center(10**12) }}",
        ],
    )
    def test_nothing_beside_the_conversation_is_in_reach(self, source: str) -> None:
        with pytest.raises((jinja2.TemplateError, OverflowError, TypeError)):
            render(source, messages=[])

    @pytest.mark.parametrize("source", ["{{ self._TemplateReference__context }}", "{{ '{0.__class__}'.format(1) }}"])
    def test_hidden_attributes_are_undefined(self, source: str) -> None:
        assert render(source) == ""

    def test_a_limit_is_the_clients_error(self) -> None:
        with pytest.raises(TemplateFailed, match="4,000,000 characters"):
            ChatTemplate("{{ 'a' * 10**12 }}").render([Message("user", "x")])

    def test_recursion_without_end_is_the_clients_error(self) -> None:
        with pytest.raises(TemplateFailed):
            ChatTemplate("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}").render([Message("user", "x")])

    def test_a_large_conversation_is_within_them(self) -> None:
        history = [Message("user" if turn % 2 == 0 else "assistant", "word " * 100) for turn in range(2001)]
        source = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' }}{% endfor %}"
        assert len(ChatTemplate(source).render(history).text) > 1_000_000
