import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rkllama_flask.catalog.model import Modelfile
from rkllama_flask.catalog.reading.modelfile import ModelfileInvalid, Written, compose, inherit, parse, render
from rkllama_flask.sampling import Sampling


@pytest.mark.parametrize("lines", ["FROM ./m.gguf\nFROM ./mmproj-m.gguf", "FROM ./mmproj-m.gguf\nFROM ./m.gguf"])
def test_of_two_from_lines_one_may_be_the_encoder_of_pictures(lines: str) -> None:
    assert parse(lines) == Written("./m.gguf", unapplied=("FROM",))


@pytest.mark.parametrize("name", ["vision-mmproj-f16.gguf", "MMPROJ.gguf", "漢.mmproj.gguf"])
def test_an_encoder_of_pictures_is_known_by_its_name(name: str) -> None:
    assert parse(f"FROM ./m.gguf\nFROM ./{name}") == Written("./m.gguf", unapplied=("FROM",))


@pytest.mark.parametrize("other", ["./m-00001-of-00002.gguf", "./m-00002-of-00002.gguf"])
def test_the_files_of_one_model_may_be_named_one_by_one(other: str) -> None:
    assert parse(f"FROM ./m-00001-of-00002.gguf\nFROM {other}") == Written("./m-00001-of-00002.gguf")


def test_two_models_behind_from_are_a_mistake() -> None:
    with pytest.raises(ModelfileInvalid, match=r"line 2: a second FROM, \./b.gguf: a model has one"):
        parse("FROM ./a.gguf\nFROM ./b.gguf")


@pytest.mark.parametrize(
    "name",
    [
        "use_mlock",
        "penalize_newline",
        "low_vram",
        "f16_kv",
        "tfs_z",
        "draft_num_predict",
        "rope_frequency_base",
        "NUMA",
    ],
)
def test_options_that_ollama_has_or_had_are_taken_and_named(name: str) -> None:
    assert parse(f"FROM a\nPARAMETER {name} 1") == Written("a", unapplied=(name.lower(),))


def test_all_words_are_understood() -> None:
    written = parse(
        '# a comment\n'
        'FROM ./weights.rkllm\n\n'
        'system """Two\n  "lines" """\n'
        'TEMPLATE {{ messages[0].content }}\n'
        'PARAMETER temperature 0.5\nPARAMETER context 8192\nPARAMETER stop "<|end|>"\nparameter stop two words\n'
        'PARAMETER eos 151645\nPARAMETER eos 7\nPARAMETER pooling last\nPARAMETER input tokens\n'
        'PARAMETER num_predict 9\n'
        'MESSAGE user Who are you?\nMESSAGE assistant "A pirate."\n'
        'ADAPTER ./lora one.rkllm 0.25\nADAPTER "./lora 2"\n'
        'LICENSE MIT\nLICENSE """Apache\n2.0"""\n'
    )  # fmt: skip
    modelfile = written.modelfile
    assert written.source == "./weights.rkllm"
    assert modelfile.system == 'Two\n  "lines" '
    assert modelfile.template == "{{ messages[0].content }}"
    assert modelfile.sampling == Sampling(temperature=0.5)
    assert modelfile.context_length == 8192
    assert modelfile.stop == ("<|end|>", "two words")
    assert modelfile.eos_token_ids == (151645, 7)
    assert (modelfile.pooling, modelfile.input, modelfile.max_tokens) == ("last", "tokens", 9)
    assert modelfile.messages == (("user", "Who are you?"), ("assistant", "A pirate."))
    assert modelfile.adapters == ((Path("lora one.rkllm"), 0.25), (Path("lora 2"), 1.0))
    assert modelfile.license == ("MIT", "Apache\n2.0")
    assert modelfile.parameters["stop"] == ["<|end|>", "two words"]
    assert parse(render(written.source, modelfile)) == written


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("FROM a\nNONSENSE b", 2, "none of"),
        ("FROM a\n\n# c\nPARAMETER colour red", 4, "unknown parameter 'colour'"),
        ("FROM a\nPARAMETER top_p 2", 2, "between 0 and 1"),
        ("FROM a\nPARAMETER top_k 1.5", 2, "whole number"),
        ("FROM a\nPARAMETER temperature hot", 2, "must be a number"),
        ("FROM a\nPARAMETER temperature nan", 2, "must be a number"),
        ("FROM a\nPARAMETER num_ctx 999999999999", 2, "between"),
        ("FROM a\nPARAMETER pooling cls", 2, "mean, last"),
        ("FROM a\nPARAMETER think perhaps", 2, "true or false"),
        ("FROM a\nPARAMETER stop", 2, "must be a text"),
        ("FROM a\nFROM b", 2, "a second FROM"),
        ("FROM", 1, "needs a file"),
        ("FROM a\nADAPTER", 2, "needs a file"),
        ("FROM a\nADAPTER x inf", 2, "scale"),
        ("FROM a\nMESSAGE wizard hi", 2, "role"),
        ('FROM a\nSYSTEM """never\nclosed', 2, "never closed"),
        ('FROM a\nSYSTEM """' + "never\n" * 100_000, 2, "never closed"),
        ("TEMPERATURE=0.5\nTOP_P=much", 2, "must be a number"),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, line: int, reason: str) -> None:
    with pytest.raises(ModelfileInvalid) as caught:
        parse(text)
    assert caught.value.message.startswith(f"line {line}: ")
    assert reason in caught.value.message


