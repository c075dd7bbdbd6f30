"""The worker that erases: step after step, again after whatever died or was away, until nothing is left anywhere."""

import asyncio
import time
import uuid
from contextlib import asynccontextmanager

import grpc
import pytest
from aerostic.auth.v1 import erasure_service_pb2 as auth_pb
from aerostic.auth.v1.erasure_service_pb2_grpc import ErasureServiceServicer as AuthErasureServicer
from aerostic.messaging.v1 import erasure_service_pb2 as messaging_pb
from aerostic.messaging.v1.erasure_service_pb2_grpc import ErasureServiceServicer as MessagingErasureServicer
from aerostic.tenants.v1 import tenant_service_pb2 as pb

from kit import streams
from kit.bus import Bus
from kit.errors import AppError
from kit.events import Event, outgoing
from kit.grpc_client import Channel
from kit.partitions import name_of
from kit.testing.rpc import Authority, serve
from svc_tenants.erasing import TABLES, Eraser
from svc_tenants.erasing_elsewhere import Elsewhere

SECONDS = 30


class Away(AppError):
    code, reason = grpc.StatusCode.UNAVAILABLE, "AWAY"


class Elses:
    """What a service keeps: so many rows by tenant, of which each call erases one."""

    def __init__(self, answer):
        self._answer = answer
        self.rows: dict[str, int] = {}
        self.requests: list = []
        self.is_away = False

    def erase(self, request):
        if self.is_away:
            raise Away("It is away.")
        self.requests.append(request)
        left = self.rows.get(request.tenant_id, 0)
        self.rows[request.tenant_id] = max(left - 1, 0)
        return self._answer(done=left <= 1, erased={"rows": 1} if left else {})


class Auth(Elses, AuthErasureServicer):
    async def EraseTenantData(self, request, context):
        return self.erase(request)


class Messaging(Elses, MessagingErasureServicer):
    async def EraseTenantData(self, request, context):
        return self.erase(request)


class Erasing:
    """The worker with everything that it drives."""

    def __init__(self, installation, bus, auth, messaging, elsewhere):
        self.installation, self.bus, self.auth, self.messaging = installation, bus, auth, messaging
        self._elsewhere = elsewhere

    def eraser(self, settle_seconds=0.0):
        one = self.installation
        return Eraser(one.db, self.bus, one.connector, self._elsewhere, settle_seconds=settle_seconds)

    @asynccontextmanager
    async def running(self, **options):
        stop, eraser = asyncio.Event(), self.eraser(**options)
        task = asyncio.create_task(eraser.run(self.installation.database.app_url, stop))
        try:
            yield eraser
        finally:
            stop.set()
            await asyncio.wait_for(task, SECONDS)

    async def ask(self, tenant_id):
        [row] = await self.installation.look("SELECT slug FROM tenants WHERE id = $1", tenant_id)
        request = pb.DeleteTenantRequest(tenant_id=str(tenant_id), confirm_slug=row["slug"])
        return await self.installation.super_admin.call(self.installation.tenants.DeleteTenant, request)

    async def told(self, tenant_id):
        request = pb.GetTenantErasureRequest(tenant_id=str(tenant_id))
        return await self.installation.super_admin.call(self.installation.tenants.GetTenantErasure, request)

    async def until(self, tenant_id, condition):
        deadline = time.monotonic() + SECONDS
        while not condition(told := await self.told(tenant_id)):
            assert time.monotonic() < deadline, told
            await asyncio.sleep(0.02)
        return told

    async def done(self, tenant_id):
        return await self.until(tenant_id, lambda told: told.state == "done")

    async def publish(self, tenant_id, count=1):
        """Each by itself; those of one transaction would travel as one."""
        events = [Event("messaging.message.received", tenant_id, f"messages/{n}", {"n": n}) for n in range(count)]
        for row in [row for event in events for row in outgoing([event])]:
            await self.bus.publish(row.subject, row.data, headers=row.headers, key=str(row.id))

    async def in_streams(self, tenant_id):
        found = (await self.bus.js.stream_info(streams.EVENTS, subjects_filter=f"events.*.*.*.{tenant_id}")).state
        return sum((found.subjects or {}).values())

    async def left(self, tenant_id):
        """Tables that know the tenant, by the catalog, so that one that is added later is looked at too."""
        tables = await self.installation.look(
            "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'"
            " WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace"
        )
        places = [(row["relname"], "tenant_id") for row in tables] + [("tenants", "id")]
        look = self.installation.look
        return {t for t, key in places if await look(f"SELECT 1 FROM {t} WHERE {key} = $1", tenant_id)}


