import pytest
from hypothesis import given
from hypothesis import strategies as st

from rkllama_flask.catalog.reading.names import Name, folder_for, name_of_folder, parse, parse_new, take_apart
from rkllama_flask.errors import InvalidRequest


@pytest.mark.parametrize(
    "text", ["foo", "FOO", " foo ", "foo:latest", "Foo:LATEST", "library/foo", "registry.ollama.ai/library/foo"]
)
def test_one_model_may_be_written_in_many_ways(text: str) -> None:
    assert parse(text).key == "foo"


def test_a_name_keeps_its_namespace_its_tag_and_its_case() -> None:
    assert parse("hf.co/Org/Repo:Q4_K_M") == Name("hf.co/Org/Repo", "Q4_K_M")
    assert parse("hf.co/Org/Repo:Q4_K_M").text == "hf.co/Org/Repo:Q4_K_M"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "../x",
            "..",
            ".",
            "a/../b",
            "a/./b",
            "/etc/passwd",
            "~/x",
            "a//b",
            "a/",
            "/a",
            "a\\b",
            "C:\\x",
            "C:/x",
            "file:///x",
        ),
        *(
            "a\0",
            "\0",
            "a\nb",
            "a\n",
            "a\r",
            "a b",
            "a\tb",
            "-a",
            ".a",
            "a:-b",
            "a:b:c",
            ":a",
            ":",
            "a:b/c",
            "a/b/c/d/e/f",
        ),
        *("ｑwen", "qwеn", "qwen３", "model․gguf", "a∕b", "a：b", "ﬁ", "é", "模型", "a\u200bb", "a\u202eb", "\ufeffa"),
        *(
            "x" * 201,
            "a/" * 150 + "a",
            "%2e%2e",
            "a%00",
            "a;b",
            "a$b",
            "a*",
            "a?",
            "a<b",
            "a|b",
            "a'b",
            'a"b',
            "a@b",
            "a+b",
        ),
    ],
)
def test_what_is_no_name_is_refused_and_the_field_is_named(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(text, param="destination")
    assert caught.value.param == "destination"
    assert caught.value.message.isascii()


@pytest.mark.parametrize("text", ["", " ", "   "])
def test_no_name_at_all_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="required"):
        parse(text)


def test_a_new_name_has_parts_of_at_most_80_characters() -> None:
    assert parse("x" * 100)
    with pytest.raises(InvalidRequest):
        parse_new("x" * 81)
    with pytest.raises(InvalidRequest):
        parse_new(f"a:{'x' * 81}")
    assert parse_new(f"{'x' * 80}:{'y' * 80}")


@given(st.text(max_size=300))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    try:
        name = parse(text)
    except InvalidRequest:
        return
    assert ".." not in name.text.split("/")
    assert name.text.isascii()


NAME = st.from_regex(
    r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}/)?[A-Za-z0-9_][A-Za-z0-9_.-]{0,30}(?::[A-Za-z0-9_]{1,9})?", fullmatch=True
)


@given(NAME)
def test_a_folder_leads_back_to_its_name_and_never_out_of_its_place(text: str) -> None:
    name = parse_new(text)
    folder = folder_for(name)
    assert "/" not in folder
    assert folder not in (".", "..")
    assert not folder.startswith(".")
    assert name_of_folder(folder) == name


@pytest.mark.parametrize(
    ("stem", "friendly"),
    [
        ("Qwen3-0.6B-rk3588-w8a8-opt-1", "qwen3-0.6b"),
        ("Qwen2.5-3B-Instruct-rk3588-w8a8-opt-0-hybrid-ratio-1.0", "qwen2.5-3b-instruct"),
        ("deepseek-coder-7b-instruct-v1.5-w8a8_g128", "deepseek-coder-7b-instruct-v1.5"),
        ("opt-125m", "opt-125m"),
        ("Phi-3-mini-4k-instruct-q4", "phi-3-mini-4k-instruct"),
        ("w8a8", "model"),
        ("模型", "model"),
        ("...", "model"),
        ("x" * 300, "x" * 80),
    ],
)
def test_a_file_name_gives_a_friendly_name(stem: str, friendly: str) -> None:
    assert take_apart(stem).friendly == friendly


def test_what_was_cut_away_is_known() -> None:
    packaging = take_apart("Qwen3-0.6B-rk3588s-w8a8_g128-opt-1-hybrid-ratio-0.5-ctx16k-rkllm1.2.3").packaging
    assert packaging.traits() == ("w8a8_g128", "rk3588s", "ctx16k", "opt1", "hybrid0.5", "toolkit1.2.3")


@given(st.text(max_size=120))
def test_any_file_name_gives_a_name_that_is_valid(stem: str) -> None:
    assert parse_new(take_apart(stem).friendly).tag is None
