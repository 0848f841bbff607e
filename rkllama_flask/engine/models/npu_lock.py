"""One process at a time holds the NPU: an advisory file lock, taken by the engine thread after the fork."""

import fcntl
import os
from pathlib import Path

from rkllama_flask.errors import RuntimeBusy, RuntimeFailed


class NpuLock:
    """The kernel drops it at any death of the process. Children of one gunicorn master wait for one another, because a
    reload overlaps two workers; everybody else is told who holds it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    @property
    def held(self) -> bool:
        """Whether it is ours."""
        return self._file is not None

    def take(self) -> bool:
        """Take the lock; says whether it was not ours yet.

        Raises RuntimeBusy, naming the holder, and RuntimeFailed where there can be no such file.
        """
        if self._file is not None:
            return False
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise RuntimeFailed(f"The lock file {self._path} can't be used: {error.strerror}. Set NPU_LOCK.") from None
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid, parent = self._holder(file)
                if parent != os.getppid():
                    raise RuntimeBusy(
                        f"Process {pid or 'unknown'}, started by process {parent or 'unknown'}, holds the NPU (lock "
                        f"file {self._path}). Stop that server, or send the request to it.",
                        retry_after=5,
                    ) from None
                fcntl.flock(file, fcntl.LOCK_EX)
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()} {os.getppid()}\n".encode(), 0)
        except BaseException:
            os.close(file)
            raise
        self._file = file
        return True

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @staticmethod
    def _holder(file: int) -> tuple[int, int]:
        """Process id and parent of the holder, 0 where it has not written them yet."""
        words = os.pread(file, 64, 0).split()
        return (int(words[0]), int(words[1])) if len(words) == 2 and b"".join(words).isdigit() else (0, 0)
