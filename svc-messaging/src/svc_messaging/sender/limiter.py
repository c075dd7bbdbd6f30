"""The rate limit of one number: evenly spaced slots (GCRA with burst 1), and a look back at what really went out.

Meta counts messages per number over every second. Slots one interval apart keep below the limit in every sliding
second, as long as each message leaves at its slot. On a busy machine many leave late and together, so a message also
waits until the one that went out a limit's worth before it is more than a second old.
"""

import asyncio
from collections import deque

HEADROOM = 0.992
"""Share of Meta's limit that is used: it leaves 8 ms of jitter on the way before a second at Meta could hold more."""


class Limiter:
    """Hands out send slots in the order of asking. Times are those of the event loop's monotonic clock."""

    def __init__(self, per_second: int, *, first_slot_at: float) -> None:
        """`first_slot_at` keeps a new owner from adding to what its predecessor sent within the last second."""
        self._interval = 1 / (per_second * HEADROOM)
        self._next = first_slot_at
        self._sent: deque[float] = deque(maxlen=per_second)

    def set_rate(self, per_second: int) -> None:
        self._interval = 1 / (per_second * HEADROOM)
        if per_second != self._sent.maxlen:
            self._sent = deque(self._sent, maxlen=per_second)

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
        while (left := max(slot, self._opens_at()) - loop.time()) > 0:  # noqa: ASYNC110 (a time, no event)
            # Less than a millisecond is none to uvloop, which would make the process spin until the slot comes.
            await asyncio.sleep(max(left, 0.001))
        self._sent.append(loop.time())

    def _opens_at(self) -> float:
        """When one more message fits into the second, by what was sent and not by what was planned."""
        return self._sent[0] + 1 / HEADROOM if len(self._sent) == self._sent.maxlen else 0.0


def batch_size(per_second: int) -> int:
    """How many messages to claim at once: 50 ms of the number's rate. All of them become `unknown` if this process
    dies between the claim and the answers, so it stays small.
    """
    return max(1, per_second // 20)
