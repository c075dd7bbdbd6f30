"""Erasing what a workspace had: everything of it and nothing of others, for good, in small steps."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from aerostic.messaging.v1 import erasure_service_pb2 as pb
from aerostic.messaging.v1 import message_service_pb2 as messages_pb
from grpc import StatusCode
from messaging_factories import insert, make_contact, make_media, make_message, make_parked_event, moment
from messaging_rpc import TEMPLATE, refusal, some_phone
from webhook_bodies import WORKER, Customer, Line, take_in

from kit import erasing, events, outbox
from kit.events import Event
from kit.ids import new_id
from kit.principal import Principal
from svc_messaging import erasures
from svc_messaging.server import erasure

NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def one_call_is_enough(monkeypatch):
    """However slow the machine is."""
    monkeypatch.setattr(erasure, "_SECONDS", 25.0)


async def tables_of_tenants(sql) -> list[str]:
    """By the catalog, so that a table that is added later is looked at too."""
    rows = await sql.fetch(
        "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'"
        " WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace"
    )
    return sorted(row["relname"] for row in rows)


async def left(sql, tenant_id) -> dict[str, int]:
    counts = {
        table: await sql.fetchval(f"SELECT count(*) FROM {table} WHERE tenant_id = $1", tenant_id)
        for table in await tables_of_tenants(sql)
    }
    counts["outbox"] = await sql.fetchval("SELECT count(*) FROM outbox WHERE subject LIKE $1", f"events.%.{tenant_id}")
    return {table: count for table, count in counts.items() if count}


async def fill(service, tenant_id) -> str:
    """A row in every table; gives the number."""
    conversation = await service.conversation(tenant_id)
    for _ in range(5):
        message = await make_message(service.sql, tenant_id, conversation=conversation)
        row = {"tenant_id": tenant_id, "id": None, "message_id": message["id"]}
        await insert(service.sql, "wamids", **row, phone_number_id="1", wamid=message["wamid"])
        await insert(service.sql, "reactions", **row, direction="inbound", emoji="👍", reacted_at=moment())
        await insert(service.sql, "send_requests", **row, request_id=message["wamid"], fingerprint=b"1")
        media = await make_media(service.sql, tenant_id, direction="inbound", state="failed")
        chunk = {"tenant_id": tenant_id, "id": None, "media_id": media["id"], "data": b"0"}
        for number in range(10, 13):
            await insert(service.sql, "media_chunks", **chunk, number=number)
        contact = await make_contact(service.sql, tenant_id)
        identity = {"tenant_id": tenant_id, "id": None, "contact_id": contact["id"], "kind": "user_id"}
        await insert(service.sql, "contact_identities", **identity, value=str(contact["id"]))
    await insert(service.sql, "placements", tenant_id=tenant_id, id=None, isolation="shared", settled_at=NOW)
    async with service.inside(tenant_id) as tx:
        await outbox.add(tx, events.outgoing([Event("messaging.test.happened", tenant_id, "x", {})]))
    return conversation["phone_number_id"]


def former(number, *, until=None, taken=False):
    each = pb.FormerNumber(phone_number_id=number, taken=taken)
    each.until.FromDatetime(until or datetime.now(UTC))
    return each


async def erase(service, tenant_id, *numbers):
    request = pb.EraseTenantDataRequest(tenant_id=str(tenant_id), numbers=numbers)
    return await service.rpc.service("svc-tenants").call(service.erasure.EraseTenantData, request)


async def test_every_table_of_tenants_is_filled_by_these_tests_and_erased_by_the_service(service, sql):
    tenant_id = new_id()
    await fill(service, tenant_id)
    found = await left(sql, tenant_id)
    assert found.keys() == {*await tables_of_tenants(sql), "outbox"}
    assert {table.name for table in erasures.TABLES} == set(await tables_of_tenants(sql))


async def test_nothing_is_left_of_the_workspace_and_everything_of_another(service, sql):
    mine, theirs = new_id(), new_id()
    await fill(service, mine)
    await fill(service, theirs)
    before, others = await left(sql, mine), await left(sql, theirs)
    answer = await erase(service, mine)
    assert answer.done
    assert dict(answer.erased) == before
    assert await left(sql, mine) == {}
    assert await left(sql, theirs) == others


async def test_a_repetition_finds_nothing(service):
    tenant_id = new_id()
    await fill(service, tenant_id)
    await erase(service, tenant_id)
    again = await erase(service, tenant_id)
    assert (again.done, dict(again.erased)) == (True, {})


async def test_small_batches_miss_nothing(service, sql, monkeypatch):
    tenant_id, other = new_id(), new_id()
    await fill(service, tenant_id)
    await fill(service, other)
    others = await left(sql, other)
    small = [erasing.Table(table.name, table.key, rows=2) for table in erasures.TABLES]
    monkeypatch.setattr(erasures, "TABLES", small)
    before = await left(sql, tenant_id)
    assert dict((await erase(service, tenant_id)).erased) == before
    assert await left(sql, tenant_id) == {}
    assert await left(sql, other) == others


async def test_a_call_ends_when_its_time_is_over_and_the_next_goes_on(service, sql, app_db):
    tenant_id = new_id()
    await fill(service, tenant_id)
    principal = Principal.service("svc-tenants").on_behalf_of(tenant_id)
    erased = await erasures.erase(app_db, principal, [], seconds=-1)
    assert (erased.done, erased.counts) == (False, {})
    assert (await erase(service, tenant_id)).done
    assert await left(sql, tenant_id) == {}


# An upload that fails takes its chunks back.
@pytest.mark.parametrize("table", [table.name for table in erasures.TABLES if table.name != "media_chunks"])
async def test_the_server_deletes_rows_of_a_marked_workspace_alone(service, sql, table):
    tenant_id = new_id()
    await fill(service, tenant_id)
    async with service.inside(tenant_id) as tx:
        assert await tx.execute(f"DELETE FROM {table}") == "DELETE 0"
    assert await service.count(table, tenant_id) > 0


@pytest.mark.parametrize("role", ["server", "worker"])
async def test_nobody_adds_to_an_erased_workspace(service, worker_db, role):
    tenant_id = new_id()
    await erase(service, tenant_id)
    db, principal = (service.db, Principal.service("x")) if role == "server" else (worker_db, WORKER)
    statements = {
        "contacts": "INSERT INTO contacts (tenant_id, id) VALUES ($1, $1)",
        "conversations": (
            "INSERT INTO conversations (tenant_id, id, contact_id, whatsapp_account_id, phone_number_id)"
            " VALUES ($1, $1, $1, $1, '1')"
        ),
    }
    for table, statement in statements.items():
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match=f"{table}_not_erased"):
            async with db.begin(principal.on_behalf_of(tenant_id)) as tx:
                await tx.execute(statement, tenant_id)


async def test_an_access_token_that_outlives_the_workspace_starts_nothing_in_it(service, sql):
    tenant_id = new_id()
    number = await fill(service, tenant_id)
    await erase(service, tenant_id, former(number))
    request = messages_pb.StartConversationRequest(to=some_phone(), template=TEMPLATE)
    error = await refusal(service.agent(tenant_id).call(service.messages.StartConversation, request))
    assert (error.code, error.reason) == (StatusCode.FAILED_PRECONDITION, "TENANT_DELETING")
    assert await left(sql, tenant_id) == {}


class TestParkedEvents:
    async def test_those_of_its_numbers_go_with_it(self, service, sql):
        gone = await make_parked_event(sql, phone_number_id="551")
        stays = await make_parked_event(sql, phone_number_id="552")
        answer = await erase(service, new_id(), former("551"))
        assert answer.erased["parked_events"] == 1
        rows = await sql.fetch("SELECT id FROM parked_events WHERE id = ANY($1)", [gone["id"], stays["id"]])
        assert [row["id"] for row in rows] == [stays["id"]]

    async def test_what_came_for_the_next_owner_of_a_number_stays(self, service, sql):
        old = await make_parked_event(sql, phone_number_id="561", received_at=NOW - timedelta(days=2))
        new = await make_parked_event(sql, phone_number_id="561", received_at=NOW)
        await erase(service, new_id(), former("561", until=NOW - timedelta(days=1), taken=True))
        rows = await sql.fetch("SELECT id FROM parked_events WHERE id = ANY($1)", [old["id"], new["id"]])
        assert [row["id"] for row in rows] == [new["id"]]


class TestWhatMetaSendsLater:
    """Its subscription may go on, and the journal may be replayed."""

    async def parked(self, sql, line):
        return await sql.fetch("SELECT * FROM parked_events WHERE phone_number_id = $1", line.number)

    async def test_it_is_not_kept_while_nobody_has_the_number(self, service, sql, worker_db):
        line, customer = Line(), Customer()
        await erase(service, line.owner.tenant_id, former(line.number))
        for _ in range(3):
            assert await take_in(worker_db, line.written(customer), lines=[]) == []
        [note] = await self.parked(sql, line)
        assert (note["reason"], note["state"], note["body"]) == ("erased_number", "settled", "")
        assert customer.wa_id not in str(dict(note))

    async def test_a_replay_does_not_bring_it_to_the_next_owner(self, service, sql, worker_db):
        line, customer = Line(), Customer()
        before = line.written(customer)
        await erase(service, line.owner.tenant_id, former(line.number, until=datetime.now(UTC) + timedelta(hours=1)))
        heir = Line(number=line.number)
        await take_in(worker_db, before, lines=[heir])
        assert await left(sql, heir.owner.tenant_id) == {}

    async def test_the_next_owner_gets_what_is_his(self, service, sql, worker_db):
        line = Line()
        await erase(service, line.owner.tenant_id, former(line.number, until=NOW - timedelta(hours=1)))
        heir = Line(number=line.number)
        await take_in(worker_db, heir.written(Customer()), lines=[heir])
        assert (await left(sql, heir.owner.tenant_id))["messages"] == 1

    async def test_a_memory_of_the_old_owner_brings_nothing_back_and_stops_nobody_else(self, service, sql, worker_db):
        line, other = Line(), Line()
        await erase(service, line.owner.tenant_id)
        bodies = [each.written(Customer()) for each in (line, other)]
        await take_in(worker_db, *bodies, lines=[line, other])
        assert await left(sql, line.owner.tenant_id) == {}
        assert (await left(sql, other.owner.tenant_id))["messages"] == 1
