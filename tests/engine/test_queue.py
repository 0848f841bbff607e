"""The queue on the scripted runtime: bounded by what waiting would take, fair to clients, kind to prefixes."""

from collections.abc import Callable

import pytest

from rkllama_flask.engine.engine import Engine
from rkllama_flask.engine.jobs import Generate, ModelSpec, Started
from rkllama_flask.errors import QueueFull
from tests.engine.conftest import read

Model = Callable[..., ModelSpec]


def started(engine: Engine, job: Generate) -> Generate:
    engine.submit(job)
    while not isinstance(job.mailbox.get(10), Started):
        pass
    return job


def submit_all(engine: Engine, jobs: list[Generate]) -> None:
    for job in jobs:
        engine.submit(job)


def order_of(engine: Engine, blocker: Generate, jobs: list[Generate]) -> list[Generate]:
    """The jobs in the order in which they ran, all having waited behind `blocker`."""
    started(engine, blocker)
    submit_all(engine, jobs)
    engine.cancel(blocker)
    queued = [read(job)[1].queued_ns + job.submitted_at for job in jobs]
    return [job for _, job in sorted(zip(queued, jobs, strict=True), key=lambda pair: pair[0])]


def test_a_request_that_would_wait_too_long_is_refused_with_the_time_until_it_would_not(
    make_engine: Callable[..., Engine], model: Model
) -> None:
    engine, spec = make_engine(max_wait=2), model(script="decode_ms=20")
    engine.submit(measured := Generate(spec=spec, prompt="<<script tokens=40>>"))
    read(measured)
    assert engine.status().expected_wait == 0
    jobs = [Generate(spec=spec, prompt="<<script tokens=400>>", client="many") for _ in range(10)]
    started(engine, jobs[0])
    with pytest.raises(QueueFull, match="would wait for about") as refused:
        submit_all(engine, jobs[1:])
    assert 1 <= (refused.value.retry_after or 0) <= 2
    assert 1 < engine.status().expected_wait < 4
    assert engine.status().waiting in (2, 3)
    engine.submit(other := Generate(spec=spec, prompt="<<script tokens=2>>", client="few"))  # its turn comes sooner
    for job in jobs:
        engine.cancel(job)
    read(other)


def test_a_client_with_many_requests_does_not_hold_up_one_with_a_single_one(engine: Engine, model: Model) -> None:
    spec = model()
    many = [Generate(spec=spec, prompt="<<script tokens=2>>", client="many") for _ in range(20)]
    one = Generate(spec=spec, prompt="<<script tokens=2>>", client="one")
    blocker = Generate(spec=spec, prompt="<<script tokens=900 decode_ms=5>>", client="many")
    assert order_of(engine, blocker, [*many, one]).index(one) <= 1


def test_a_client_that_fills_the_queue_makes_room_for_one_who_has_less_in_it(
    make_engine: Callable[..., Engine], model: Model
) -> None:
    engine, spec = make_engine(max_queue=4), model()
    started(engine, blocker := Generate(spec=spec, prompt="<<script tokens=900 decode_ms=5>>", client="first"))
    many = [Generate(spec=spec, prompt="<<script tokens=2>>", client="many") for _ in range(4)]
    submit_all(engine, many)
    with pytest.raises(QueueFull):
        engine.submit(Generate(spec=spec, prompt="<<script tokens=2>>", client="many"))
    others = [Generate(spec=spec, prompt="<<script tokens=2>>", client=name) for name in ("one", "two")]
    submit_all(engine, others)
    with pytest.raises(QueueFull):  # "many" has two now: one more than this client would have
        engine.submit(Generate(spec=spec, prompt="<<script tokens=2>>", client="one"))
    engine.cancel(blocker)
    for displaced in many[2:]:
        with pytest.raises(QueueFull) as refused:
            read(displaced)
        assert (refused.value.retry_after or 0) >= 1
    for job in (*many[:2], *others):
        assert read(job)[0] == "w0 w1"


def test_equal_clients_are_served_in_order_of_arrival(engine: Engine, model: Model) -> None:
    spec = model()
    jobs = [Generate(spec=spec, prompt="<<script tokens=1>>", client=f"client {n}") for n in range(64)]
    blocker = Generate(spec=spec, prompt="<<script tokens=900 decode_ms=5>>", client="first")
    assert order_of(engine, blocker, jobs[:63]) == jobs[:63]


def test_requests_of_the_loaded_model_go_before_a_switch(engine: Engine, model: Model) -> None:
    here, there = model("here"), model("there")
    switch = Generate(spec=there, prompt="<<script tokens=1>>", client="switch")
    stay = [Generate(spec=here, prompt="<<script tokens=1>>", client=f"stay {n}") for n in range(6)]
    blocker = Generate(spec=here, prompt="<<script tokens=900 decode_ms=5>>", client="first")
    assert order_of(engine, blocker, [switch, *stay]) == [*stay[:4], switch, *stay[4:]]


def test_two_conversations_compute_less_than_in_order_of_arrival(engine: Engine, model: Model) -> None:
    """Their turns lie in the queue one after the other: taken so, each would compute its whole prompt."""
    spec = model()
    turns, in_order = [], 0
    for turn in range(1, 11):
        for conversation in range(2):
            said = " ".join(f"c{conversation}w{word}" for word in range(40 * turn))
            turns.append(Generate(spec=spec, prompt=f"{said} <<script tokens=2>>", client=f"client {conversation}"))
            in_order += 40 * turn
    started(engine, blocker := Generate(spec=spec, prompt="<<script tokens=900 decode_ms=5>>", client="first"))
    submit_all(engine, turns)
    engine.cancel(blocker)
    computed = sum(read(job)[1].prefill_tokens or 0 for job in turns)
    assert computed < in_order / 2
