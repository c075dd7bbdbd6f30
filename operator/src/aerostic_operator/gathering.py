"""Many who each ask for one thing, answered by few calls that each ask for many."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

Fetch = Callable[[Sequence[K]], Awaitable[Mapping[K, V]]]


class Gathering(Generic[K, V]):
    """Keys that are asked for while a call is under way, or soon after one began, go together into the next one: one
    who asks alone waits for nobody, and what is answered is never older than the question.
    """

    def __init__(self, fetch: Fetch[K, V], *, most: int, seconds: float = 0) -> None:
        """`most`: keys that one call takes. `seconds`: at least so long from the beginning of one call to the next."""
        self._fetch = fetch
        self._most = most
        self._seconds = seconds
        self._next = 0.0
        self._waiting: dict[K, asyncio.Future[V | None]] = {}
        self._calling: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V | None:
        """None where there is nothing. Raises what the call raised."""
        answer = self._waiting.get(key)
        if answer is None:
            answer = self._waiting[key] = asyncio.get_running_loop().create_future()
        if self._calling is None or self._calling.done():
            self._calling = asyncio.create_task(self._call())
        # Whoever is cancelled takes the answer from nobody else.
        return await asyncio.shield(answer)

    async def _call(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            if (early := self._next - loop.time()) > 0:
                await asyncio.sleep(early)
            self._next = loop.time() + self._seconds
            asked = {key: self._waiting.pop(key) for key in list(self._waiting)[: self._most]}
            try:
                found = await self._fetch(list(asked))
            except asyncio.CancelledError:
                for answer in asked.values():
                    answer.cancel()
                raise
            except Exception as error:  # noqa: BLE001 (told to all who asked)
                for answer in asked.values():
                    answer.set_exception(error)
                    # Whoever asked may be gone.
                    answer.exception()
            else:
                for key, answer in asked.items():
                    answer.set_result(found.get(key))
