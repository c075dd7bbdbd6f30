"""Claiming for all numbers of the process: what is asked for while one transaction runs is claimed by the next.

A hundred numbers at 80 a second claim four messages at a time each; by themselves that would be two thousand
transactions a second.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from kit.db import Database
from kit.principal import Principal
from svc_messaging import placements
from svc_messaging.sender import claims
from svc_messaging.sender.claims import Claimed, Wanted

_TOGETHER_MAX = 200


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    wanted: Sequence[Wanted]
    claimed: asyncio.Future[Claimed] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Claimer:
    """One transaction at a time."""

    def __init__(self, db: Database, worker: Principal, *, partitions: int) -> None:
        """`partitions` of the stream SEND, in each scope."""
        self._db = db
        self._worker = worker
        self._partitions = partitions
        self._waiting: deque[_Asked] = deque()
        self._turn = asyncio.Lock()

    async def claim(self, wanted: Sequence[Wanted]) -> Claimed:
        """As claims.claim, and committed. Raises what the database raises."""
        asked = _Asked(wanted)
        self._waiting.append(asked)
        try:
            async with self._turn:
                while not asked.claimed.done():
                    await self._claim_some()
        except asyncio.CancelledError:
            if asked in self._waiting:
                self._waiting.remove(asked)
            raise
        return asked.claimed.result()

    async def _claim_some(self) -> None:
        """Claim what has waited longest, also when that is for others."""
        batch = [self._waiting.popleft()]
        count = len(batch[0].wanted)
        while self._waiting and count + len(self._waiting[0].wanted) <= _TOGETHER_MAX:
            batch.append(self._waiting.popleft())
            count += len(batch[-1].wanted)
        together = [each for asked in batch for each in asked.wanted]
        try:
            async with self._db.begin(self._worker, first=placements.HOLD) as tx:
                claimed = await claims.claim(tx, together, partitions=self._partitions)
        except asyncio.CancelledError:
            for asked in batch:
                asked.claimed.set_exception(ConnectionError("The claim was cancelled with another one."))
            raise
        except Exception as error:  # noqa: BLE001 (raised by each of those who asked)
            for asked in batch:
                asked.claimed.set_exception(error)
            return
        by_id = {row["id"]: row for row in claimed.rows}
        for asked in batch:
            ids = [each.command.message_id for each in asked.wanted]
            rows = [by_id[each] for each in ids if each in by_id]
            asked.claimed.set_result(Claimed(rows, claimed.unseen.intersection(ids)))
