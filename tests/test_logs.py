"""A record has a time, a process and a level, and no text can make it look like two."""

import io
import logging

import pytest

from rkllama_flask.hosting.logs import FORMAT, TIME, OneLine


@pytest.fixture
def written() -> tuple[logging.Logger, io.StringIO]:
    target = io.StringIO()
    handler = logging.StreamHandler(target)
    handler.setFormatter(OneLine(FORMAT, TIME))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    return logger, target


def test_a_record_has_a_time(written: tuple[logging.Logger, io.StringIO]) -> None:
    logger, target = written
    logger.warning("%s is gone", "tiny")
    line = target.getvalue()
    assert line[0] + line[5] + line[8] + line[11] == "[-- "
    assert line.endswith("] [WARNING] tiny is gone\n")


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "a\x1b[2Jb", "a\x00b", "a\u2028b", "a\x85b", "a\ud800b", "a\x7fb"])
def test_what_would_end_a_line_or_drive_a_terminal_is_written_out(
    written: tuple[logging.Logger, io.StringIO], text: str
) -> None:
    logger, target = written
    logger.error("%s", text)
    line = target.getvalue()
    assert line.splitlines() == [line.rstrip("\n")]
    assert line.encode().isascii()
    assert line.rstrip("\n").endswith("b")
    assert "\\" in line


def test_an_umlaut_stays_one(written: tuple[logging.Logger, io.StringIO]) -> None:
    logger, target = written
    logger.error("Größe 漢字 🙂")
    assert target.getvalue().endswith("Größe 漢字 🙂\n")


def test_no_line_of_a_traceback_looks_like_a_record(written: tuple[logging.Logger, io.StringIO]) -> None:
    logger, target = written
    try:
        raise ValueError("boom\n[2026-01-01 00:00:00 +0000] [1] [ERROR] forged")
    except ValueError:
        logger.exception("failed")
    first, *rest = target.getvalue().splitlines()
    assert first.endswith("failed")
    assert rest
    assert all(line.startswith("    ") for line in rest)