@pytest.fixture
async def erasing(nats, installation):
    bus = await Bus.connect(nats, name="test")
    await bus.ensure(streams.events(), streams.dead())
    authority = Authority(["svc-tenants"])
    auth, messaging = Auth(auth_pb.EraseTenantDataResponse), Messaging(messaging_pb.EraseTenantDataResponse)
    # Erasures that earlier tests asked for would be carried on here.
    await installation.look("DELETE FROM tenant_erasures")
    async with serve(auth, messaging, authority=authority) as rpc:
        channel = Channel(rpc.target, authority.identities["svc-tenants"])
        yield Erasing(installation, bus, auth, messaging, Elsewhere(channel, channel))
        await channel.close()
    await bus.close()


async def fill(erasing, meta, tenant_id):
    """A row in every table of tenants; gives the number."""
    number = meta.number()
    await erasing.installation.connect(tenant_id, number)
    await erasing.installation.look(
        "INSERT INTO tenant_usage VALUES ($1, '2026-11-01', 1, 1, 1, 1) RETURNING day", tenant_id
    )
    erasing.auth.rows[str(tenant_id)] = 2
    erasing.messaging.rows[str(tenant_id)] = 3
    await erasing.publish(tenant_id, count=4)
    return number


async def test_every_table_of_tenants_is_filled_by_these_tests_and_erased_by_the_worker(erasing, meta, tenant_id):
    await fill(erasing, meta, tenant_id)
    await erasing.ask(tenant_id)
    found = await erasing.left(tenant_id)
    assert found == {*(table.name for table in TABLES), "tenants", "tenant_erasures"}


async def test_nothing_is_left_of_the_tenant_and_everything_of_another(erasing, meta, tenant_id):
    other = await erasing.installation.tenant("Other Shop")
    mine, theirs = await fill(erasing, meta, tenant_id), await fill(erasing, meta, other)
    kept = await erasing.left(other)
    await erasing.ask(tenant_id)
    async with erasing.running():
        told = await erasing.done(tenant_id)
    assert await erasing.left(tenant_id) == {"tenant_erasures"}
    assert await erasing.in_streams(tenant_id) == 0
    assert (meta.is_subscribed(mine.number.waba_id), meta.is_subscribed(theirs.number.waba_id)) == (False, True)
    counts = {each.sort: each.count for each in told.erased_counts}
    expected = {"numbers": 1, "auth.rows": 2, "messaging.rows": 3, "streams.EVENTS": 4, "tenants.tenant_usage": 1}
    assert expected.items() <= counts.items()
    assert (list(told.remaining_steps), told.last_error) == ([], "")
    assert await erasing.left(other) == kept
    assert await erasing.in_streams(other) == 4
    assert erasing.auth.rows[str(other)] == 2
    # What is left to be published says no more than that it is gone.
    assert await erasing.installation.events(tenant_id) == ["tenants.tenant.deleted"]


async def test_its_slug_is_free_afterwards_and_its_id_stays_taken(erasing, tenant_id):
    [row] = await erasing.installation.look("SELECT slug FROM tenants WHERE id = $1", tenant_id)
    await erasing.ask(tenant_id)
    async with erasing.running():
        await erasing.done(tenant_id)
    create = pb.CreateTenantRequest(tenant_id=str(tenant_id), display_name="Acme Shoes")
    caller = erasing.installation.rpc.service("svc-auth")
    error = await erasing.installation.refusal(caller.call(erasing.installation.tenants.CreateTenant, create))
    assert error.reason == "TENANT_DELETING"
    again = await erasing.installation.tenant()
    [new] = await erasing.installation.look("SELECT slug FROM tenants WHERE id = $1", again)
    assert new["slug"].rpartition("-")[0] in row["slug"]


async def test_messaging_is_told_which_numbers_the_tenant_had_and_who_has_them_now(erasing, meta, tenant_id):
    moved = await fill(erasing, meta, tenant_id)
    [account] = await erasing.installation.listed(tenant_id)
    await erasing.installation.disconnect(tenant_id, account.id)
    heir = await erasing.installation.tenant("Heir")
    await erasing.installation.connect(heir, moved)
    kept = meta.number()
    await erasing.installation.connect(tenant_id, kept)
    await erasing.ask(tenant_id)
    async with erasing.running():
        await erasing.done(tenant_id)
    numbers = {each.phone_number_id: each.taken for each in erasing.messaging.requests[-1].numbers}
    assert numbers == {moved.number.id: True, kept.number.id: False}


