"""Listens to what the runtime prints: the only place where it says why something failed and what a model can do.

The library prints to the process's own stdout and stderr, file descriptors 1 and 2. `RuntimeLog.capture` leads both
into a pipe and gives everything of Python's that wrote there (`sys.stdout`, logging's handlers, faulthandler) a
duplicate made before. A thread of the operating system drains the pipe, keeps the lines for whoever listens, and passes
on to the duplicate of stderr what belongs there.

A call's lines are complete when it has returned, without sleeping: `listening` flushes C's stdout, writes a marker into
the same pipe and waits until the thread has met it. The marker holds a number nobody can guess, so no printed text can
pass for it.

What is passed on follows RKLLM_LOG_LEVEL. Unset or 0: everything but the runtime's own "I" lines. 1: everything.
From 2 on the library prints prompts, so only known lines, which can't hold text of a user, ever leave.

The thread touches nothing that gevent patches (no logging, no threading), and no more do `begin` and `collect`.
"""

import atexit
import ctypes
import faulthandler
import io
import logging
import os
import secrets
import sys
from _queue import SimpleQueue
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

from rkllama_flask.runtime.log_lines import is_harmless

_KEPT = 2000
_LONGEST = 1 << 16
_LINE_BUFFERED = 1
_INFO = "I rkllm:"


