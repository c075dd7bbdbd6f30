"""What the server knows of workspaces: short memory, changes heard as events, and nothing sent on a guess."""

import asyncio
import uuid

import pytest
from aerostic.tenants.v1 import whatsapp_account_service_pb2 as accounts_pb
from grpc import StatusCode
from messaging_rpc import PatientChannel, Tenants, refusal, serving, until

from kit.bus import Bus
from kit.errors import Unavailable
from kit.events import Event, outgoing
from kit.grpc_client import Channel
from kit.ids import new_id
from kit.testing.rpc import Authority, serve
from svc_messaging.errors import TenantSuspended
from svc_messaging.server.workspaces import Workspaces


async def test_svc_tenants_is_asked_once_for_many_sends(app_db, sql, server_bus, tenant_id):
    async with serving(app_db, sql, server_bus, kept_seconds=600) as service:
        conversation = await service.conversation(tenant_id)
        for _ in range(5):
            await service.send(tenant_id, conversation)
        assert service.tenants.asked == [str(tenant_id)]


async def test_a_suspension_is_noticed_soon_without_any_event(app_db, sql, server_bus, tenant_id):
    async with serving(app_db, sql, server_bus, kept_seconds=0.1) as service:
        conversation = await service.conversation(tenant_id)
        await service.send(tenant_id, conversation)
        service.tenants.suspended.add(str(tenant_id))
        await asyncio.sleep(0.2)
        assert (await refusal(service.send(tenant_id, conversation))).reason == "TENANT_SUSPENDED"
        service.tenants.suspended.clear()
        await asyncio.sleep(0.2)
        assert (await service.send(tenant_id, conversation)).status == "queued"


async def test_a_change_is_heard_at_once(app_db, sql, server_bus, nats, tenant_id):
    bus, stop = await Bus.connect(nats, name="tests"), asyncio.Event()
    async with serving(app_db, sql, server_bus, kept_seconds=600) as service:
        following = asyncio.create_task(service.workspaces.follow(bus, stop))
        conversation = await service.conversation(tenant_id)
        other = await service.conversation(new_id())
        await service.send(other["tenant_id"], other)
        await service.send(tenant_id, conversation)
        service.tenants.suspended.add(str(tenant_id))
        [sent] = outgoing([Event("tenants.tenant.suspended", tenant_id, f"tenants/{tenant_id}", {})])

        async def refused():
            # Said again until it is heard: the subscription may just be on its way.
            await bus.client.publish(sent.subject, sent.data, headers=sent.headers)
            await bus.client.flush()
            try:
                await service.workspaces.active(tenant_id)
            except TenantSuspended:
                return True

        await until(refused)
        assert (await refusal(service.send(tenant_id, conversation))).reason == "TENANT_SUSPENDED"
        asked = len(service.tenants.asked)
        await service.send(other["tenant_id"], other)
        assert len(service.tenants.asked) == asked
        stop.set()
        await asyncio.wait_for(following, 60)
    await bus.close()


async def test_nothing_is_sent_while_svc_tenants_cannot_be_asked(app_db, sql, server_bus, tenant_id):
    async with serving(app_db, sql, server_bus, kept_seconds=0) as service:
        conversation = await service.conversation(tenant_id)
        await service.send(tenant_id, conversation)

        service.tenants.failure = Unavailable("Away.")
        for call in (service.send(tenant_id, conversation), service.start(tenant_id)):
            error = await refusal(call)
            assert (error.code, error.reason) == (StatusCode.UNAVAILABLE, "UNAVAILABLE")
        assert len(await service.commands(tenant_id)) == 1


async def test_a_svc_tenants_that_is_gone_is_no_reason_to_send(tenant_id):
    authority = Authority()
    async with Channel("127.0.0.1:1", authority.identities["messaging-server"]) as gone:
        with pytest.raises(Unavailable):
            await Workspaces(gone).active(tenant_id)


async def test_a_workspace_that_svc_tenants_does_not_know_sends_nothing(service, tenant_id):
    error = await refusal(service.start(tenant_id))
    assert (error.code, error.reason) == (StatusCode.UNAVAILABLE, "UNAVAILABLE")


class Slow(Tenants):
    """Answers what was true when it was asked, once it is let."""

    def __init__(self):
        super().__init__()
        self.let = asyncio.Event()

    async def ListTenantNumbers(self, request, context):
        answer = await super().ListTenantNumbers(request, context)
        await self.let.wait()
        return answer


async def test_an_answer_that_a_change_overtook_is_not_kept(tenant_id):
    tenants = Slow()
    tenants.connect(tenant_id, new_id(), "100")
    async with (
        serve(tenants) as behind,
        PatientChannel(behind.target, behind.authority.identities["messaging-server"]) as channel,
    ):
        workspaces = Workspaces(channel, kept_seconds=600)
        asking = asyncio.create_task(workspaces.active(tenant_id))
        await until(lambda: asyncio.sleep(0, tenants.asked))
        tenants.suspended.add(str(tenant_id))
        workspaces.forget(tenant_id)
        tenants.let.set()
        await asyncio.wait_for(asking, 60)
        with pytest.raises(TenantSuspended):
            await workspaces.active(tenant_id)


@pytest.mark.parametrize("state", ["", "suspended", "closing"])
async def test_only_active_workspaces_send(tenant_id, state):
    class Odd(Tenants):
        async def ListTenantNumbers(self, request, context):
            return accounts_pb.ListTenantNumbersResponse(tenant_state=state)

    async with (
        serve(Odd()) as behind,
        PatientChannel(behind.target, behind.authority.identities["messaging-server"]) as channel,
    ):
        with pytest.raises(TenantSuspended):
            await Workspaces(channel).active(tenant_id)


async def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr("svc_messaging.server.workspaces._REMEMBERED_MAX", 3)
    tenants = Tenants()
    ids = [uuid.uuid4() for _ in range(5)]
    for each in ids:
        tenants.connect(each, new_id(), "100")
    async with (
        serve(tenants) as behind,
        PatientChannel(behind.target, behind.authority.identities["messaging-server"]) as channel,
    ):
        workspaces = Workspaces(channel, kept_seconds=600)
        for each in ids:
            await workspaces.active(each)
        await workspaces.active(ids[-1])
        assert len(tenants.asked) == 5
        await workspaces.active(ids[0])
        assert len(tenants.asked) == 6