GO = [
    "{{ .Prompt }}",
    "{{- if .System }}<|im_start|>system\n{{ .System }}{{ end }}",
    "{{ range .Messages }}{{ .Content }}{{ end }}",
    '{{- range $i, $_ := .Messages }}{{ if eq .Role "user" }}x{{ end }}{{ end }}',
    "{{ $last }}",
    "{{ json .Tools }}",
]
JINJA = [
    "{% for message in messages %}{{ message.content }}{% endfor %}",
    "{{- bos_token }}{%- if messages[0].role == 'system' %}{{ messages[0]['content'] | trim }}{% endif %}",
    "{{ raise_exception('no') }}{{ tools | tojson }}{{ '.Prompt' }}",
    "{{ endgame }}{{ 'if' }}{{ iff }}",
]


@pytest.mark.parametrize("template", GO)
def test_a_go_template_is_refused_with_an_explanation(template: str) -> None:
    with pytest.raises(ModelfileInvalid, match="Jinja"):
        parse(f'FROM a\nTEMPLATE """{template}"""')
    with pytest.raises(ModelfileInvalid, match="Jinja"):
        compose(template=template)


@pytest.mark.parametrize("template", JINJA)
def test_a_jinja_template_is_taken_as_it_is(template: str) -> None:
    assert parse(f'FROM a\nTEMPLATE """{template}"""').modelfile.template == template


def test_windows_line_ends_and_byte_order_marks_are_no_content() -> None:
    assert parse('\ufeffFROM a\r\nSYSTEM """b\r\nc"""\r\n') == Written("a", Modelfile(system="b\nc"))


def test_a_file_made_for_rkllama_is_understood() -> None:
    written = parse(
        'FROM="Qwen2.5-3B.rkllm"\n'
        'HUGGINGFACE_PATH="Qwen/Qwen2.5-3B-Instruct"\n\n'
        "# System prompt\n"
        'SYSTEM="You are \\"kind\\".\\nBe brief."\n'
        "TEMPERATURE=0.7\nNUM_CTX=16384\nMAX_NEW_TOKENS=1024\nTOP_K=40\nTOP_P=0.9\nREPEAT_PENALTY=1.1\n"
        "MIROSTAT=0\nENABLE_THINKING=False\nVISION_ENCODER=\"x.rknn\"\nIMAGE_WIDTH=392\nTOKENIZER=\n"
    )  # fmt: skip
    assert written.source == "Qwen2.5-3B.rkllm"
    assert written.modelfile.system == 'You are "kind".\nBe brief.'
    assert written.modelfile.sampling == Sampling(temperature=0.7, top_k=40, top_p=0.9, repeat_penalty=1.1, mirostat=0)
    assert (written.modelfile.context_length, written.modelfile.max_tokens) == (16384, 1024)
    assert written.modelfile.parameters["think"] is False
    assert parse(render(written.source, written.modelfile)) == written


def test_a_limit_that_is_said_to_be_none_is_not_the_same_as_nothing_said() -> None:
    assert parse("PARAMETER num_predict -1").modelfile.max_tokens == -1
    assert parse("PARAMETER top_k 3").modelfile.max_tokens is None


def test_fields_of_a_request_are_checked_alike() -> None:
    modelfile = compose(
        system="s",
        parameters={"stop": "x", "temperature": 1, "eos": [1, 2]},
        messages=[("user", "hi")],
        license=["MIT"],
    )
    assert (
        modelfile
        == parse(
            "SYSTEM s\nPARAMETER stop x\nPARAMETER temperature 1\nPARAMETER eos 1\nPARAMETER eos 2\n"
            "MESSAGE user hi\nLICENSE MIT"
        ).modelfile
    )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"parameters": {"temperature": "hot"}}, "parameters"),
        ({"parameters": {"temperature": True}}, "parameters"),
        ({"parameters": {"stop": [1]}}, "parameters"),
        ({"parameters": {"no such": 1}}, "parameters"),
        ({"template": "{{ .Prompt }}"}, "template"),
        ({"messages": [("wizard", "hi")]}, "messages"),
    ],
)
def test_a_wrong_field_of_a_request_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ModelfileInvalid) as caught:
        compose(**fields)
    assert caught.value.param == param


def test_what_is_not_said_is_inherited() -> None:
    base = compose(system="base", parameters={"temperature": 0.1, "top_k": 5}, messages=[("user", "a")], license=["L"])
    changed = inherit(base, compose(system="new", parameters={"temperature": 0.9}))
    assert (changed.system, changed.messages, changed.license) == ("new", base.messages, base.license)
    assert changed.sampling == Sampling(temperature=0.9, top_k=5)
    assert inherit(base, compose(system="")).system == ""


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=60) | st.text(
    '" \n#ab{}.\t', max_size=20
)


@given(TEXT, TEXT, TEXT, TEXT.filter(bool))
def test_what_is_written_is_read_back_or_refused(system: str, template: str, message: str, stop: str) -> None:
    try:
        modelfile = compose(
            system=system,
            template=template,
            parameters={"stop": [stop]},
            messages=[("user", message)],
            license=[system],
        )
        text = render("./a b.gguf", modelfile)
    except ModelfileInvalid:
        said = (system, template, message, stop)
        assert "{{" in template or any('"""' in text for text in said)
        return
    assert parse(text) == Written("./a b.gguf", modelfile)


@given(st.text(max_size=200) | st.text('FROMSYSTEM "\n=#', max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ModelfileInvalid):
        parse(text)
