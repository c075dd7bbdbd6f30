"""What is due later: a heap of events and one task that hands each over when its time has come."""

import asyncio
import heapq
from collections.abc import Callable
from itertools import count

from meta_emulator.clock import Clock
from meta_emulator.model import Due

_EVENTS_PER_TURN = 200  # then requests get their turn


class Schedule:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Due]] = []
        self._order = count()
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._heap)

    def at(self, when: float, event: Due) -> None:
        """Equal times come out in the order they were put in."""
        heapq.heappush(self._heap, (when, next(self._order), event))
        if self._heap[0][2] is event:
            self._wake.set()

    def after(self, seconds: float, event: Due) -> None:
        self.at(self._clock.now() + seconds, event)

    def pending(self) -> list[tuple[float, Due]]:
        return [(when, event) for when, _, event in sorted(self._heap, key=lambda item: item[:2])]

    def drop(self, unwanted: Callable[[Due], bool]) -> None:
        self._heap = [item for item in self._heap if not unwanted(item[2])]
        heapq.heapify(self._heap)

    async def run(self, handle: Callable[[Due], None]) -> None:
        """Runs until cancelled. An exception of `handle` is a bug and ends it."""
        while True:
            self._wake.clear()
            handled = 0
            while self._heap and self._heap[0][0] <= self._clock.now():
                _, _, event = heapq.heappop(self._heap)
                handle(event)
                handled += 1
                if handled % _EVENTS_PER_TURN == 0:
                    await asyncio.sleep(0)
            wait = self._heap[0][0] - self._clock.now() if self._heap else None
            await self._clock.wait(self._wake, wait)
