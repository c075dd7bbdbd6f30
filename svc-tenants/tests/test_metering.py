"""Counting usage: each event once, whatever is repeated, restarted or lost on the way; told by month and day."""

import asyncio
import json
import time
import uuid
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import asyncpg
import pytest
from aerostic.tenants.v1 import provisioning_service_pb2 as provisioning_pb
from aerostic.tenants.v1 import usage_service_pb2 as usage_pb
from prometheus_client import REGISTRY

from kit import streams
from kit.bus import Bus
from kit.events import Event, outgoing
from kit.principal import Principal
from svc_tenants.metering import Meter

RECEIVED, UPDATED = "messaging.message.received", "messaging.message.updated"
SECONDS = 30


@pytest.fixture
async def bus(nats, installation):
    await installation.look("UPDATE usage_position SET sequence = 0, stream_created_at = NULL")
    bus = await Bus.connect(nats, name="test")
    await bus.ensure(streams.events(), streams.dead())
    yield bus
    await bus.close()


def update(tenant_id, *reached, status="sent", at="2026-11-30T23:59:59Z"):
    data = {"message": {"id": str(uuid.uuid4()), "status": status}}
    return event(UPDATED, tenant_id, {**data, "reached": list(reached)} if reached else data, at=at)


def received(tenant_id, at="2026-11-30T23:59:59Z"):
    return event(RECEIVED, tenant_id, {"message": {"id": str(uuid.uuid4()), "status": "received"}}, at=at)


def event(kind, tenant_id, data, *, at):
    return Event(kind, tenant_id, f"messages/{uuid.uuid4()}", data, time=datetime.fromisoformat(at))


async def publish(bus, *events):
    for row in outgoing(list(events)):
        await bus.publish(row.subject, row.data, headers=row.headers, key=str(row.id))


@asynccontextmanager
async def metering(installation, bus):
    stop = asyncio.Event()
    task = asyncio.create_task(Meter(installation.db, bus, installation.database.app_url).run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, SECONDS)


async def until(condition):
    deadline = time.monotonic() + SECONDS
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def counted(installation, bus):
    """Wait until all that is in the stream is counted."""
    last = (await bus.js.stream_info(streams.EVENTS)).state.last_seq

    async def is_counted():
        return await position(installation) >= last

    await until(is_counted)


async def position(installation):
    [row] = await installation.look("SELECT sequence FROM usage_position")
    return row["sequence"]


async def used(installation, tenant_id, month="2026-11"):
    request = usage_pb.GetMyUsageRequest(month=month)
    return await installation.admin(tenant_id).call(installation.usage.GetMyUsage, request)


def counts(usage):
    return usage.messages_received, usage.messages_sent, usage.messages_delivered, usage.messages_failed


async def test_each_word_counts_on_the_day_of_its_event(installation, bus):
    ours, theirs = await installation.tenant("Ours"), await installation.tenant("Theirs")
    async with metering(installation, bus):
        await publish(bus, received(ours))
        await publish(bus, received(ours), update(ours, "accepted"), update(theirs, "accepted", "delivered"))
        await publish(bus, update(ours, "delivered", at="2026-12-01T00:00:00Z"), update(ours), update(ours, "failed"))
        await counted(installation, bus)
    assert counts(await used(installation, ours)) == (2, 1, 0, 1)
    december = await used(installation, ours, "2026-12")
    assert counts(december) == (0, 0, 1, 0)
    assert [(day.day, counts(day)) for day in december.days] == [("2026-12-01", (0, 0, 1, 0))]
    assert counts(await used(installation, theirs)) == (0, 1, 1, 0)


async def test_what_is_in_the_stream_twice_counts_once_also_after_a_restart(installation, bus):
    tenant_id = await installation.tenant()
    first, second = [received(tenant_id), update(tenant_id, "accepted")], [received(tenant_id)]
    async with metering(installation, bus):
        await publish(bus, *first)
        await counted(installation, bus)
    await repeat_all(bus)
    async with metering(installation, bus):
        await publish(bus, *second)
        await counted(installation, bus)
        await repeat_all(bus)
        await counted(installation, bus)
    assert counts(await used(installation, tenant_id)) == (2, 1, 0, 0)


async def repeat_all(bus):
    """Store every message once more under its own id, as a relay does that died before it noted the publish."""
    state = (await bus.js.stream_info(streams.EVENTS)).state
    config = streams.events()
    config.duplicate_window = 0.1
    await bus.js.update_stream(config)
    for sequence in range(state.first_seq, state.last_seq + 1):
        message = await bus.js.get_msg(streams.EVENTS, sequence)
        headers = {key: value for key, value in message.headers.items() if not key.startswith("Nats-Expected")}
        async with asyncio.timeout(SECONDS):
            # It names the message that it has until it has forgotten the id, of which nobody is told.
            while await bus.publish(message.subject, message.data, headers=headers) <= state.last_seq:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    assert (await bus.js.stream_info(streams.EVENTS)).state.last_seq > state.last_seq


