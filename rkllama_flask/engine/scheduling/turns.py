"""Whose turn it is: pure functions over those that wait, without clocks, locks or runtime.

Clients take turns, one job each, so that one with fifty requests does not starve another with one; while each has one,
that is the order of arrival. Within bounds a job goes first that finds more of its prompt in the handle, or its model
loaded: a run of another conversation in between would cost it a whole prefill, another model a load.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, TypeVar

MOST_OVERTAKINGS = 4
"""How often a job may see another go before it out of turn."""

LONGEST_OVERTAKING = 30.0
"""Seconds after the first time in which it may happen again."""

WORTH = 32
"""Tokens that have to be spared; for less nobody is overtaken."""


T = TypeVar("T", bound=Hashable)


class Candidate(NamedTuple):
    """A job that might go next.

    `switches` says that its model has to be loaded first, `spared` counts the tokens of its prompt that the handle
    holds. `firm` means that nobody behind it may go first.
    """

    switches: bool
    spared: int
    firm: bool


def in_turn(clients: Sequence[T], turns: Mapping[T, int]) -> list[int]:
    """The order in which waiting jobs get their turns, as indices.

    `clients` are those of the jobs, oldest job first; `turns` numbers the clients, the lowest is next and goes behind
    the highest when it has had one job.
    """
    seen: Counter[T] = Counter()
    places = []
    for index, client in enumerate(clients):
        places.append((seen[client], turns[client], index))
        seen[client] += 1
    return [index for _, _, index in sorted(places)]


def choose(candidates: Sequence[Candidate]) -> int:
    """The index of the job to run, of jobs in the order of their turns."""
    best = 0
    for index, candidate in enumerate(candidates):
        if _better(candidate, candidates[best]):
            best = index
        if candidate.firm:
            break
    return best


def _better(one: Candidate, other: Candidate) -> bool:
    if one.switches != other.switches:
        return other.switches
    return one.spared - other.spared >= WORTH