@pytest.mark.parametrize("service", ["auth", "messaging"])
async def test_it_waits_for_a_service_that_is_away_and_says_so(erasing, tenant_id, service, monkeypatch):
    monkeypatch.setattr("svc_tenants.erasing._AGAIN_SECONDS", 0.1)
    getattr(erasing, service).is_away = True
    await erasing.ask(tenant_id)
    async with erasing.running():
        told = await erasing.until(tenant_id, lambda told: told.last_error)
        assert told.remaining_steps[0] == service
        assert told.last_error.startswith(f"{service}: ")
        getattr(erasing, service).is_away = False
        assert (await erasing.done(tenant_id)).last_error == ""


async def test_a_tenant_whose_service_is_away_holds_up_no_other(erasing, tenant_id):
    other = await erasing.installation.tenant("Other Shop")
    refuse = erasing.auth.erase

    def erase(request):
        if request.tenant_id == str(tenant_id):
            raise Away("It is away.")
        return refuse(request)

    erasing.auth.erase = erase
    await erasing.ask(tenant_id)
    await erasing.ask(other)
    async with erasing.running():
        await erasing.done(other)
    assert (await erasing.told(tenant_id)).state == "erasing"


async def test_a_worker_that_dies_at_any_step_is_followed_by_one_that_goes_on(erasing, meta, tenant_id):
    await fill(erasing, meta, tenant_id)
    await erasing.ask(tenant_id)
    steps = []
    while (told := await erasing.told(tenant_id)).state != "done":
        # Each piece by another worker, which knows nothing of the one before.
        steps += [told.remaining_steps[0]]
        await erasing.eraser().look()
    assert list(dict.fromkeys(steps)) == ["numbers", "auth", "messaging", "events", "check", "tenant"]
    assert await erasing.left(tenant_id) == {"tenant_erasures"}


async def test_what_comes_late_is_found_before_the_end(erasing, tenant_id):
    await erasing.ask(tenant_id)
    # So long that nothing can be too late for it; what has come late is waited for no longer than a second.
    async with erasing.running(settle_seconds=3600.0) as eraser:
        await erasing.until(tenant_id, lambda told: told.remaining_steps[0] == "check")
        erasing.messaging.rows[str(tenant_id)] = 1
        await erasing.publish(tenant_id)
        eraser._settle_seconds = 1.0
        told = await erasing.done(tenant_id)
    counts = {each.sort: each.count for each in told.erased_counts}
    assert (counts["messaging.rows"], counts["streams.EVENTS"]) == (1, 1)
    assert await erasing.in_streams(tenant_id) == 0


async def test_what_consumers_gave_up_of_it_goes_and_what_they_gave_up_of_others_stays(erasing, tenant_id):
    other = uuid.uuid4()
    for owner in (tenant_id, other):
        headers = {"Aerostic-Stream": streams.SEND, "Aerostic-Subject": f"send.interactive.0.{owner}"}
        await erasing.bus.publish("dead.send.sender", str(owner).encode(), headers=headers, key=str(owner))
    await erasing.ask(tenant_id)
    async with erasing.running():
        told = await erasing.done(tenant_id)
    assert {each.sort: each.count for each in told.erased_counts}["streams.DEAD"] == 1
    letters = (await erasing.bus.js.stream_info(streams.DEAD)).state.messages
    assert letters == 1


async def test_what_is_in_its_own_partitions_goes_and_what_is_in_others_stays(erasing, tenant_id):
    bus, other = erasing.bus, uuid.uuid4()
    await bus.ensure(streams.meta(), streams.send())
    subjects = {f"{kind}.{name_of(0, scope)}" for kind in ("meta", "send.live") for scope in ("", str(other))}
    mine = {f"{kind}.{name_of(1, str(tenant_id))}" for kind in ("meta", "send.live", "send.bulk")}
    for subject in subjects | mine:
        await bus.publish(subject, b"?")
    await erasing.ask(tenant_id)
    async with erasing.running():
        told = await erasing.done(tenant_id)
    counts = {each.sort: each.count for each in told.erased_counts}
    assert (counts["streams.META"], counts["streams.SEND"]) == (1, 2)
    left = [
        (await bus.js.stream_info(each, subjects_filter=">")).state.subjects for each in (streams.META, streams.SEND)
    ]
    assert left[0].keys() | left[1].keys() == subjects
