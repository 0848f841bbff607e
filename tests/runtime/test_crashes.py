"""What really kills a process, and that the guards keep it from happening."""

import signal
from pathlib import Path

import pytest

from tests.runtime.conftest import Child

OPEN = """
    from rkllama_flask.errors import ProcessSpent, RkllamaError, RuntimeFailed
    from rkllama_flask.runtime.context import Context, ContextParameters
    from rkllama_flask.runtime.library import Library
    from rkllama_flask.runtime.log import RuntimeLog
    RuntimeLog.capture()
    library = Library.open(library_path)
    parameters = ContextParameters(model, 1024)
    def ignore(text, token_id): pass
"""


def test_loading_a_cache_after_an_abort_is_refused_where_it_would_crash(child: Child, library_path: Path) -> None:
    program = (
        OPEN
        + """
    context = Context.open(library, parameters)
    context.run("a b", ignore, save_cache=tmp / "cache")
    context.run("c <<script tokens=9>>", lambda *_: context.abort())
    """
    )
    unguarded = program + 'library.calls.load_prompt_cache(context._handle, bytes(tmp / "cache"))\n'
    guarded = (
        program
        + """
    try:
        context.load_prompt_cache(tmp / "cache")
    except RuntimeFailed as error:
        print(error)
    """
    )
    guess = {"RKLLM_GUESS_LOAD_AFTER_ABORT_CRASHES": "1"}
    if "1.2" in library_path.name:
        assert child(unguarded, path=library_path, **guess).returncode == -signal.SIGSEGV
        done = child(guarded, path=library_path, **guess)
        assert done.returncode == 0, done.stderr
        assert "end by itself first" in done.stdout
    else:
        done = child(guarded, path=library_path)
        assert (done.returncode, done.stdout) == (0, "")


def test_after_a_failed_init_nothing_more_is_tried_where_it_would_crash(child: Child, library_path: Path) -> None:
    done = child(
        OPEN
        + """
    for attempt in range(3):
        try:
            Context.open(library, ContextParameters(model, 8192))
        except RkllamaError as error:
            print(type(error).__name__, library.spent)
    """,
        path=library_path,
        RKLLM_GUESS_SECOND_INIT_CRASHES="0" if "1.2" in library_path.name else "1",
    )
    assert done.returncode == 0, done.stderr
    expected = {True: ["ContextTooLarge False"] * 3, False: ["ContextTooLarge True", *["ProcessSpent True"] * 2]}
    assert done.stdout.splitlines() == expected["1.2" in library_path.name]


@pytest.mark.parametrize(
    ("script", "number"), [("segv=2", signal.SIGSEGV), ("abrt=2", signal.SIGABRT), ("segv=prefill", signal.SIGSEGV)]
)
def test_a_crash_in_a_run_ends_the_process_and_nothing_holds_it(
    child: Child, library_path: Path, script: str, number: int
) -> None:
    done = child(
        OPEN
        + f"""
    context = Context.open(library, parameters)
    context.run("<<script tokens=9 {script}>>", ignore)
    """,
        path=library_path,
    )
    assert done.returncode == -number


def test_a_process_may_end_with_a_model_loaded(child: Child, library_path: Path) -> None:
    done = child(
        OPEN + '    context = Context.open(library, parameters)\n    context.run("a", ignore)\n', path=library_path
    )
    assert (done.returncode, done.stderr) == (0, "")
