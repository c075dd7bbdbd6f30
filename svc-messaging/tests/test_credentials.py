"""What the sender keeps of svc-tenants' answers, and forgets when something has changed."""

import asyncio
import uuid

import pytest
import pytest_asyncio
from aerostic.tenants.v1.whatsapp_account_service_pb2 import SendingCredentials
from aerostic.tenants.v1.whatsapp_account_service_pb2_grpc import WhatsAppAccountServiceServicer
from messaging_rpc import PatientChannel

from kit import streams
from kit.bus import Bus
from kit.events import Event, outgoing
from kit.testing.rpc import Authority, serve
from svc_messaging.sender.credentials import CredentialsCache
from svc_messaging.sender.worker import forget_changed_credentials

SECONDS = 40
NUMBER, THEIRS = "106540352242922", "106540352242923"


class Tenants(WhatsAppAccountServiceServicer):
    """svc-tenants, as far as the sender asks it."""

    def __init__(self):
        self.owners = {NUMBER: uuid.uuid4(), THEIRS: uuid.uuid4()}
        self.messages_per_second = 80
        self.asked = {NUMBER: 0, THEIRS: 0}

    async def GetSendingCredentials(self, request, context):
        self.asked[request.phone_number_id] += 1
        return SendingCredentials(
            phone_number_id=request.phone_number_id,
            tenant_id=str(self.owners[request.phone_number_id]),
            access_token="EAAtoken",
            messages_per_second=self.messages_per_second,
            tenant_state="active",
            token_version=1,
        )


@pytest_asyncio.fixture
async def bus(nats):
    bus = await Bus.connect(nats, name="test credentials")
    await bus.ensure(streams.events())
    yield bus
    await bus.close()


@pytest_asyncio.fixture
async def tenants():
    return Tenants()


@pytest_asyncio.fixture
async def cache(tenants, bus):
    """As the sender's process has it, which hears of changes."""
    authority = Authority()
    async with (
        serve(tenants, authority=authority) as rpc,
        PatientChannel(rpc.target, authority.identities["messaging-sender"]) as channel,
    ):
        cache, stop = CredentialsCache(channel), asyncio.Event()
        following = asyncio.create_task(forget_changed_credentials(bus, cache, stop))
        yield cache
        stop.set()
        await following


async def tell(bus, tenant_id, kind):
    data = {"id": str(uuid.uuid4()), "messagesPerSecond": 80}
    for message in outgoing([Event(kind, tenant_id, f"whatsappAccounts/{data['id']}", data)]):
        await bus.js.publish(message.subject, message.data, headers=dict(message.headers))


async def test_an_answer_serves_again(cache, tenants):
    assert [(await cache.get(NUMBER)).messages_per_second for _ in range(3)] == [80, 80, 80]
    assert tenants.asked[NUMBER] == 1


@pytest.mark.parametrize("kind", ["tenants.whatsappaccount.updated", "tenants.tenant.suspended"])
async def test_a_rate_that_meta_has_changed_counts_once_svc_tenants_tells(cache, tenants, bus, kind):
    assert (await cache.get(NUMBER)).messages_per_second == 80
    tenants.messages_per_second = 1000
    async with asyncio.timeout(SECONDS):
        while (await cache.get(NUMBER)).messages_per_second != 1000:
            # Again and again: nobody tells when the subscription has begun.
            await tell(bus, tenants.owners[NUMBER], kind)
            await asyncio.sleep(0.05)


async def test_another_workspaces_change_forgets_nothing(cache, tenants, bus):
    await cache.get(NUMBER)
    async with asyncio.timeout(SECONDS):
        while tenants.asked[THEIRS] < 2:
            await cache.get(THEIRS)
            await tell(bus, tenants.owners[THEIRS], "tenants.whatsappaccount.updated")
            await asyncio.sleep(0.05)
    await cache.get(NUMBER)
    assert tenants.asked[NUMBER] == 1