class RuntimeLog:
    """The capture of this process's output. There is one at most: a process has one stdout."""

    _captured: ClassVar["RuntimeLog | None"] = None

    def __init__(self) -> None:
        self._process = os.getpid()
        self._level = _log_level()
        self._mark = b"\x01rkllama " + secrets.token_hex(16).encode() + b" "
        self._lines: deque[bytes] = deque(maxlen=_KEPT)
        self._answers: SimpleQueue[list[bytes]] = SimpleQueue()
        self._undo: list[Callable[[], object]] = []
        self._libc = ctypes.CDLL(None)
        self._stdout = ctypes.c_void_p.in_dll(self._libc, "stdout")
        self._libc.setvbuf.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t)
        self._libc.fflush.argtypes = (ctypes.c_void_p,)

    @classmethod
    def active(cls) -> "RuntimeLog | None":
        """The capture in force in this process, if any. A forked child's output goes to its parent's."""
        log = cls._captured
        return log if log is not None and log._process == os.getpid() else None

    @classmethod
    def capture(cls) -> "RuntimeLog":
        """Take the output of this process; a second call returns the capture in force.

        To be called where logging may be used (never on the engine's thread), after the fork and before the first
        library is loaded. It ends with `release`, at the latest when the interpreter does.
        """
        if (log := cls.active()) is not None:
            return log
        log = cls()
        log._take()
        cls._captured = log
        atexit.register(log.release)
        return log

    def begin(self) -> None:
        """Forget the lines so far: from here on they belong to the next `collect`."""
        self._write_mark(b"begin")

    def collect(self) -> list[str]:
        """All lines printed since `begin`, complete."""
        self._write_mark(b"collect")
        return [line.decode("utf-8", "replace") for line in self._answers.get()]

    def release(self) -> None:
        """Give the output back; everything printed so far has been dealt with when this returns."""
        if RuntimeLog._captured is not self or self._process != os.getpid():
            return
        RuntimeLog._captured = None
        atexit.unregister(self.release)
        self._libc.fflush(self._stdout)
        for undo in reversed(self._undo):
            undo()
        self._write_mark(b"end")
        self._answers.get()
        for fd in (self._reading, self._writing, self._out, self._err):
            os.close(fd)

    # Taking and giving back

    def _take(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self._libc.fflush(self._stdout)
        self._libc.setvbuf(self._stdout, None, _LINE_BUFFERED, 0)
        self._out, self._err = os.dup(1), os.dup(2)
        self._reading, self._writing = os.pipe()
        self._redirect_python({1: self._out, 2: self._err})
        _start_native_thread(self._drain)
        for fd, saved in ((1, self._out), (2, self._err)):
            os.dup2(self._writing, fd)
            self._undo.append(lambda fd=fd, saved=saved: os.dup2(saved, fd))  # type: ignore[misc]

    def _redirect_python(self, duplicates: dict[int, int]) -> None:
        """What Python writes to the two descriptors goes on to their duplicates, past the pipe."""
        streams: dict[int, Any] = {}
        for name in ("stdout", "stderr", "__stdout__", "__stderr__"):
            old = getattr(sys, name)
            fd = _descriptor(old)
            if fd in duplicates:
                streams.setdefault(id(old), _reopened(old, duplicates[fd]))
                setattr(sys, name, streams[id(old)])
                self._undo.append(lambda name=name, old=old: setattr(sys, name, old))  # type: ignore[misc]
        loggers = [logging.root, *logging.root.manager.loggerDict.values()]
        for handler in {handler for one in loggers for handler in getattr(one, "handlers", ())}:
            if isinstance(handler, logging.StreamHandler) and (fd := _descriptor(handler.stream)) in duplicates:
                old = handler.stream
                handler.setStream(streams.setdefault(id(old), _reopened(old, duplicates[fd])))
                self._undo.append(lambda handler=handler, old=old: handler.setStream(old))  # type: ignore[misc]
        if faulthandler.is_enabled():
            faulthandler.enable(duplicates[2])
            self._undo.append(lambda: faulthandler.enable(2))

    # Marks

    def _write_mark(self, kind: bytes) -> None:
        # To the pipe itself, not to descriptor 1: somebody else may have redirected that meanwhile.
        self._libc.fflush(self._stdout)
        os.write(self._writing, self._mark + kind + b"\n")

    # The draining thread

    def _drain(self) -> None:
        rest = b""
        while True:
            *lines, rest = (rest + os.read(self._reading, 1 << 16)).split(b"\n")
            if len(rest) > _LONGEST:
                lines, rest = [*lines, rest], b""
            for line in lines:
                before, mark, kind = line.partition(self._mark)
                if before or not mark:
                    self._take_line(before)
                if mark and self._answer(kind):
                    return

    def _answer(self, kind: bytes) -> bool:
        """Do what a mark asks for; says whether it is the end."""
        if kind != b"begin":
            self._answers.put(list(self._lines))
        self._lines.clear()
        return kind == b"end"

    def _take_line(self, line: bytes) -> None:
        self._lines.append(line)
        if self._passes(line.decode("utf-8", "replace")):
            with suppress(OSError):  # a log that can't be written must not stop the runtime
                os.write(self._err, line + b"\n")

    def _passes(self, line: str) -> bool:
        if self._level >= 2:
            return is_harmless(line)
        return self._level == 1 or not line.startswith(_INFO)


@contextmanager
def listening() -> Iterator[list[str]]:
    """The lines the runtime prints in the body, complete after it; none where nothing is captured."""
    lines: list[str] = []
    log = RuntimeLog.active()
    if log is None:
        yield lines
        return
    log.begin()
    try:
        yield lines
    finally:
        lines += log.collect()


def _log_level() -> int:
    text = os.environ.get("RKLLM_LOG_LEVEL", "0").strip() or "0"
    return int(text) if text.isdecimal() else 2  # what is not understood may mean anything: be silent


def _descriptor(stream: Any) -> int | None:
    try:
        return int(stream.fileno())
    except (AttributeError, OSError, ValueError):  # closed, or no file at all
        return None


def _reopened(stream: Any, fd: int) -> io.TextIOWrapper:
    return open(
        fd,
        "w",
        buffering=1,
        encoding=getattr(stream, "encoding", None) or "utf-8",
        errors=getattr(stream, "errors", None) or "backslashreplace",
        closefd=False,
    )


def _start_native_thread(function: Callable[[], None]) -> None:
    """A thread of the operating system, also where gevent has made threads greenlets."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        start = monkey.get_original("_thread", "start_new_thread")
    else:
        from _thread import start_new_thread as start
    start(function, ())
