"""Listens to what the runtime prints: the only place where it says why something failed and what a model can do.

The library prints to the process's own stdout and stderr, file descriptors 1 and 2. `RuntimeLog.capture` leads both
into a pipe and gives everything of Python's that wrote there (`sys.stdout`, logging's handlers, faulthandler) a
duplicate made before. A thread of the operating system drains the pipe, keeps the lines for whoever listens, and passes
on to the duplicate of stderr what belongs there.

A call's lines are complete when it has returned, without sleeping: `listening` flushes C's stdout, writes a marker into
the same pipe and waits until the thread has met it. The marker holds a number nobody can guess, so no printed text can
pass for it.

What is passed on follows RKLLM_LOG_LEVEL. Unset or 0: everything but the runtime's own "I" lines. 1: everything.
From 2 on the library prints prompts, so of known lines the known part leaves, and nothing else.

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
from functools import partial
from typing import Any, ClassVar

from rkllama_flask.native_threads import native_lock, start_native_thread
from rkllama_flask.runtime.log_lines import known_part

_KEPT_LINES = 2000
_KEPT_BYTES = 4096
_LONGEST = 1 << 16
_LINE_BUFFERED = 1
_INFO = b"I rkllm:"


class RuntimeLog:
    """The capture of this process's output. There is one at most: a process has one stdout."""

    _captured: ClassVar["RuntimeLog | None"] = None

    def __init__(self) -> None:
        self._process = os.getpid()
        self._level = _log_level()
        self._mark = b"\x01rkllama " + secrets.token_hex(16).encode() + b" "
        self._lines: deque[bytes] = deque(maxlen=_KEPT_LINES)
        self._answers: SimpleQueue[list[bytes]] = SimpleQueue()
        self._ended: SimpleQueue[bool] = SimpleQueue()
        self._lock = native_lock()  # between a last collect and the release
        self._released = False
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
        """All lines printed since `begin`, complete; none once the capture has been released."""
        if not self._write_mark(b"collect"):
            return []
        return [line.decode("utf-8", "replace") for line in self._answers.get()]

    def release(self) -> None:
        """Give the output back; everything printed so far has been dealt with when this returns."""
        if RuntimeLog._captured is not self or self._process != os.getpid():
            return
        RuntimeLog._captured = None
        atexit.unregister(self.release)
        self._write_mark(b"end")
        self._ended.get()
        for undo in reversed(self._undo):
            undo()
        for fd in (self._reading, self._writing, self._out, self._err):
            os.close(fd)

    # Taking and giving back

    def _take(self) -> None:
        self._libc.fflush(self._stdout)
        self._libc.setvbuf(self._stdout, None, _LINE_BUFFERED, 0)
        self._out, self._err = os.dup(1), os.dup(2)
        self._reading, self._writing = os.pipe()
        self._inode = os.fstat(self._writing).st_ino
        self._redirect_python()
        start_native_thread(self._drain)
        self._lead_in()

    def _lead_in(self) -> None:
        for fd in (1, 2):
            if os.fstat(fd).st_ino != self._inode:
                os.dup2(self._writing, fd)

    def _lead_out(self) -> None:
        os.dup2(self._out, 1)
        os.dup2(self._err, 2)

    def _redirect_python(self) -> None:
        """What Python writes to the two descriptors goes on to their duplicates, past the pipe."""
        streams: dict[Any, Any] = {}
        for name in ("stdout", "stderr", "__stdout__", "__stderr__"):
            old = getattr(sys, name)
            if new := self._duplicate(old, streams):
                setattr(sys, name, new)
                self._undo.append(partial(setattr, sys, name, old))
        loggers = [logging.root, *logging.root.manager.loggerDict.values()]
        for handler in {handler for one in loggers for handler in getattr(one, "handlers", ())}:
            if isinstance(handler, logging.StreamHandler):
                old = handler.stream
                if new := self._duplicate(old, streams):
                    handler.setStream(new)
                    self._undo.append(partial(handler.setStream, old))
        if faulthandler.is_enabled():
            faulthandler.enable(self._err)
            self._undo.append(partial(faulthandler.enable, 2))

    def _duplicate(self, stream: Any, streams: dict[Any, Any]) -> Any:
        """What to use in place of a stream; None for one that leads elsewhere. `streams` holds those made so far."""
        fd = {1: self._out, 2: self._err}.get(_descriptor(stream))
        if fd is None:
            return None
        if stream not in streams:
            stream.flush()
            streams[stream] = new = _reopened(stream, fd)
            self._undo.append(new.flush)
        return streams[stream]

    # Marks

    def _write_mark(self, kind: bytes) -> bool:
        """Mark what has been printed so far; says whether there is still anybody to read it."""
        self._libc.fflush(self._stdout)
        with self._lock:
            if self._released:
                return False
            if kind == b"begin":
                self._lead_in()  # again, where somebody has redirected the descriptors meanwhile
            elif kind == b"end":
                self._released = True
                self._lead_out()
            # To the pipe itself, wherever descriptor 1 leads.
            os.write(self._writing, self._mark + kind + b"\n")
        return True

    # The draining thread

    def _drain(self) -> None:
        rest = b""
        while True:
            *lines, rest = (rest + os.read(self._reading, 1 << 16)).split(b"\n")
            if len(rest) > _LONGEST:  # no line of the library; a mark may just be arriving at its end
                lines, rest = [*lines, rest[:-_KEPT_BYTES]], rest[-_KEPT_BYTES:]
            for line in lines:
                before, mark, kind = line.partition(self._mark)
                if before or not mark:
                    self._take_line(before)
                if mark and self._answer(kind):
                    return

    def _answer(self, kind: bytes) -> bool:
        """Do what a mark asks for; says whether it is the end."""
        if kind == b"collect":
            self._answers.put(list(self._lines))
        elif kind == b"end":
            self._ended.put(True)
        self._lines.clear()
        return kind == b"end"

    def _take_line(self, line: bytes) -> None:
        self._lines.append(line[:_KEPT_BYTES])
        if self._level >= 2:
            line = known_part(line.decode("utf-8", "replace")).encode()
            if not line:
                return
        elif self._level == 0 and line.startswith(_INFO):
            return
        with suppress(OSError):  # a log that can't be written must not stop the runtime
            os.write(self._err, line + b"\n")


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


def _descriptor(stream: Any) -> int:
    try:
        return int(stream.fileno())
    except (AttributeError, OSError, ValueError):  # closed, or no file at all
        return -1


def _reopened(stream: Any, fd: int) -> io.TextIOWrapper:
    return open(
        fd,
        "w",
        buffering=1,
        encoding=getattr(stream, "encoding", None) or "utf-8",
        errors=getattr(stream, "errors", None) or "backslashreplace",
        closefd=False,
    )
