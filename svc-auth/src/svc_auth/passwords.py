"""Passwords: bcrypt in a bounded pool of threads, so that log-ins cannot take the machine from everything else."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import bcrypt

from kit.errors import Overloaded

T = TypeVar("T")

_THREADS = 2
_WAITING_MAX = 32

# bcrypt reads 72 bytes; the contract refuses more, so nothing is cut off silently.


class Passwords:
    """Hashes and checks. bcrypt releases the interpreter while it works, so threads suffice."""

    def __init__(self, cost: int) -> None:
        self._cost = cost
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="bcrypt")
        self._waiting = 0
        # Checked where there is no account, so that the time of an answer does not tell whether there is one.
        self._nobody = bcrypt.hashpw(b"nobody", bcrypt.gensalt(cost)).decode()

    async def hash(self, password: str) -> str:
        return await self._run(lambda: bcrypt.hashpw(password.encode(), bcrypt.gensalt(self._cost)).decode())

    async def matches(self, password: str, password_hash: str | None) -> bool:
        """Whether the password is right; False after the same work where there is no hash."""
        against = password_hash or self._nobody
        encoded = password.encode()
        # A longer one than bcrypt reads was never accepted, so it is wrong, but takes its time.
        matched = await self._run(lambda: bcrypt.checkpw(encoded[:72], against.encode()))
        return bool(matched) and password_hash is not None and len(encoded) <= 72

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= _WAITING_MAX:
            raise Overloaded("Too many people are signing in at this moment; try again shortly.", retry_after=1)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= 1
