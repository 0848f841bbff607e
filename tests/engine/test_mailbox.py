"""Post from a native thread: complete, in order, without polling, and also for readers that stop to read."""

import time
from collections.abc import Callable

import gevent
import pytest

from rkllama_flask.engine.mailbox import Empty, GreenletMailbox, Mailbox, ThreadMailbox
from rkllama_flask.native_threads import start_native_thread


@pytest.fixture(params=[GreenletMailbox, ThreadMailbox])
def mailbox(request: pytest.FixtureRequest) -> Mailbox:
    return request.param()  # type: ignore[no-any-return]


def natively(action: Callable[[], object]) -> None:
    """Do it on a thread of the operating system, to its end."""
    done = ThreadMailbox()

    def run() -> None:
        action()
        done.put(True)

    start_native_thread(run)
    done.get(10)


def test_everything_arrives_in_order_while_it_is_written(mailbox: Mailbox) -> None:
    start_native_thread(lambda: [mailbox.put(number) for number in range(20_000)])
    assert [mailbox.get(10) for _ in range(20_000)] == list(range(20_000))


def test_nothing_within_the_time_is_empty(mailbox: Mailbox) -> None:
    with pytest.raises(Empty):
        mailbox.get(0.01)
    mailbox.put("later")
    assert mailbox.get(10) == "later"


def test_work_before_the_wait_does_not_shorten_it(mailbox: Mailbox) -> None:
    gevent.sleep(0.001)  # the loop has looked at the clock
    time.sleep(0.3)  # stands for work in which no greenlet runs
    begun = time.monotonic()
    with pytest.raises(Empty):
        mailbox.get(0.2)
    assert time.monotonic() - begun > 0.15


def test_a_reader_that_was_killed_while_it_waited_is_not_woken() -> None:
    mailbox = GreenletMailbox()
    reader = gevent.spawn(mailbox.get, 10)
    gevent.sleep(0.001)  # the loop has looked at the clock
    reader.kill()
    natively(lambda: mailbox.put("unread"))
    gevent.sleep(0.001)  # the loop has looked at the clock
    assert mailbox.get(10) == "unread"


def test_a_reader_that_waits_elsewhere_is_left_alone() -> None:
    mailbox = GreenletMailbox()

    def read() -> list[object]:
        first = mailbox.get(10)
        gevent.sleep(0.05)  # writes to its client, for instance
        return [first, mailbox.get(10), mailbox.get(10)]

    reader = gevent.spawn(read)
    for number in range(3):
        natively(lambda number=number: mailbox.put(number))
        gevent.sleep(0)
    assert reader.get(timeout=10) == [0, 1, 2]


def test_many_readers_get_what_is_theirs() -> None:
    mailboxes = [GreenletMailbox() for _ in range(50)]
    readers = [gevent.spawn(lambda one=one: [one.get(10) for _ in range(20)]) for one in mailboxes]
    natively(lambda: [one.put((number, turn)) for turn in range(20) for number, one in enumerate(mailboxes)])
    gevent.joinall(readers, timeout=10, raise_error=True)
    assert [reader.value for reader in readers] == [[(n, turn) for turn in range(20)] for n in range(50)]
