"""How the queues of messages are laid out, and how much room is left in a number's."""

import time
from dataclasses import dataclass

from kit.db import Tx
from svc_messaging import lattice
from svc_messaging.errors import SendQueueFull

# Counts no further than to the limit.
_WAITING = f"""
    SELECT count(*) FROM (
        SELECT FROM messages WHERE tenant_id = $1 AND phone_number_id = $2 AND {lattice.WAITING} LIMIT $3
    ) AS waiting
"""
_KEPT_SECONDS = 1.0
_REMEMBERED_MAX = 10_000


@dataclass(slots=True)
class _Count:
    """What waited, with what this process has added since."""

    waiting: int
    counted_at: float


class Queues:
    """The queues of an installation."""

    def __init__(self, partitions: int, number_max: int) -> None:
        """`number_max`: messages that may wait per number."""
        self.partitions = partitions
        self._number_max = number_max
        self._counts: dict[tuple[object, str], _Count] = {}

    async def take_place(self, tx: Tx, tenant_id: object, phone_number_id: str) -> None:
        """A place for one more message. Raises SendQueueFull.

        Counting takes time by the length of the queue, so a count serves for a second, and nobody is refused on an old
        one. What other processes add within that second may exceed the limit.
        """
        key = (tenant_id, phone_number_id)
        count, now = self._counts.get(key), time.monotonic()
        if count is None or now - count.counted_at > _KEPT_SECONDS or count.waiting >= self._number_max:
            waiting: int = await tx.fetchval(_WAITING, tenant_id, phone_number_id, self._number_max)
            if waiting >= self._number_max:
                raise SendQueueFull
            count = self._remember(key, _Count(waiting, now))
        count.waiting += 1

    def _remember(self, key: tuple[object, str], count: _Count) -> _Count:
        while len(self._counts) >= _REMEMBERED_MAX:
            del self._counts[next(iter(self._counts))]
        self._counts[key] = count
        return count
