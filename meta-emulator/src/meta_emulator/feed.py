"""Live events for the phone page: every subscriber has its own bounded queue, a slow one is cut off."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from meta_emulator.model import Json

_QUEUE_LIMIT = 2000


class Subscriber:
    def __init__(self) -> None:
        self.events: asyncio.Queue[Json | None] = asyncio.Queue(_QUEUE_LIMIT)


class Feed:
    def __init__(self) -> None:
        self._subscribers: set[Subscriber] = set()

    @property
    def is_watched(self) -> bool:
        """Building an event costs; nobody pays for it while no page is open."""
        return bool(self._subscribers)

    def publish(self, event: Json) -> None:
        for subscriber in list(self._subscribers):
            if subscriber.events.full():
                self._cut(subscriber)
            else:
                subscriber.events.put_nowait(event)

    @contextmanager
    def subscribe(self) -> Iterator[Subscriber]:
        subscriber = Subscriber()
        self._subscribers.add(subscriber)
        try:
            yield subscriber
        finally:
            self._subscribers.discard(subscriber)

    def close(self) -> None:
        for subscriber in list(self._subscribers):
            self._cut(subscriber)

    def _cut(self, subscriber: Subscriber) -> None:
        """End a stream: what it has not read is dropped, the browser reconnects and loads afresh."""
        self._subscribers.discard(subscriber)
        while not subscriber.events.empty():
            subscriber.events.get_nowait()
        subscriber.events.put_nowait(None)
