"""The capture of the process's output: complete, discreet, and never in anybody's way."""

import ctypes
import os
from pathlib import Path

import pytest

from rkllama_flask.runtime.log import RuntimeLog, listening
from tests.runtime.conftest import Child

LIBC = ctypes.CDLL(None)

PRELUDE = """
    from rkllama_flask.runtime.log import RuntimeLog, listening
    libc = ctypes.CDLL(None)
"""


def test_a_calls_lines_are_complete_when_it_has_returned(log: RuntimeLog) -> None:
    for number in range(200):
        with listening() as lines:
            LIBC.printf(b"I rkllm: one %d\n", number)
            LIBC.printf(b"I rkllm: two %d\n", number)
        assert lines == [f"I rkllm: one {number}", f"I rkllm: two {number}"]


def test_lines_belong_to_the_call_that_printed_them(log: RuntimeLog) -> None:
    LIBC.printf(b"I rkllm: before\n")
    with listening() as lines:
        LIBC.printf(b"I rkllm: within\n")
    LIBC.printf(b"I rkllm: after\n")
    with listening() as later:
        pass
    assert lines == ["I rkllm: within"]
    assert later == []


def test_both_streams_are_heard(log: RuntimeLog) -> None:
    with listening() as lines:
        LIBC.printf(b"I rkllm: out\n")
        os.write(2, b"I rkllm: err\n")
    assert sorted(lines) == ["I rkllm: err", "I rkllm: out"]


def test_a_line_without_an_end_is_heard(log: RuntimeLog) -> None:
    with listening() as lines:
        LIBC.printf(b"I rkllm: half a line")
    assert lines == ["I rkllm: half a line"]


def test_bytes_that_are_no_text_are_heard(log: RuntimeLog) -> None:
    with listening() as lines:
        os.write(1, b"I rkllm: \xff\xfe\n\n")
    assert lines == ["I rkllm: \ufffd\ufffd", ""]


def test_no_printed_text_passes_for_a_mark(log: RuntimeLog) -> None:
    with listening() as lines:
        os.write(1, b"\x01rkllama 00000000000000000000000000000000 collect\nI rkllm: more\n")
    assert len(lines) == 2


def test_a_flood_neither_hangs_nor_stays_in_memory(child: Child) -> None:
    done = child(
        PRELUDE
        + """
    RuntimeLog.capture()
    with listening() as lines:
        for number in range(5000):
            libc.printf(b"I rkllm: %d\\n", number)
        libc.printf(b"E rkllm: the end of it\\n")
        for part in range(100):
            os.write(1, b"x" * 10_000)
    assert "E rkllm: the end of it" in lines
    assert sum(map(len, lines)) < 1 << 20
    """
    )
    assert done.returncode == 0, done.stderr[:2000]
    assert done.stderr.replace("\n", "") == "E rkllm: the end of it" + "x" * 1_000_000


def test_redirected_descriptors_are_taken_again(log: RuntimeLog) -> None:
    away = os.open(os.devnull, os.O_WRONLY)
    os.dup2(away, 1)
    os.close(away)
    with listening() as lines:
        LIBC.printf(b"I rkllm: still heard\n")
    assert lines == ["I rkllm: still heard"]


def test_there_is_one_capture_at_most(log: RuntimeLog) -> None:
    assert RuntimeLog.capture() is log
    assert RuntimeLog.active() is log


def test_without_a_capture_nothing_is_heard_and_nothing_hangs() -> None:
    assert RuntimeLog.active() is None
    with listening() as lines:
        pass
    assert lines == []


def test_after_the_release_a_late_listener_does_not_hang() -> None:
    log = RuntimeLog.capture()
    log.begin()
    log.release()
    log.release()
    log.begin()
    assert log.collect() == []
    assert RuntimeLog.active() is None


def test_a_released_log_can_be_taken_again_many_times() -> None:
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        log = RuntimeLog.capture()
        with listening() as lines:
            os.write(1, b"I rkllm: again\n")
        assert lines == ["I rkllm: again"]
        log.release()
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


