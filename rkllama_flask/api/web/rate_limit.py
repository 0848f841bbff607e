"""How many requests one client may make a minute: a bucket that fills steadily and holds a minute's worth."""

import time
from collections.abc import Callable
from dataclasses import dataclass

_MANY = 1024


@dataclass
class _Bucket:
    left: float
    filled_at: float


class RateLimit:
    """`clock` gives monotonic seconds. One greenlet or thread at a time counts; a race costs a request at most."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, client: str, per_minute: float) -> float:
        """Count one request of `client`; the seconds until it would be allowed, 0 if it is now."""
        now = self._clock()
        if len(self._buckets) > _MANY:
            self._forget_idle(now)
        bucket = self._buckets.setdefault(client, _Bucket(max(1.0, per_minute), now))
        bucket.left = min(max(1.0, per_minute), bucket.left + (now - bucket.filled_at) * per_minute / 60)
        bucket.filled_at = now
        if bucket.left < 1:
            return (1 - bucket.left) * 60 / per_minute
        bucket.left -= 1
        return 0.0

    def _forget_idle(self, now: float) -> None:
        """Whoever has not asked for a minute has a full bucket again."""
        self._buckets = {client: one for client, one in self._buckets.items() if now - one.filled_at < 60}
