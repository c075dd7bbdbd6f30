"""Whose a number is: asked once, kept, and forgotten in time, so that no message reaches a former owner."""

import asyncio
import uuid

import pytest
from aerostic.tenants.v1 import whatsapp_account_service_pb2 as accounts_pb
from aerostic.tenants.v1.whatsapp_account_service_pb2_grpc import WhatsAppAccountServiceServicer
from messaging_rpc import PatientChannel

from kit import streams
from kit.bus import Bus
from kit.testing.rpc import serve
from svc_messaging.inbox.numbers import Numbers, Owner

SECONDS = 30


class Tenants(WhatsAppAccountServiceServicer):
    """svc-tenants; answers what was true when it was asked, once it is let."""

    def __init__(self):
        self.owners = {}
        self.asked = []
        self.let = asyncio.Event()
        self.let.set()

    async def ResolveNumbers(self, request, context):
        self.asked.append(sorted(request.phone_number_ids))
        numbers = [
            accounts_pb.ResolvedNumber(
                tenant_id=str(owner.tenant_id), whatsapp_account_id=str(owner.account_id), phone_number_id=number
            )
            for number in request.phone_number_ids
            if (owner := self.owners.get(number))
        ]
        await self.let.wait()
        return accounts_pb.ResolveNumbersResponse(numbers=numbers)


@pytest.fixture
async def tenants():
    return Tenants()


@pytest.fixture
async def numbers(tenants):
    async with (
        serve(tenants) as behind,
        PatientChannel(behind.target, behind.authority.identities["messaging-inbox"]) as channel,
    ):
        yield Numbers(channel)


def some_owner():
    return Owner(uuid.uuid4(), uuid.uuid4())


async def until(condition):
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(0.01)


async def test_an_owner_is_asked_for_once(tenants, numbers):
    tenants.owners["1"] = some_owner()
    for _ in range(2):
        assert await numbers.owners(["1", "2"]) == {"1": tenants.owners["1"]}
    assert tenants.asked == [["1", "2"]]


async def test_what_is_forgotten_while_others_are_asked_for_is_still_answered(tenants, numbers):
    tenants.owners["1"] = first = some_owner()
    await numbers.owners(["1", "2"])
    tenants.let.clear()
    asking = asyncio.create_task(numbers.owners(["1", "2", "3"]))
    await until(lambda: tenants.asked[1:] == [["3"]])
    numbers.forget({first.tenant_id})
    tenants.let.set()
    assert await asking == {"1": first}


async def test_an_answer_that_a_change_overtook_is_not_kept(tenants, numbers):
    tenants.let.clear()
    asking = asyncio.create_task(numbers.owners(["1"]))
    await until(lambda: tenants.asked)
    tenants.owners["1"] = some_owner()
    numbers.forget({tenants.owners["1"].tenant_id})
    tenants.let.set()
    assert await asking == {}
    assert await numbers.owners(["1"]) == {"1": tenants.owners["1"]}


async def test_a_number_that_moved_while_nats_was_away_is_asked_for_again(tenants, numbers, nats):
    bus = await Bus.connect(nats, name="test numbers")
    await bus.ensure(streams.events())
    stop = asyncio.Event()
    following = asyncio.create_task(numbers.follow(bus, stop))
    tenants.owners["1"] = some_owner()
    await numbers.owners(["1"])
    tenants.owners["1"] = now = some_owner()
    await bus.client.flush()
    bus.client._transport.close()
    # The client tells a moment after it counts the new connection. If it did not, the owner would be remembered for ten
    # minutes.
    async with asyncio.timeout(SECONDS):
        while await numbers.owners(["1"]) != {"1": now}:  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(0.01)
    stop.set()
    await following
    await bus.close()