@pytest.mark.parametrize(
    ("level", "passed"),
    [
        ("", ["E rkllm: broken", "from elsewhere"]),
        ("0", ["E rkllm: broken", "from elsewhere"]),
        ("1", ["I rkllm: Stage  Total Time", "E rkllm: broken", "from elsewhere"]),
        ("2", ["I rkllm: rkllm_run ended"]),
        ("9", ["I rkllm: rkllm_run ended"]),
        ("verbose", ["I rkllm: rkllm_run ended"]),
    ],
)
def test_what_is_passed_on_follows_the_librarys_log_level(child: Child, level: str, passed: list[str]) -> None:
    done = child(
        PRELUDE
        + """
    RuntimeLog.capture()
    with listening() as lines:
        libc.printf(b"I rkllm: Stage  Total Time\\nE rkllm: broken\\nfrom elsewhere\\n")
        if os.environ["RKLLM_LOG_LEVEL"] not in ("", "0", "1"):
            libc.printf(b"I rkllm: prompt: my password\\nis 1234\\nI rkllm: rkllm_run ended 1234\\n")
    assert len(lines) >= 3
    """,
        RKLLM_LOG_LEVEL=level,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == passed
    assert done.stdout == ""


def test_what_python_writes_does_not_go_through_the_pipe(child: Child) -> None:
    done = child(
        PRELUDE
        + """
    import logging
    logging.basicConfig(level="INFO", format="%(message)s")
    other = logging.getLogger("other")
    other.addHandler(logging.StreamHandler(sys.stdout))
    other.propagate = False
    print("printed before")
    libc.printf(b"C before\\n")
    log = RuntimeLog.capture()
    with listening() as lines:
        print("printed")
        print("printed to stderr", file=sys.stderr)
        logging.info("logged")
        other.info("logged to stdout")
    assert lines == [], lines
    log.release()
    print("printed after")
    logging.info("logged after")
    libc.printf(b"C after\\n")
    """
    )
    assert done.returncode == 0, done.stderr
    written = done.stdout.splitlines()
    assert sorted(written) == ["C after", "C before", "logged to stdout", "printed", "printed after", "printed before"]
    assert done.stderr.splitlines() == ["printed to stderr", "logged", "logged after"]


def test_what_is_printed_last_is_not_lost(child: Child) -> None:
    done = child(
        PRELUDE
        + """
    RuntimeLog.capture()
    libc.printf(b"W rkllm: last words\\n")
    print("the end", end="")
    """
    )
    assert done.returncode == 0
    assert done.stderr == "W rkllm: last words\n"
    assert done.stdout == "the end"


def test_a_childs_output_is_passed_on(child: Child) -> None:
    done = child(
        PRELUDE
        + """
    import subprocess
    log = RuntimeLog.capture()
    subprocess.run(["echo", "from a child"], check=True)
    if os.fork() == 0:
        assert RuntimeLog.active() is None
        with listening() as lines:
            os.write(1, b"from a fork\\n")
        os._exit(len(lines))
    assert os.wait()[1] == 0
    """
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == ["from a child", "from a fork"]


def test_a_crash_is_still_told_where_the_operator_looks(child: Child) -> None:
    done = child(
        PRELUDE
        + """
    import faulthandler
    faulthandler.enable()
    RuntimeLog.capture()
    ctypes.string_at(0)
    """
    )
    assert done.returncode == -11
    assert "Segmentation fault" in done.stderr


def test_a_log_nobody_reads_any_more_does_not_stop_the_runtime(child: Child) -> None:
    done = child(
        PRELUDE
        + """
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    log = RuntimeLog.capture()
    os.close(reading)
    with listening() as lines:
        libc.printf(b"E rkllm: one\\n")
    print(lines)
    log.release()
    """
    )
    assert done.returncode == 0
    assert done.stdout == "['E rkllm: one']\n"


UNDER_GEVENT = """
    from gevent import monkey
    monkey.patch_all()
    import gevent, logging
    from rkllama_flask.runtime.context import Context, ContextParameters
    from rkllama_flask.runtime.library import Library
    from rkllama_flask.runtime.log import RuntimeLog

    logging.basicConfig(level="INFO", format="%(message)s")
    RuntimeLog.capture()
    results = []

    def native():
        try:
            library = Library.open(library_path)
            context = Context.open(library, ContextParameters(model, 1024))
            for number in range(5):
                context.run(f"{number} <<script tokens=10 decode_ms=5>>", lambda text, token_id: results.append(text))
            try:
                context.run("word" + " word" * 1999, print)
            except Exception as error:
                results.append(error)
            context.close()
        except BaseException as error:
            results.append(error)
        results.append(None)

    def chatter(name):
        for number in range(100000):
            logging.info("%s %d", name, number)
            gevent.sleep(0.001)

    chatters = [gevent.spawn(chatter, name) for name in "abc"]
    monkey.get_original("_thread", "start_new_thread")(native, ())
    while not results or results[-1] is not None:
        gevent.sleep(0.01)
    gevent.killall(chatters)
    assert results[:10] == [b"w0", b" w1", b" w2", b" w3", b" w4", b" w5", b" w6", b" w7", b" w8", b" w9"], results
    assert len(results) == 52
    print(type(results[50]).__name__, results[50].prompt_tokens)
"""


def test_under_gevent_the_hub_goes_on_logging_while_the_runtime_prints(child: Child, library_path: Path) -> None:
    done = child(UNDER_GEVENT, path=library_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "ContextLengthExceeded 2000\n"
    logged = [line for line in done.stderr.splitlines() if line.startswith("a ")]
    assert len(logged) > 5  # of 250 ms: the hub was never blocked
    assert logged == [f"a {number}" for number in range(len(logged))]
