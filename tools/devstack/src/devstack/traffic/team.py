"""A team that answers at a fixed rate: each answer is tried again with its request id until the platform says yes."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import aiohttp

from devstack.traffic.ledger import Answered, Ledger
from devstack.workspace import Refused, Workspace

_ANSWER_SECONDS = 10.0
_RETRY_SECONDS = 0.2


@dataclass(slots=True)
class Team:
    """Answers in `conversations`, one message at a time in each."""

    shop: Workspace
    conversations: Sequence[str]
    ledger: Ledger
    random: Random = field(default_factory=Random)
    _idle: deque[str] = field(default_factory=deque)
    _count: int = 0

    async def run(self, per_second: float, stop: asyncio.Event) -> None:
        """Answer until `stop`, then wait until every answer is accepted."""
        self._idle.extend(self.conversations)
        began, due = time.monotonic(), 0
        async with asyncio.TaskGroup() as tasks:
            while not stop.is_set():
                due += 1
                await asyncio.sleep(max(0.0, began + due / per_second - time.monotonic()))
                if self._idle:
                    tasks.create_task(self._answer(self._idle.popleft()))

    async def _answer(self, conversation: str) -> None:
        self._count += 1
        answered = self.ledger.answer(Answered(conversation, f"out {self._count}"))
        while not await self._try(answered):  # noqa: ASYNC110 (asks anew each time)
            await asyncio.sleep(_RETRY_SECONDS * self.random.uniform(0.75, 1.25))
        self._idle.append(conversation)

    async def _try(self, answered: Answered) -> bool:
        """One request. Raises Refused for an answer that no repetition can change."""
        began, token = time.monotonic(), self.shop.token
        answered.tries += 1
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                message = await self.shop.answer(
                    answered.conversation, answered.text, requestId=answered.text.replace(" ", "-")
                )
        except Refused as refused:
            self.ledger.refuse(f"api {refused.status} {refused.code}".rstrip())
            if refused.status == 401:
                await self._refresh(token)
                return False
            if refused.status < 499 and refused.status != 429:
                raise
            return False
        except (aiohttp.ClientError, TimeoutError) as error:
            self.ledger.refuse(f"api {type(error).__name__}")
            return False
        now = time.monotonic()
        self.ledger.api_oks.append((began, now))
        answered.id, answered.acknowledged = message["id"], now
        return True

    async def _refresh(self, token: str) -> None:
        try:
            await self.shop.refresh(token)
        except Refused as refused:
            self.ledger.refuse(f"refresh {refused.status} {refused.code}")
            if refused.status < 500 and refused.status != 429:
                raise
        except (aiohttp.ClientError, TimeoutError) as error:
            self.ledger.refuse(f"refresh {type(error).__name__}")
