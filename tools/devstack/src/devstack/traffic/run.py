"""A run of traffic: started, disturbed, timed, stopped and audited."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

import aiohttp

from devstack.stack import Stack
from devstack.traffic import audit
from devstack.traffic.audit import Audit
from devstack.traffic.ledger import Ledger
from devstack.traffic.meta import Meta
from devstack.traffic.team import Team
from devstack.traffic.watch import Watcher
from devstack.workspace import Workspace

VICTIMS = (
    "webhooks-ingest",
    "messaging-inbox",
    "messaging-sender",
    "messaging-server",
    "gateway",
    "svc-tenants",
    "svc-auth",
    "nats",
    "postgres",
)
"""Everything that may be killed: not the emulator, which plays Meta and keeps what it saw."""
LATE_SECONDS = 1.0
"""What takes longer from its first try to the live stream is late."""

_POLL_SECONDS = 0.02
_QUIET_SECONDS = 0.5
_GIVE_UP_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Load:
    """Per second, and of how many customers."""

    webhooks: float = 60
    answers: float = 20
    customers: int = 60


@dataclass(frozen=True, slots=True)
class Recovery:
    """Seconds from a fault to the first success of what began after it, and until nothing was late any more."""

    first_webhook: float
    first_answer: float
    caught_up: float

    def __str__(self) -> str:
        return (
            f"first webhook {self.first_webhook:.2f} s, first answer {self.first_answer:.2f} s,"
            f" caught up {self.caught_up:.2f} s"
        )


@dataclass(slots=True)
class Traffic:
    """One workspace under load."""

    shop: Workspace
    load: Load
    meta: Meta
    team: Team
    watcher: Watcher
    ledger: Ledger
    database_url: str
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _watching: asyncio.Task[None] | None = None

    @classmethod
    @asynccontextmanager
    async def on(cls, stack: Stack, load: Load | None = None, *, api: str = "") -> AsyncIterator[Self]:
        """Traffic in a fresh workspace, flowing when this yields. `api`: where the gateway is reached, when it is not
        where the stack started one.
        """
        load = load or Load()
        api, emulator = api or stack.url("gateway"), stack.url("meta-emulator")
        async with Workspace.create(api, emulator, throughput=1000) as shop, _client() as http:
            await shop.control("PATCH", "/_emulator/config", {"pairLimit": False})
            customers = [f"1650556{number:04}" for number in range(load.customers)]
            conversations = [await _conversation(shop, customer) for customer in customers]
            ledger = Ledger()
            secret = stack.settings["AEROSTIC_META_APP_SECRET"].encode()
            meta = Meta(http, f"{api}/webhooks/meta", secret, shop.number, customers, ledger)
            watcher = Watcher(shop, ledger)
            database_url = stack.database("messaging").superuser_url
            traffic = cls(shop, load, meta, Team(shop, conversations, ledger), watcher, ledger, database_url)
            try:
                await traffic._start()
                yield traffic
            finally:
                await traffic._abandon()

    async def recovery_after(self, fault: Callable[[], Awaitable[object]]) -> Recovery:
        """Strike, and wait until nothing is late any more."""
        await fault()
        struck = time.monotonic()
        last_late = struck
        while True:
            now = time.monotonic()
            self._raise_failures()
            if self.ledger.late(after=LATE_SECONDS):
                last_late = now
            first_webhook = _first(self.ledger.webhook_oks, struck)
            first_answer = _first(self.ledger.api_oks, struck)
            is_calm = now - last_late > _QUIET_SECONDS and now - struck > LATE_SECONDS + _QUIET_SECONDS
            if is_calm and first_webhook is not None and first_answer is not None:
                return Recovery(first_webhook, first_answer, last_late - struck)
            if now - struck > _GIVE_UP_SECONDS:
                raise AssertionError(
                    f"Not caught up within {_GIVE_UP_SECONDS:.0f} s: first webhook {first_webhook}, first answer "
                    f"{first_answer}, late {self.ledger.late(after=LATE_SECONDS)}, {self.ledger.refusals}"
                )
            await asyncio.sleep(_POLL_SECONDS)

    async def flows(self, *, answers: int = 20, seconds: float = 60) -> None:
        """Wait until so many more answers were accepted, as a sign that all is well."""
        wanted = len(self.ledger.api_oks) + answers
        async with asyncio.timeout(seconds):
            while len(self.ledger.api_oks) < wanted:
                self._raise_failures()
                await asyncio.sleep(_POLL_SECONDS)

    async def finish(self, *, seconds: float = 60) -> Audit:
        """Stop writing, let everything settle, and compare."""
        self._stop.set()
        async with asyncio.timeout(seconds):
            await asyncio.gather(*self._tasks)
        return await audit.settled(self.database_url, self.shop, self.ledger, self.watcher, seconds=seconds)

    async def _start(self) -> None:
        connected = asyncio.Event()
        self._watching = asyncio.create_task(self.watcher.run(connected))
        async with asyncio.timeout(30):
            await connected.wait()
        self._tasks = [
            asyncio.create_task(self.meta.run(self.load.webhooks, self._stop)),
            asyncio.create_task(self.team.run(self.load.answers, self._stop)),
        ]

    async def _abandon(self) -> None:
        tasks = [*self._tasks, *([self._watching] if self._watching else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _raise_failures(self) -> None:
        for task in [*self._tasks, self._watching]:
            if task is not None and task.done():
                task.result()


def _client() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))


async def _conversation(shop: Workspace, customer: str) -> str:
    """Opens the customer's window at the emulator and here."""
    await shop.customer_writes(customer, "Hello")
    return str((await shop.conversation_with(customer))["id"])


def _first(oks: list[tuple[float, float]], struck: float) -> float | None:
    """Seconds from the fault to the first success of a request that began after it."""
    since = itertools.takewhile(lambda ok: ok[1] >= struck, reversed(oks))
    return min((ended - struck for began, ended in since if began >= struck), default=None)
