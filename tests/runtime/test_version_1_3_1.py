"""RKLLM 1.3.1 copies an input that is 48 bytes longer than 1.3.0's: it has to find zeros there."""

from pathlib import Path

from rkllama_flask.runtime.context import Context, ContextParameters
from rkllama_flask.runtime.library import Library
from tests.conftest import scripted_library


def open_model(folder: Path) -> Context:
    (folder / "model.rkllm").write_text("tokens=3")
    library = Library.open(scripted_library("1.3.1"))
    assert (library.version, library.family) == ("1.3.1", "1.3")
    return Context.open(library, ContextParameters(folder / "model.rkllm", context_length=1024))


def test_text_tokens_and_hidden_states_are_asked_for_as_it_wants_them(tmp_path: Path) -> None:
    context = open_model(tmp_path)
    try:
        answers: list[bytes] = []
        for prompt in ("hello there", [1, 2, 3], "hello there again"):
            statistics = context.run(prompt, lambda text, _: answers.append(text))
            assert statistics.prefill_tokens is not None
        assert len(answers) == 9
        assert context.embed("hello").rows
    finally:
        context.close()
