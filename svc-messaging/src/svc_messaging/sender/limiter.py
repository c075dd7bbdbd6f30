"""The rate limit of one number: evenly spaced slots, no bursts (GCRA with burst 1).

Meta counts messages per number over every second. Slots one interval apart keep below the limit in every sliding
second, however the calls arrive; a small headroom absorbs the jitter of the network between our clock and Meta's.
"""

import asyncio

HEADROOM = 0.995
"""Share of Meta's limit that is used: at 1,000 a second it leaves 5 ms of jitter before a second could hold 1,001."""


class Limiter:
    """Hands out send slots in the order of asking. Times are those of the event loop's monotonic clock."""

    def __init__(self, per_second: int, *, first_slot_at: float) -> None:
        """`first_slot_at` keeps a new owner from adding to what its predecessor sent within the last second."""
        self._interval = 1 / (per_second * HEADROOM)
        self._next = first_slot_at

    def set_rate(self, per_second: int) -> None:
        self._interval = 1 / (per_second * HEADROOM)

    def reserve(self, now: float) -> float:
        """Take the next slot and tell when it is: now, or later."""
        slot = max(now, self._next)
        self._next = slot + self._interval
        return slot

    def pause_until(self, moment: float) -> None:
        """Give no slot before this moment, as Meta asked."""
        self._next = max(self._next, moment)

    async def slot(self) -> None:
        """Wait for the next slot."""
        loop = asyncio.get_running_loop()
        slot = self.reserve(loop.time())
        # Sleeping may end early by the clock's resolution; a slot is never used before its time.
        while (left := slot - loop.time()) > 0:  # noqa: ASYNC110 (waits for a time, not for an event)
            await asyncio.sleep(left)


def batch_size(per_second: int) -> int:
    """How many messages to claim at once: 50 ms of the number's rate. All of them become `unknown` if this process
    dies between the claim and the answers, so it stays small.
    """
    return max(1, per_second // 20)
