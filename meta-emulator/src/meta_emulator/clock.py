"""Time as a parameter: everything that waits or expires asks a clock, so tests move it by hand."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since the Unix epoch; never runs backwards while the process lives."""
        ...

    async def wait(self, wake: asyncio.Event, seconds: float | None) -> None:
        """Return when `wake` is set or `seconds` have passed (None: only when set); may return earlier."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    def __init__(self) -> None:
        # Anchored once: a corrected wall clock must not reorder the schedule or refill a rate limit.
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        return self._offset + time.monotonic()

    async def wait(self, wake: asyncio.Event, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await wake.wait()
        except TimeoutError:
            return

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ManualClock:
    """Stands still until `advance` is called."""

    def __init__(self, start: float = 1_790_000_000.0) -> None:
        self._now = start
        self._waiting: set[asyncio.Event] = set()

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds
        for event in self._waiting:
            event.set()

    async def wait(self, wake: asyncio.Event, seconds: float | None) -> None:
        if seconds is not None and seconds <= 0:
            return
        self._waiting.add(wake)
        try:
            await wake.wait()
        finally:
            self._waiting.discard(wake)

    async def sleep(self, seconds: float) -> None:
        due, tick = self._now + seconds, asyncio.Event()
        while self._now < due:
            tick.clear()
            await self.wait(tick, due - self._now)
