"""Meta's send limits: throughput per number over every sliding second, and messages per number and user."""

from collections import deque
from dataclasses import dataclass, field

_PAIRS_BEFORE_PRUNE = 20_000
_SECONDS_PER_HOUR = 3600.0


@dataclass
class SlidingSecond:
    """At most `limit` admissions in any half-open second (t - 1, t]."""

    _admitted: deque[float] = field(default_factory=deque)

    def admits(self, now: float, limit: int) -> bool:
        while self._admitted and self._admitted[0] <= now - 1.0:
            self._admitted.popleft()
        return len(self._admitted) < limit

    def take(self, now: float) -> None:
        self._admitted.append(now)


@dataclass
class PairBucket:
    """Token bucket of one (number, user): `burst` messages at once, one more every `refill_seconds`."""

    spent: float = 0.0
    updated: float = 0.0

    def spent_at(self, now: float, refill_seconds: float) -> float:
        return max(0.0, self.spent - (now - self.updated) / refill_seconds)

    def admits(self, now: float, burst: int, refill_seconds: float) -> bool:
        # The tolerance absorbs the rounding of seconds since 1970 in a float.
        return self.spent_at(now, refill_seconds) + 1 <= burst + 1e-6

    def take(self, now: float, refill_seconds: float) -> None:
        self.spent, self.updated = self.spent_at(now, refill_seconds) + 1, now


@dataclass
class Limits:
    """All counters of the process; they live in memory, a restart forgets them."""

    _numbers: dict[str, SlidingSecond] = field(default_factory=dict)
    _pairs: dict[tuple[str, str], PairBucket] = field(default_factory=dict)
    _calls: dict[str, deque[float]] = field(default_factory=dict)

    def number(self, number_id: str) -> SlidingSecond:
        return self._numbers.setdefault(number_id, SlidingSecond())

    def pair(self, number_id: str, digits: str, *, now: float, refill_seconds: float) -> PairBucket:
        if len(self._pairs) > _PAIRS_BEFORE_PRUNE:
            self._pairs = {k: b for k, b in self._pairs.items() if b.spent_at(now, refill_seconds) > 0}
        return self._pairs.setdefault((number_id, digits), PairBucket())

    def management_calls(self, waba_id: str, now: float) -> int:
        """Count one Business Management call; returns how many there were in the last hour, this one included."""
        calls = self._calls.setdefault(waba_id, deque())
        while calls and calls[0] <= now - _SECONDS_PER_HOUR:
            calls.popleft()
        calls.append(now)
        return len(calls)

    def clear(self) -> None:
        self._numbers.clear()
        self._pairs.clear()
        self._calls.clear()
