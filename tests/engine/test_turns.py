"""Whose turn it is, as pure functions: every job runs, none is overtaken more often than is promised."""

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rkllama_flask.engine.jobs import Embed, Generate, Job, Load, ModelSpec, Unload
from rkllama_flask.engine.models.residency import Loaded
from rkllama_flask.engine.scheduling.turns import (
    LONGEST_OVERTAKING,
    MOST_OVERTAKINGS,
    WORTH,
    Candidate,
    choose,
    in_turn,
)
from rkllama_flask.engine.scheduling.waiting import WaitingJobs, next_of
from tests.engine.test_residency import loaded

HERE = Candidate(switches=False, spared=0, firm=False)


def names(clients: str, turns: dict[str, int]) -> str:
    return "".join(clients[index] for index in in_turn(clients, turns))


def test_equal_clients_have_their_turns_in_order_of_arrival() -> None:
    clients = [f"client {number}" for number in range(64)]
    assert in_turn(clients, {client: number for number, client in enumerate(clients)}) == list(range(64))


def test_a_client_with_fifty_requests_goes_once_while_another_goes_once() -> None:
    assert names("a" * 50 + "b" + "c", {"a": 0, "b": 1, "c": 2}).startswith("abca")


def test_the_jobs_of_one_client_keep_their_order() -> None:
    assert [index for index in in_turn("abaab", {"a": 1, "b": 0}) if "abaab"[index] == "a"] == [0, 2, 3]


def test_the_longest_common_prefix_goes_first_and_little_is_no_reason() -> None:
    much, more = HERE._replace(spared=WORTH), HERE._replace(spared=3 * WORTH)
    assert choose([HERE, much, more, more]) == 2
    assert choose([HERE, HERE._replace(spared=WORTH - 1)]) == 0


def test_a_job_of_the_loaded_model_goes_before_a_switch() -> None:
    assert choose([Candidate(switches=True, spared=0, firm=False), HERE]) == 1


def test_nobody_goes_before_a_job_that_is_firm() -> None:
    better = HERE._replace(spared=100 * WORTH)
    assert choose([HERE._replace(firm=True), better]) == 0
    assert choose([HERE, HERE._replace(firm=True), better]) == 0


class Arrival(NamedTuple):
    client: str
    model: str
    prompt: int
    wait: float


arrivals = st.lists(
    st.builds(
        Arrival,
        client=st.sampled_from("abc"),
        model=st.sampled_from(["one", "two"]),
        prompt=st.integers(0, 3),
        wait=st.floats(0, LONGEST_OVERTAKING),
    ),
    max_size=40,
)


def spec(name: str) -> ModelSpec:
    return loaded(name, size=1, last_used=0).spec


def job(arrival: Arrival) -> Generate:
    return Generate(spec=spec(arrival.model), prompt=(arrival.prompt,) * 100, client=arrival.client)


@settings(deadline=None)
@given(arrivals, st.integers(1, 8))
def test_every_job_runs_and_is_overtaken_within_bounds(coming: list[Arrival], at_once: int) -> None:
    """Whatever comes meanwhile: a job out of turn is seen by each at most so often, and only for so long."""
    waiting, model, ran = WaitingJobs(places=64), loaded("one", size=1, last_used=0), 0
    rest, now = list(coming), 0.0
    seen: dict[Job, list[float]] = {}
    while rest or len(waiting):
        while rest and len(waiting) < at_once:
            arrival = rest.pop()
            now += arrival.wait
            waiting.add(job(arrival))
        order = waiting.order()
        entry = next_of(order, [model], now=now)
        for passed in order[: order.index(entry)]:
            seen.setdefault(passed.job, []).append(now)
        assert waiting.take(entry, now=now)
        assert isinstance(entry.job, Generate)
        model = loaded(entry.job.spec.name, size=1, last_used=0)
        model.held = tuple(entry.job.prompt)
        ran += 1
    assert ran == len(coming)
    for moments in seen.values():
        assert len(moments) <= MOST_OVERTAKINGS
        assert moments[-1] - moments[0] <= LONGEST_OVERTAKING


def take_all(waiting: WaitingJobs, model: Loaded) -> list[int]:
    """Run everything that waits; the length of each prompt's part that had to be computed."""
    computed = []
    while len(waiting):
        entry = next_of(waiting.order(), [model], now=0)
        waiting.take(entry, now=0)
        assert isinstance(entry.job, Generate)
        prompt = tuple(entry.job.prompt)
        shared = len([1 for one, other in zip(prompt, model.held or (), strict=False) if one == other])
        computed.append(len(prompt) - shared)
        model.held = prompt
    return computed


