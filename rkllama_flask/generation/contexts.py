"""Which context a request gets: of the model as it is loaded, or as it is loaded again for it."""

from typing import NamedTuple

CONTEXT_STEP = 32
"""A handle's context is a multiple of this many tokens."""


LARGEST = 1 << 62
"""More tokens than any context has: for who needs the largest that there is."""


class ContextPlan(NamedTuple):
    """In tokens. The request has `length`; a handle with fewer than `least` is loaded again, with `load` at least."""

    length: int
    least: int
    load: int


def plan_context(
    *, asked: int | None, own: int, loaded: int | None, needed: int, limit: int | None = None
) -> ContextPlan:
    """The context of a request that `asked` for so many tokens, or for none and then needs those `needed`.

    `own` is what the model is loaded with when nobody asks, `loaded` what it has been loaded with. Who asks is kept to
    that, also on a handle that has more, within the model's `limit`. For who does not ask, what others asked for is
    never a reason to be refused.
    """
    if asked is not None:
        return ContextPlan(min(asked, limit or asked), asked, asked)
    least = min(-(-needed // CONTEXT_STEP) * CONTEXT_STEP, max(own, loaded or 0))
    return ContextPlan(own if loaded is None or loaded < least else loaded, least, own)


def in_steps(tokens: int) -> int:
    """What the runtime makes of a context of so many tokens."""
    return max(tokens // CONTEXT_STEP * CONTEXT_STEP, min(tokens, CONTEXT_STEP))
