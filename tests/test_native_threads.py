"""Calls that leave the event loop free."""

from _queue import SimpleQueue
from _thread import get_ident

import pytest

from rkllama_flask import native_threads
from rkllama_flask.native_threads import call_natively, start_native_thread


def test_only_where_greenlets_are_a_call_goes_to_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's thread has no event loop, and is not to get one."""
    monkeypatch.setattr(native_threads, "under_gevent", lambda: True)
    assert call_natively(get_ident) != get_ident()
    found: SimpleQueue[tuple[int, int]] = SimpleQueue()
    start_native_thread(lambda: found.put((call_natively(get_ident), get_ident())))
    asked, own = found.get(True, 10)
    assert asked == own


def test_what_is_raised_on_another_thread_is_raised_here_and_written_nowhere(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(native_threads, "under_gevent", lambda: True)
    with pytest.raises(ValueError, match="a client's words"):
        call_natively(lambda: (_ for _ in ()).throw(ValueError("a client's words")))
    assert capfd.readouterr().err == ""
