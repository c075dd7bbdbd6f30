"""SIGKILL of each process in turn during traffic: nothing acknowledged is lost, nothing is doubled."""

import asyncio
import collections
import itertools
from collections.abc import AsyncIterator

import aiohttp
import pytest

from devstack.stack import Stack
from devstack.workspace import Refused, Workspace, until

VICTIMS = [
    "webhooks-ingest",
    "messaging-inbox",
    "messaging-sender",
    "messaging-server",
    "gateway",
    "svc-tenants",
    "svc-auth",
    "nats",
    "postgres",
]
CUSTOMERS = [f"1650555{number:04}" for number in range(1000, 1006)]

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
async def product(tmp_path_factory) -> AsyncIterator[Stack]:
    """A product of its own: it is killed piece by piece."""
    async with Stack(tmp_path_factory.mktemp("chaos"), free_ports=True) as stack:
        yield stack


class Traffic:
    """Customers who write and a team that answers, noting only what was acknowledged."""

    def __init__(self, shop: Workspace) -> None:
        self.shop = shop
        self.written: dict[str, str] = {}
        """wamid -> text of what the emulator gave to Meta's webhook."""
        self.answered: dict[str, str] = {}
        """message id -> text of what the platform accepted."""
        self._count = itertools.count()
        self._conversations: list[str] = []
        self._stop = asyncio.Event()

    async def run(self) -> None:
        for customer in CUSTOMERS:
            await self._write(customer)
        for customer in CUSTOMERS:
            self._conversations.append((await self.shop.conversation_with(customer))["id"])
        await asyncio.gather(self._write_on(), self._answer_on())

    def stop(self) -> None:
        self._stop.set()

    async def _write_on(self) -> None:
        for customer in itertools.cycle(CUSTOMERS):
            if self._stop.is_set():
                return
            await self._write(customer)
            await asyncio.sleep(0.02)

    async def _write(self, customer: str) -> None:
        text = f"in {next(self._count)}"
        self.written[await self.shop.customer_writes(customer, text)] = text

    async def _answer_on(self) -> None:
        """Each answer is tried again with the same request id until the platform says yes, as a good client does."""
        for conversation in itertools.cycle(self._conversations):
            if self._stop.is_set():
                return
            text = f"out {next(self._count)}"
            while True:
                try:
                    message = await self.shop.answer(conversation, text, requestId=text.replace(" ", "-"))
                    self.answered[message["id"]] = text
                    break
                except Refused as refused:
                    if refused.status < 500:
                        raise
                except (aiohttp.ClientError, TimeoutError):
                    pass
                await asyncio.sleep(0.1)
            await asyncio.sleep(0.02)


async def test_nothing_is_lost_or_doubled_whatever_is_killed(product: Stack) -> None:
    api, emulator = product.url("gateway"), product.url("meta-emulator")
    async with Workspace.create(api, emulator, throughput=1000) as shop:
        # Answers to one customer come faster than Meta lets people write.
        await shop.control("PATCH", "/_emulator/config", {"pairLimit": False})
        traffic = Traffic(shop)
        running = asyncio.create_task(traffic.run())
        await until(lambda: enough(traffic, 20), "traffic")
        for victim in VICTIMS:
            before = len(traffic.answered)
            await product.kill(victim)
            await product.until_ready(victim)
            await until(lambda before=before: enough(traffic, before + 10), f"answers after {victim} was killed")
        traffic.stop()
        await running
        await audit(shop, traffic)


async def enough(traffic: Traffic, count: int) -> bool | None:
    return len(traffic.answered) >= count or None


async def audit(shop: Workspace, traffic: Traffic) -> None:
    async def stored() -> list | None:
        conversations = await shop.conversations()
        found = [m for c in conversations for m in await shop.messages(c["id"])]
        inbound = [m for m in found if m["direction"] == "inbound"]
        settled = all(m["status"] != "queued" for m in found)
        return found if settled and len(inbound) >= len(traffic.written) else None

    messages = await until(stored, "everything written being stored", seconds=120)
    conversations = await shop.conversations()
    assert len(conversations) == len(CUSTOMERS), "one open conversation per customer"
    inbound = collections.Counter(m["wamid"] for m in messages if m["direction"] == "inbound")
    assert inbound == collections.Counter(traffic.written.keys())
    outbound = {m["id"]: m for m in messages if m["direction"] == "outbound"}
    assert outbound.keys() == traffic.answered.keys()
    shown = collections.Counter(each["text"]["body"] for each in await shop.phone_shows())
    assert not [text for text, times in shown.items() if times > 1], "no answer reaches the phone twice"
    for message in outbound.values():
        text = message["text"]["body"]
        assert shown[text] == 1 or message["status"] == "unknown", (text, message["status"])
        assert message["status"] in {"accepted", "sent", "delivered", "read", "unknown"}, message
