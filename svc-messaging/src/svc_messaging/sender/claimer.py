"""Claiming for all numbers of the process: what is asked for while one transaction runs is claimed by the next.

A hundred numbers at 80 a second claim four messages at a time each; by themselves that would be two thousand
transactions a second.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from kit.db import Database, Row
from kit.principal import Principal
from svc_messaging.send_commands import Command
from svc_messaging.sender import claims

_TOGETHER_MAX = 200


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    commands: Sequence[Command]
    claimed: asyncio.Future[list[Row]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Claimer:
    """One transaction at a time."""

    def __init__(self, db: Database, worker: Principal) -> None:
        self._db = db
        self._worker = worker
        self._waiting: deque[_Asked] = deque()
        self._turn = asyncio.Lock()

    async def claim(self, commands: Sequence[Command]) -> list[Row]:
        """As claims.claim, and committed. Raises what the database raises."""
        asked = _Asked(commands)
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
        count = len(batch[0].commands)
        while self._waiting and count + len(self._waiting[0].commands) <= _TOGETHER_MAX:
            batch.append(self._waiting.popleft())
            count += len(batch[-1].commands)
        try:
            async with self._db.begin(self._worker) as tx:
                rows = await claims.claim(tx, [command for asked in batch for command in asked.commands])
        except asyncio.CancelledError:
            for asked in batch:
                asked.claimed.set_exception(ConnectionError("The claim was cancelled with another one."))
            raise
        except Exception as error:  # noqa: BLE001 (raised by each of those who asked)
            for asked in batch:
                asked.claimed.set_exception(error)
            return
        by_id = {row["id"]: row for row in rows}
        for asked in batch:
            ids = [command.message_id for command in asked.commands]
            asked.claimed.set_result([by_id[each] for each in ids if each in by_id])
