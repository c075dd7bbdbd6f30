"""What is to be looked at: each key once, one at a time, again later where it failed, by so many workers."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

K = TypeVar("K")

_FIRST_DELAY = 0.5
_LAST_DELAY = 300.0

Handle = Callable[[K], Awaitable[bool]]
"""Looks at a key; False: it must be tried again."""


class Queue(Generic[K]):
    """Adding a key that waits changes nothing; adding one that is being looked at has it looked at once more."""

    def __init__(self, handle: Handle[K], *, workers: int) -> None:
        self._handle = handle
        self._workers = workers
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._waiting: set[K] = set()
        self._running: set[K] = set()
        self._again: set[K] = set()
        self._failures: dict[K, int] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        """Keys that wait to be looked at now."""
        return len(self._waiting)

    def add(self, key: K) -> None:
        self._drop_timer(key)
        if key in self._running:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.put_nowait(key)

    def forget(self, key: K) -> None:
        """It is gone: no more tries."""
        self._drop_timer(key)
        self._failures.pop(key, None)

    async def run(self) -> None:
        """Until cancelled. An exception of `handle` ends it: what is expected to fail is caught there."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self._workers):
                    tasks.create_task(self._work())
        finally:
            for key in list(self._timers):
                self._drop_timer(key)

    async def _work(self) -> None:
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            self._running.add(key)
            try:
                is_done = await self._handle(key)
            finally:
                self._running.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)
            elif is_done:
                self.forget(key)
            else:
                self._later(key)

    def _later(self, key: K) -> None:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = min(_LAST_DELAY, _FIRST_DELAY * 2 ** (failures - 1)) * random.uniform(0.75, 1.25)
        self._timers[key] = asyncio.get_running_loop().call_later(delay, self.add, key)

    def _drop_timer(self, key: K) -> None:
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()
