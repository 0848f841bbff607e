import pytest

from rkllama_flask.catalog.pull.choice import Choice, RemoteFile, choose
from rkllama_flask.errors import PullFailed


def choice(*paths: str, wanted: str | None = None, platform: str | None = "RK3588", repo: str = "org/Qwen3") -> Choice:
    return choose([RemoteFile(path, 10) for path in paths], repo, wanted, platform)


def chosen(*paths: str, wanted: str | None = None, platform: str | None = "RK3588", repo: str = "org/Qwen3") -> str:
    return choice(*paths, wanted=wanted, platform=platform, repo=repo).weights[0].path


BOARDS = ("Qwen3-rk3576-w4a16.rkllm", "Qwen3-rk3588-w8a8.rkllm", "Qwen3-rk3562-w8a8.rkllm", "Qwen3-Q4_K_M.gguf")


@pytest.mark.parametrize(
    ("platform", "file"),
    [
        ("RK3588", "Qwen3-rk3588-w8a8.rkllm"),
        ("RK3576", "Qwen3-rk3576-w4a16.rkllm"),
        ("RV1126B", "Qwen3-Q4_K_M.gguf"),
        (None, "Qwen3-Q4_K_M.gguf"),
    ],
)
def test_each_machine_gets_the_file_made_for_it(platform: str | None, file: str) -> None:
    assert chosen(*BOARDS, platform=platform) == file


def test_the_reason_is_told() -> None:
    assert choice(*BOARDS).reason == "made for RK3588, which this is"
    assert choice("a.rkllm").reason == "its name doesn't say which platform it was made for; RK3588 is hoped for"
    assert choice("a-Q8_0.gguf").reason == "there is none for RK3588, and this one runs on the CPU; Q8_0"
    assert choice("a-Q8_0.gguf", platform=None).reason == "this machine has no NPU; Q8_0"
    assert choice(*BOARDS, wanted="w8a8").reason == "as asked"
    assert choice(*BOARDS, wanted=BOARDS[0]).reason == "as asked, though it was made for RK3576 and this is RK3588"


@pytest.mark.parametrize(
    ("better", "worse", "platform"),
    [
        ("a-rk3588-w8a8.rkllm", "a-rk3588-w8a8_g128.rkllm", "RK3588"),
        ("a-rk3588-w8a8-hybrid-ratio-0.0.rkllm", "a-rk3588-w8a8-hybrid-ratio-0.5.rkllm", "RK3588"),
        ("a-rk3588-w8a8.rkllm", "a-rk3588-w8a8-ctx16384.rkllm", "RK3588"),
        ("a-rk3588-w8a8_g512.rkllm", "a-rk3588-w4a16.rkllm", "RK3588"),
        ("a-rk3588s-w8a8.rkllm", "a-w8a8.rkllm", "RK3588"),
        ("a-w8a8.rkllm", "a-Q4_K_M.gguf", "RK3588"),
        ("a-rk3576-w4a16_g128.rkllm", "a-rk3576-w8a8.rkllm", "RK3576"),
        ("rk3588/model.rkllm", "rk3576/model.rkllm", "RK3588"),
        ("a-Q4_K_M.gguf", "a-Q8_0.gguf", None),
        ("a-Q4_0.gguf", "a-f16.gguf", None),
        ("a-Q8_0.gguf", "a-IQ1_S.gguf", None),
    ],
)
def test_of_two_files_the_better_one_is_taken(better: str, worse: str, platform: str | None) -> None:
    assert chosen(better, worse, platform=platform) == chosen(worse, better, platform=platform) == better


@pytest.mark.parametrize(
    ("wanted", "file"),
    [
        ("Q8_0", "a-Q8_0.gguf"),
        ("q8_0", "a-Q8_0.gguf"),
        ("a-Q8_0", "a-Q8_0.gguf"),
        ("A-Q8_0.GGUF", "a-Q8_0.gguf"),
        ("UD-Q4_K_XL", "a-UD-Q4_K_XL.gguf"),
        ("w8a8_g128", "sub/a-rk3588-w8a8_g128.rkllm"),
        ("sub/a-rk3588-w8a8_g128.rkllm", "sub/a-rk3588-w8a8_g128.rkllm"),
        ("a-rk3588-w8a8_g128.rkllm", "sub/a-rk3588-w8a8_g128.rkllm"),
        ("w8a8-opt1", "a-rk3588-w8a8-opt-1.rkllm"),
        ("gguf", "a-Q8_0.gguf"),
    ],
)
def test_a_file_is_found_by_its_name_or_its_quantisation(wanted: str, file: str) -> None:
    files = ("a-UD-Q4_K_XL.gguf", "a-Q8_0.gguf", "a-rk3588-w8a8-opt-1.rkllm", "sub/a-rk3588-w8a8_g128.rkllm")
    assert chosen(*files, wanted=wanted) == file


def test_a_platform_in_the_repositorys_name_counts_for_its_files() -> None:
    assert choice("model.rkllm", repo="org/Qwen3-0.6B-RK3588").reason == "made for RK3588, which this is"
    with pytest.raises(PullFailed, match="only files for RK3576, and this is RK3588"):
        choice("model.rkllm", repo="org/Qwen3-0.6B-RK3576")


def test_split_weights_come_whole() -> None:
    parts = [f"a-Q4_K_M-0000{n}-of-00003.gguf" for n in (3, 1, 2)]
    assert [file.path for file in choice(*parts, "b.gguf", wanted="Q4_K_M").weights] == sorted(parts)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (
            ("a-00001-of-00003.gguf", "a-00003-of-00003.gguf"),
            "one of 3 files, and the repository lacks a-00002-of-00003",
        ),
        (("a-00001-of-00002.gguf", "a-00002-of-00003.gguf"), "lacks a-00002-of-00002.gguf"),
        (("a-00002-of-00003.gguf",), "has a-00002-of-00003.gguf, but not the first file"),
    ],
)
def test_a_missing_part_is_said_before_a_byte_comes(files: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(PullFailed, match=sentence):
        choice(*files)


def test_no_part_of_none_is_a_whole_file() -> None:
    assert chosen("a-00001-of-00000.gguf") == "a-00001-of-00000.gguf"


def test_adapters_and_picture_encoders_are_no_models() -> None:
    assert chosen("a-mmproj-f16.gguf", "a-much-longer-name.gguf") == "a-much-longer-name.gguf"
    assert chosen("mmproj-a-f16.gguf", "a-lora-rk3588.rkllm", "explorations.rkllm") == "explorations.rkllm"


@pytest.mark.parametrize(
    ("files", "wanted", "platform", "sentence"),
    [
        (("model.safetensors",), None, "RK3588", r"no .rkllm and no .gguf file.*search=Qwen3\+rk3588"),
        ((), None, None, "no .rkllm and no .gguf file"),
        (("a-rk3588-w8a8.rkllm",), None, None, "only files for RK3588, and this machine has no NPU.*name it"),
        (("a-rk3588-w8a8.rkllm", "b.gguf"), "Q2_K", "RK3588", "no file or quantisation 'Q2_K'. It has a-rk3588-w8a8"),
        (tuple(f"a-{n}.gguf" for n in range(20)), "x", None, "and 8 more"),
    ],
)
def test_where_nothing_fits_it_says_what_there_is(
    files: tuple[str, ...], wanted: str | None, platform: str | None, sentence: str
) -> None:
    with pytest.raises(PullFailed, match=sentence):
        choice(*files, wanted=wanted, platform=platform)