async def test_a_batch_whose_transaction_fails_is_counted_by_the_next(installation, bus):
    tenant_id = await installation.tenant()
    superuser = await asyncpg.connect(installation.database.superuser_url)
    try:
        async with metering(installation, bus):
            await publish(bus, received(tenant_id))
            await counted(installation, bus)
            async with superuser.transaction():
                await superuser.execute("LOCK TABLE tenant_usage IN ACCESS EXCLUSIVE MODE")
                await publish(bus, received(tenant_id), received(tenant_id))
                await waits_for_lock(superuser)
                await superuser.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
                )
            await counted(installation, bus)
    finally:
        await superuser.close()
    assert counts(await used(installation, tenant_id)) == (3, 0, 0, 0)


async def waits_for_lock(connection):
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    await until(lambda: connection.fetchval(waiting))


async def test_of_two_that_count_the_second_changes_nothing(installation, bus):
    tenant_id = await installation.tenant()
    await publish(bus, *[received(tenant_id) for _ in range(3)])
    async with metering(installation, bus):
        await counted(installation, bus)
        async with installation.db.begin(Principal.service("tests")) as tx:
            stale = await tx.fetchval(
                "SELECT count_usage(0, 1, now(), $1, $2, '{9}', '{9}', '{9}', '{9}')",
                [tenant_id],
                [datetime.now(UTC).date()],
            )
        assert stale is False
    assert counts(await used(installation, tenant_id)) == (3, 0, 0, 0)


async def test_it_catches_up_and_says_how_much_was_gone_before(installation, bus):
    tenant_id = await installation.tenant()
    async with metering(installation, bus):
        await publish(bus, received(tenant_id))
        await counted(installation, bus)
    for _ in range(700):
        await publish(bus, received(tenant_id))
    await bus.js.purge_stream(streams.EVENTS, seq=102)
    missed = REGISTRY.get_sample_value("aerostic_usage_missed_messages_total")
    async with metering(installation, bus):
        await counted(installation, bus)
    assert REGISTRY.get_sample_value("aerostic_usage_missed_messages_total") - missed == 100
    assert counts(await used(installation, tenant_id)) == (601, 0, 0, 0)


async def test_a_stream_that_is_made_anew_is_counted_from_its_beginning(installation, bus, nats_server):
    tenant_id = await installation.tenant()
    async with metering(installation, bus):
        await publish(bus, received(tenant_id), received(tenant_id))
        await publish(bus, received(tenant_id))
        await counted(installation, bus)
    await bus.js.delete_stream(streams.EVENTS)

    async def are_files_gone():
        return not (nats_server.folder / streams.EVENTS).exists()

    # The server deletes them after its answer, and cannot make a stream of the same name meanwhile.
    await until(are_files_gone)
    await bus.ensure(streams.events())
    await publish(bus, received(tenant_id))

    async def is_begun():
        return await position(installation) == 1

    async with metering(installation, bus):
        await until(is_begun)
    assert counts(await used(installation, tenant_id)) == (4, 0, 0, 0)


async def test_what_is_no_event_is_set_aside_and_the_rest_counts(installation, bus):
    tenant_id = await installation.tenant()
    subject = f"events.{RECEIVED}.{tenant_id}"
    async with metering(installation, bus):
        await bus.publish(subject, b"not JSON")
        await bus.publish(subject, json.dumps({"message": {}}).encode(), headers={"ce-type": "x", "ce-tenant": "y"})
        await publish(bus, received(uuid.uuid4()), received(tenant_id))
        await counted(installation, bus)
    assert counts(await used(installation, tenant_id)) == (1, 0, 0, 0)
    dead = (await bus.js.stream_info(streams.DEAD, subjects_filter="dead.EVENTS.usage")).state
    assert dead.subjects == {"dead.EVENTS.usage": 2}


async def all_records(installation):
    """Of every tenant, those of other tests too, which may fill several pages."""
    found, request = [], provisioning_pb.ListTenantRecordsRequest(page_size=200)
    while not found or request.page_token:
        page = await installation.rpc.service("operator").call(installation.provisioning.ListTenantRecords, request)
        found += page.records
        request.page_token = page.next_page_token
    return found


async def test_the_operator_and_super_admins_see_usage(installation, bus):
    tenant_id = await installation.tenant()
    now = datetime.now(UTC)
    async with metering(installation, bus):
        await publish(bus, received(tenant_id, at=now.isoformat()), update(tenant_id, "accepted", at=now.isoformat()))
        await counted(installation, bus)
    [record] = [record for record in await all_records(installation) if record.tenant.id == str(tenant_id)]
    assert (record.usage.month, counts(record.usage)) == (f"{now:%Y-%m}", (1, 1, 0, 0))
    request = usage_pb.GetTenantUsageRequest(tenant_id=str(tenant_id))
    told = await installation.super_admin.call(installation.usage.GetTenantUsage, request)
    assert (told.month, counts(told)) == (record.usage.month, counts(record.usage))
    for month in ("2026-13", "26-01", "2026-1"):
        error = await installation.refusal(used(installation, tenant_id, month))
        assert error.reason == "INVALID_REQUEST"
    request.tenant_id = str(uuid.uuid4())
    error = await installation.refusal(installation.super_admin.call(installation.usage.GetTenantUsage, request))
    assert error.reason == "TENANT_NOT_FOUND"
