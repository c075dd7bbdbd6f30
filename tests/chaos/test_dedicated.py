"""A tenant moves to partitions of its own and back, with and without processes of its own, while these are killed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import asyncpg
import pytest
from nats.js.errors import NotFoundError

from devstack import readiness
from devstack.child import Child
from devstack.ports import LOOPBACK, PortClaims
from devstack.processes import PROCESSES
from devstack.stack import Stack
from devstack.traffic import Load, Traffic
from devstack.workspace import Workspace
from kit import streams
from kit.bus import Bus
from kit.partitions import name_of

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

LOAD = Load(webhooks=20, answers=8, customers=20)
SECONDS = 120.0
# What each counts of its work.
_COUNTS = {"messaging-inbox": "aerostic_inbox_items_total", "messaging-sender": "aerostic_sends_total"}
_WRITTEN = """
    SELECT m.body, k.wa_id AS customer FROM messages m
    JOIN contacts k ON k.tenant_id = m.tenant_id AND k.id = m.contact_id
    WHERE m.tenant_id = $1::uuid AND m.direction = 'outbound' ORDER BY m.id
"""


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(SECONDS):
        while not await condition():  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(0.2)


class Own:
    """A process of one tenant."""

    def __init__(self, stack: Stack, name: str, tenant_id: str, port: int) -> None:
        process = next(each for each in PROCESSES if each.name == name)
        command = stack.command(process, {process.port: str(port)})
        environment = {**command.environment, "AEROSTIC_MESSAGING_TENANT": tenant_id}
        self._child = Child(replace(command, environment=environment), stack.log(f"{name}-dedicated"))
        self._counts = _COUNTS[name]
        self._port = port

    @classmethod
    @asynccontextmanager
    async def of(cls, stack: Stack, name: str, tenant_id: str) -> AsyncIterator["Own"]:
        claims = PortClaims()
        own = cls(stack, name, tenant_id, claims.claim())
        await own.start()
        try:
            yield own
        finally:
            await own.stop()
            claims.release()

    async def start(self) -> None:
        await self._child.start()
        await until(lambda: readiness.http(self._port))

    async def kill(self) -> None:
        await self._child.kill()

    async def stop(self) -> None:
        await self._child.stop(grace_seconds=30)

    async def done(self) -> float:
        """Webhook items that it has taken in, or messages that it has tried to send."""
        async with aiohttp.ClientSession() as http, http.get(f"http://{LOOPBACK}:{self._port}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{self._counts}{{"))

    async def works(self) -> None:
        """Until it has done more than it has."""
        before = await self.done()

        async def more() -> bool:
            return await self.done() > before

        await until(more)


class Product:
    """What is looked at from behind."""

    def __init__(self, stack: Stack, bus: Bus, tenant_id: str) -> None:
        self._stack = stack
        self._bus = bus
        self._tenant_id = tenant_id

    async def isolate(self, isolation: str) -> None:
        """As the operator has it from the Tenant's spec."""
        connection = await asyncpg.connect(self._stack.database("tenants").superuser_url)
        await connection.execute("UPDATE tenants SET isolation = $2 WHERE id = $1::uuid", self._tenant_id, isolation)
        await connection.close()

    async def taken(self, tenant_id: str) -> int:
        """Envelopes that somebody took in from the tenant's own partition, or from the first shared one."""
        try:
            consumer = await self._bus.js.consumer_info(streams.META, f"inbox-{name_of(0, tenant_id)}")
        except NotFoundError:
            return 0
        return consumer.ack_floor.consumer_seq if consumer.ack_floor else 0

    async def flows_through(self, tenant_id: str) -> None:
        """Until more webhooks are taken in that way."""
        before = await self.taken(tenant_id)

        async def more() -> bool:
            return await self.taken(tenant_id) > before + 5

        await until(more)

    async def overtaken(self, shop: Workspace) -> list[str]:
        """Customers whose phones show two messages in another order than that in which they were written."""
        connection = await asyncpg.connect(self._stack.database("messaging").superuser_url)
        rows = await connection.fetch(_WRITTEN, self._tenant_id)
        await connection.close()
        place = {each["text"]["body"]: number for number, each in enumerate(await shop.phone_shows())}
        by_customer: dict[str, list[int]] = {}
        for row in rows:
            if row["body"] in place:
                by_customer.setdefault(row["customer"], []).append(place[row["body"]])
        return [customer for customer, places in by_customer.items() if places != sorted(places)]


@pytest.fixture
async def bus(disturbed: Stack) -> AsyncIterator[Bus]:
    bus = await Bus.connect(disturbed.nats.url("aerostic"), name="test")
    yield bus
    await bus.close()


async def test_nothing_is_lost_or_doubled_wherever_a_tenants_work_waits_and_whoever_dies(
    disturbed: Stack, bus: Bus
) -> None:
    async with Traffic.on(disturbed, LOAD) as traffic:
        await traffic.flows()
        tenant_id = traffic.shop.tenant_id
        product = Product(disturbed, bus, tenant_id)
        await product.isolate("dedicated")
        # No process of its own lives: the shared ones stand in, and come back to it.
        await product.flows_through(tenant_id)
        await disturbed.kill("messaging-inbox")
        await disturbed.kill("messaging-sender")
        await product.flows_through(tenant_id)
        async with (
            Own.of(disturbed, "messaging-inbox", tenant_id) as inbox,
            Own.of(disturbed, "messaging-sender", tenant_id) as sender,
        ):
            await inbox.works()
            await sender.works()
            await disturbed.kill("messaging-inbox")
            await disturbed.kill("messaging-sender")
            await inbox.works()
            await sender.works()
            await inbox.kill()
            await sender.kill()
            await product.flows_through(tenant_id)
            await traffic.flows(answers=5, seconds=SECONDS)
            await inbox.start()
            await sender.start()
            await inbox.works()
            await sender.works()
            # Killed as it leaves: what it had claimed is settled by whoever stands in for it.
            await product.isolate("shared")
            await sender.kill()
            await product.flows_through("")
        for isolation in ("dedicated", "shared"):
            await product.isolate(isolation)
            await product.flows_through(tenant_id if isolation == "dedicated" else "")
            await disturbed.kill("messaging-sender")
        await traffic.flows(answers=10, seconds=SECONDS)
        found = await traffic.finish(seconds=180)
        overtaken = await product.overtaken(traffic.shop)
    print(f"{found.written} written, {found.answered} answered, {len(found.unknown)} unknown")
    found.assert_nothing_lost()
    assert not overtaken
