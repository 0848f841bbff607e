"""What a log line looks like: when, which process, how bad, what; and whatever a client sent can't begin another.

The server writes to stderr, or where gunicorn's `--error-logfile` says; who keeps the logs, rotates them (SIGUSR1 makes
gunicorn open its files again).
"""

import logging
import re

FORMAT = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
TIME = "[%Y-%m-%d %H:%M:%S %z]"

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What ends a line or drives a terminal: a name or a header could forge a record with it, or hide one."""


class OneLine(logging.Formatter):
    """One record, one line; only a traceback has more, and these are indented, so that none looks like a record."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        return _CONTROLS.sub(_escape, super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # noqa: N802
        lines = super().formatException(ei).split("\n")  # type: ignore[arg-type]
        return "\n".join("    " + _CONTROLS.sub(_escape, line) for line in lines)


def install(level: str) -> None:
    """Write the package's records of `level` and above to stderr, unless somebody has said already where they go."""
    logger = logging.getLogger("rkllama_flask")
    logger.setLevel(level.upper())
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(OneLine(FORMAT, TIME))
        logger.addHandler(handler)


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
