"""The jobs that wait, in the order of their turns. The owner of the list guards each call with its lock."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rkllama_flask.engine.jobs import Embed, Generate, Job
from rkllama_flask.engine.models.residency import Loaded
from rkllama_flask.engine.models.speeds import CHARACTERS_PER_TOKEN, length
from rkllama_flask.engine.scheduling.turns import LONGEST_OVERTAKING, MOST_OVERTAKINGS, Candidate, choose, in_turn
from rkllama_flask.promptcache.prefix import common_prefix, content

PARTS = 8
"""Of a place in the queue. A short embedding takes one: programs send a document's hundreds of them at once."""

_TOKENS_PER_PART = 2048

_WINDOW = 16
"""Jobs that are looked at to find the next one: comparing prompts takes time in which nothing runs."""


@dataclass(eq=False)
class Entry:
    """A job that waits, taking so many `parts` of a place. Times are monotonic seconds."""

    job: Job
    parts: int
    overtaken: int = 0
    overtaken_since: float = 0.0


def parts_of(job: Job) -> int:
    """What a job takes of a place in the queue."""
    if not isinstance(job, Embed):
        return PARTS
    return min(PARTS, 1 + sum(map(length, job.prompts)) // _TOKENS_PER_PART)


class Owner(NamedTuple):
    """Whose turn it is. A client's answers don't wait for all of its embeddings: they take turns like two clients."""

    client: str
    embeds: bool


def owner_of(job: Job) -> Owner:
    return Owner(job.client, isinstance(job, Embed))


class WaitingJobs:
    """A list that knows whose turn it is; `order` is a copy to be looked at without the lock.

    There are so many `places` for embeddings, and as many for all other jobs.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._entries: list[Entry] = []
        self._turns: dict[Owner, int] = {}
        self._number = itertools.count()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, job: Job) -> None:
        self._entries.append(Entry(job, parts_of(job)))
        self._turns.setdefault(owner_of(job), next(self._number))

    def remove(self, job: Job) -> bool:
        """Take a job out that is not to run; says whether it waited."""
        for index, entry in enumerate(self._entries):
            if entry.job is job:
                del self._entries[index]
                self._forget(owner_of(job))
                return True
        return False

    def clear(self) -> list[Job]:
        """Take all of them out."""
        jobs = [entry.job for entry in self._entries]
        self._entries.clear()
        self._turns.clear()
        return jobs

    def order(self) -> list[Entry]:
        """All of them, the one whose turn it is first."""
        owners = [owner_of(entry.job) for entry in self._entries]
        return [self._entries[index] for index in in_turn(owners, self._turns)]

    def before(self, job: Job) -> list[Job]:
        """Those that would have their turn before one more job, this one."""
        owner = owner_of(job)
        turns = {owner: max(self._turns.values(), default=0) + 1} | self._turns
        owners = [*(owner_of(entry.job) for entry in self._entries), owner]
        order = in_turn(owners, turns)
        return [self._entries[index].job for index in order[: order.index(len(self._entries))]]

    def displaced_by(self, job: Job) -> list[Job] | None:
        """Those that make room for one more job, none while there is some: the newest of the client that has most, as
        long as that one has more than this job's client would have. None: no room can be made.
        """
        rivals = self._like(job)
        wanted = parts_of(job)
        missing = sum(entry.parts for entry in rivals) + wanted - PARTS * self._places
        taken: Counter[str] = Counter()
        for entry in rivals:
            taken[entry.job.client] += entry.parts
        displaced = []
        while missing > 0:
            greediest, most = max(taken.items(), key=lambda one: one[1])
            if most <= taken[job.client] + wanted:
                return None
            newest = max(index for index, entry in enumerate(rivals) if entry.job.client == greediest)
            entry = rivals.pop(newest)
            taken[greediest] -= entry.parts
            missing -= entry.parts
            displaced.append(entry.job)
        return displaced

    def like(self, job: Job) -> list[Job]:
        """Those that wait in the same places."""
        return [entry.job for entry in self._like(job)]

    def _like(self, job: Job) -> list[Entry]:
        embeds = isinstance(job, Embed)
        return [entry for entry in self._entries if isinstance(entry.job, Embed) == embeds]

    def take(self, chosen: Entry, *, now: float) -> bool:
        """Take out the one that goes next; False if it does not wait any more."""
        order = self.order()
        if chosen not in order:
            return False
        for entry in order[: order.index(chosen)]:
            if not entry.overtaken:
                entry.overtaken_since = now
            entry.overtaken += 1
        self._entries.remove(chosen)
        owner = owner_of(chosen.job)
        self._turns[owner] = next(self._number)
        self._forget(owner)
        return True

    def _forget(self, owner: Owner) -> None:
        if not any(owner_of(entry.job) == owner for entry in self._entries):
            self._turns.pop(owner, None)


def next_of(order: Sequence[Entry], models: Sequence[Loaded], *, now: float) -> Entry:
    """The one that goes next, given what the loaded models hold."""
    window = order[:_WINDOW]
    return window[choose([_candidate(entry, models, now) for entry in window])]


def _candidate(entry: Entry, models: Sequence[Loaded], now: float) -> Candidate:
    job = entry.job
    if not isinstance(job, Generate | Embed):  # what an operator asks for comes in its turn, neither sooner nor later
        return Candidate(switches=True, spared=0, firm=True)
    model = next((model for model in models if model.serves(job.spec, job.least_context)), None)
    spared = 0
    if model is not None and isinstance(job, Generate):
        prompt = content(job.prompt)
        spared = common_prefix(model.held, prompt)
        if isinstance(prompt, str):
            spared //= CHARACTERS_PER_TOKEN
    late = entry.overtaken > 0 and now - entry.overtaken_since > LONGEST_OVERTAKING
    return Candidate(switches=model is None, spared=spared, firm=late or entry.overtaken >= MOST_OVERTAKINGS)
