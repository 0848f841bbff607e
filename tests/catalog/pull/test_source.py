import pytest

from rkllama_flask.catalog.pull.source import Source, parse_source
from rkllama_flask.errors import InvalidRequest


@pytest.mark.parametrize(
    ("name", "repo", "wanted"),
    [
        ("org/repo", "org/repo", None),
        (" org/repo ", "org/repo", None),
        ("hf.co/org/repo", "org/repo", None),
        ("HF.co/Org/Repo-1.5", "Org/Repo-1.5", None),
        ("huggingface.co/org/repo:latest", "org/repo", None),
        ("org/repo:Q4_K_M", "org/repo", "Q4_K_M"),
        ("hf.co/org/repo:Q4_K_M", "org/repo", "Q4_K_M"),
        ("org/repo:model-rk3588-w8a8.rkllm", "org/repo", "model-rk3588-w8a8.rkllm"),
        ("org/repo:rk3588/model.rkllm", "org/repo", "rk3588/model.rkllm"),
        ("https://huggingface.co/org/repo", "org/repo", None),
        ("https://huggingface.co/org/repo/", "org/repo", None),
        ("https://huggingface.co/org/repo/tree/main", "org/repo", None),
        ("https://huggingface.co/org/repo/blob/main/a/b.gguf", "org/repo", "a/b.gguf"),
        ("https://hf.co/org/repo/resolve/main/b%20c.gguf?download=true", "org/repo", "b c.gguf"),
    ],
)
def test_a_name_means_a_repository_and_a_file(name: str, repo: str, wanted: str | None) -> None:
    assert parse_source(name) == Source(repo, wanted)


@pytest.mark.parametrize("name", ["qwen3", "qwen3:8b", "a/b/c", "example.com/org/repo", "hf.co/org"])
def test_a_name_that_is_none_on_the_hub_may_still_be_a_models(name: str) -> None:
    assert parse_source(name) is None


@pytest.mark.parametrize(
    "name",
    [
        *("", "/", "../x", "/etc/passwd", "org/..", "../org", "org/../x", "org/re..po", "./org", "org/.repo", "a//b"),
        *("org/repo:../x", "org/repo:a/../../x", "org/repo:/etc/passwd", "org/repo:.hidden", "org/repo:a\\b"),
        *("org/re\0po", "org/repo:a\0b", "org/repo\n", "org/r\u00e9po", "\uff4frg/repo", "org/" + "x" * 300, "x" * 999),
        *("hf.co/../org", "https://huggingface.co/../../org", "https://huggingface.co/org/%2e%2e", "-o/repo", "--help"),
    ],
)
def test_a_name_that_can_be_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="invalid model name"):
        parse_source(name)