@pytest.mark.parametrize("clients", ["ab", "aa"], ids=["two clients", "one client"])
def test_turns_of_one_conversation_follow_each_other_while_another_waits(clients: str) -> None:
    waiting, model = WaitingJobs(places=64), loaded("one", size=1, last_used=0)
    for turn in range(1, 4):
        for conversation in (0, 1):
            prompt = (conversation,) * (100 * turn)
            waiting.add(Generate(spec=model.spec, prompt=prompt, client=clients[conversation]))
    assert take_all(waiting, model) == [100] * 6


def test_what_an_operator_asks_for_is_not_overtaken_and_overtakes_nobody() -> None:
    model = loaded("one", size=1, last_used=0)
    model.held = (7,) * 100
    for operators in (Unload(), Load(spec=spec("two"))):
        waiting = WaitingJobs(places=64)
        cold = Generate(spec=model.spec, prompt=(1,) * 100, client="a")
        warm = Generate(spec=model.spec, prompt=(7,) * 100, client="c")
        for one in (cold, operators, warm):
            waiting.add(one)
        assert next_of(waiting.order(), [model], now=0).job is cold


def test_a_job_that_is_taken_back_leaves_no_turn_behind() -> None:
    waiting = WaitingJobs(places=64)
    first, second = Generate(spec=spec("one"), prompt="", client="a"), Generate(spec=spec("one"), prompt="", client="b")
    waiting.add(first)
    waiting.add(second)
    assert waiting.remove(first)
    assert not waiting.remove(first)
    waiting.add(first)
    assert [entry.job for entry in waiting.order()] == [second, first]


def test_only_what_has_its_turn_earlier_counts_for_a_new_job() -> None:
    waiting = WaitingJobs(places=64)
    jobs = [Generate(spec=spec("one"), prompt="", client="many") for _ in range(50)]
    for one in jobs:
        waiting.add(one)
    assert waiting.before(Generate(spec=spec("one"), prompt="", client="few")) == jobs[:1]
    assert waiting.before(Generate(spec=spec("one"), prompt="", client="many")) == jobs
    assert waiting.before(embedding("many")) == jobs[:1]


def test_a_clients_answers_and_its_embeddings_take_turns() -> None:
    waiting, model = WaitingJobs(places=64), loaded("one", size=1, last_used=0)
    many = [embedding("webui") for _ in range(20)]
    answers = [Generate(spec=model.spec, prompt="", client="webui") for _ in range(2)]
    for one in (*many, *answers):
        waiting.add(one)
    ran = [entry.job for entry in waiting.order()]
    assert [ran.index(answer) for answer in answers] == [1, 3]


def embedding(client: str, *, tokens: int = 1) -> Embed:
    return Embed(spec=spec("one"), prompts=[(1,) * tokens], pool=lambda rows: rows[0], client=client)


def test_eight_short_embeddings_take_one_place_and_a_long_one_takes_it_alone() -> None:
    for tokens, count in ((500, 16), (5000, 5), (20_000, 2), (1_000_000, 2)):
        waiting = WaitingJobs(places=2)
        for _ in range(count):
            assert waiting.displaced_by(embedding("a", tokens=tokens)) == []
            waiting.add(embedding("a", tokens=tokens))
        assert waiting.displaced_by(embedding("a", tokens=tokens)) is None


def test_embeddings_have_places_of_their_own() -> None:
    waiting, answer = WaitingJobs(places=2), Generate(spec=spec("one"), prompt="", client="a")
    for _ in range(16):
        waiting.add(embedding("a"))
    for _ in range(2):
        assert waiting.displaced_by(answer) == []
        waiting.add(answer)
    assert waiting.displaced_by(answer) is None
    assert waiting.displaced_by(Unload(client="a")) is None


def test_a_clients_newest_embeddings_make_room_for_one_of_a_client_that_has_less() -> None:
    waiting = WaitingJobs(places=2)
    many = [embedding("many") for _ in range(16)]
    for one in many:
        waiting.add(one)
    assert waiting.displaced_by(embedding("few")) == [many[-1]]
    assert waiting.displaced_by(embedding("few", tokens=5000)) == [many[-1], many[-2], many[-3]]
    assert waiting.displaced_by(embedding("few", tokens=20_000)) == many[:7:-1]  # then they share it
    assert waiting.displaced_by(embedding("many")) is None
