"""Where a tenant's messages may be claimed, and the two steps of a move, in the database."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from messaging_factories import insert, make_contact, make_conversation, make_message
from messaging_rpc import until_somebody_waits

from kit.ids import new_id
from kit.partitions import partition_of
from kit.principal import Principal
from svc_messaging import placements
from svc_messaging.placements import Move
from svc_messaging.send_commands import Command
from svc_messaging.sender import claims, taking_over
from svc_messaging.sender.claims import Wanted
from svc_messaging.sender.lanes import Reading
from svc_messaging.sender.taking_over import Partition

WORKER = Principal.service("messaging-sender")
PARTITIONS = 4
EARLIER, LATER = (datetime(2026, 11, day, tzinfo=UTC) for day in (1, 2))


class Tenant:
    """A tenant with queued messages, as whoever claims meets it."""

    def __init__(self, sql, db, tenant_id, conversation) -> None:
        self.sql, self.db, self.tenant_id, self.conversation = sql, db, tenant_id, conversation
        self.number = conversation["phone_number_id"]

    @classmethod
    async def open(cls, sql, db):
        tenant_id = new_id()
        return cls(sql, db, tenant_id, await make_conversation(sql, tenant_id, phone_number_id=str(new_id().int)[:15]))

    async def queued(self, **columns) -> Command:
        given = {"direction": "outbound", "conversation": self.conversation, **columns}
        row = await make_message(self.sql, self.tenant_id, **given)
        return Command(row["id"], self.tenant_id, self.number, row["contact_id"])

    async def placed(self, isolation, settled_at=None) -> Move:
        await self.sql.execute("DELETE FROM placements WHERE tenant_id = $1", self.tenant_id)
        row = await insert(
            self.sql, "placements", tenant_id=self.tenant_id, id=None, isolation=isolation, settled_at=settled_at
        )
        return Move(self.tenant_id, row["moved_at"])

    async def claim(self, *commands, scope="", settled_at=None):
        async with self.db.begin(WORKER, first=placements.HOLD) as tx:
            wanted = [Wanted(each, scope, settled_at) for each in commands]
            return await claims.claim(tx, wanted, partitions=PARTITIONS)

    async def change(self, step, *args, **named):
        async with self.db.begin(WORKER, first=placements.CHANGE) as tx:
            return await step(tx, *args, **named)

    async def status(self, command) -> str:
        return await self.sql.fetchval("SELECT status FROM messages WHERE id = $1", command.message_id)

    async def commanded(self) -> list[str]:
        """Subjects of the commands that wait in the outbox and name the tenant, in order."""
        rows = await self.sql.fetch("SELECT subject, data FROM outbox WHERE subject LIKE 'send.%' ORDER BY id")
        return [row["subject"] for row in rows if str(self.tenant_id).encode() in row["data"]]

    def subject(self, lane, scope) -> str:
        partition = partition_of(self.number, PARTITIONS)
        return f"send.{lane}.{scope}-{partition}" if scope else f"send.{lane}.{partition}"


@pytest.fixture
async def tenant(sql, worker_db):
    return await Tenant.open(sql, worker_db)


# Where it is placed, since when, who claims, what he has seen.
HERE = [
    ("", None, "shared", None),
    ("shared", EARLIER, "shared", EARLIER),
    ("dedicated", EARLIER, "dedicated", EARLIER),
]
ELSEWHERE = [
    ("", None, "dedicated", None),
    ("shared", EARLIER, "dedicated", EARLIER),
    ("shared", None, "dedicated", None),
    ("dedicated", EARLIER, "shared", None),
    ("dedicated", None, "shared", None),
]
MOVING_HERE = [("dedicated", None, "dedicated", None), ("shared", None, "shared", EARLIER)]
UNSEEN = [
    ("dedicated", EARLIER, "dedicated", None),
    ("shared", LATER, "shared", EARLIER),
    ("", None, "shared", EARLIER),
]


async def arranged(tenant, isolation, settled_at, claimer, seen, **columns):
    if isolation:
        await tenant.placed(isolation, settled_at)
    scope = str(tenant.tenant_id) if claimer == "dedicated" else ""
    command = await tenant.queued(**columns)
    return command, await tenant.claim(command, scope=scope, settled_at=seen)


@pytest.mark.parametrize("case", HERE)
async def test_a_message_is_claimed_where_its_tenant_is_placed(tenant, case):
    command, claimed = await arranged(tenant, *case)
    assert [row["id"] for row in claimed.rows] == [command.message_id]
    assert (await tenant.status(command), claimed.unseen, await tenant.commanded()) == ("sending", set(), [])


@pytest.mark.parametrize("case", ELSEWHERE)
@pytest.mark.parametrize("lane", ["live", "bulk"])
async def test_a_command_that_came_to_the_wrong_place_is_passed_on(tenant, case, lane):
    command, claimed = await arranged(tenant, *case, lane=lane)
    assert (claimed.rows, claimed.unseen, await tenant.status(command)) == ([], set(), "queued")
    place = str(tenant.tenant_id) if case[0] == "dedicated" else ""
    assert await tenant.commanded() == [tenant.subject(lane, place)]


@pytest.mark.parametrize("case", MOVING_HERE)
async def test_nothing_is_claimed_nor_passed_on_before_a_move_settles(tenant, case):
    command, claimed = await arranged(tenant, *case)
    assert (claimed.rows, claimed.unseen, await tenant.status(command)) == ([], set(), "queued")
    assert await tenant.commanded() == []


@pytest.mark.parametrize("case", UNSEEN)
async def test_nothing_is_claimed_by_one_who_has_not_looked_since_the_move_settled(tenant, case):
    command, claimed = await arranged(tenant, *case)
    assert (claimed.rows, claimed.unseen, await tenant.status(command)) == ([], {command.message_id}, "queued")


@pytest.mark.parametrize("case", [*ELSEWHERE, *MOVING_HERE, *UNSEEN])
async def test_what_another_scope_may_have_in_flight_is_not_called_unknown(tenant, case):
    command, claimed = await arranged(tenant, *case, status="sending")
    assert (claimed.rows, await tenant.status(command), await tenant.commanded()) == ([], "sending", [])


@pytest.mark.parametrize("case", HERE)
async def test_what_was_left_behind_in_the_own_scope_is_unknown(tenant, case):
    command, _ = await arranged(tenant, *case, status="sending")
    assert await tenant.status(command) == "unknown"


async def test_one_transaction_serves_scopes_apart(tenant, sql, worker_db):
    other = await Tenant.open(sql, worker_db)
    await other.placed("dedicated", EARLIER)
    mine, theirs, astray = await tenant.queued(), await other.queued(), await other.queued()
    async with worker_db.begin(WORKER, first=placements.HOLD) as tx:
        wanted = [Wanted(astray), Wanted(mine), Wanted(theirs, str(other.tenant_id), EARLIER)]
        claimed = await claims.claim(tx, wanted, partitions=PARTITIONS)
    assert [row["id"] for row in claimed.rows] == [mine.message_id, theirs.message_id]
    assert await other.commanded() == [other.subject("live", str(other.tenant_id))]


async def test_a_move_waits_for_claims_that_have_begun_and_gives_up_in_time(tenant, worker_db, monkeypatch):
    command = await tenant.queued()
    async with worker_db.begin(WORKER, first=placements.HOLD) as tx:
        with pytest.raises(asyncpg.LockNotAvailableError):
            await tenant.change(placements.move, tenant.tenant_id, "dedicated")
        # More patient, as the machine may take its time before the claims end.
        monkeypatch.setattr(placements, "CHANGE", placements.CHANGE.replace("'2s'", "'25s'"))
        moving = asyncio.ensure_future(tenant.change(placements.move, tenant.tenant_id, "dedicated"))
        await until_somebody_waits(tenant.sql)
        assert not moving.done()
        assert len((await claims.claim(tx, [Wanted(command)], partitions=PARTITIONS)).rows) == 1
    assert await moving
    assert (await tenant.claim(await tenant.queued())).rows == []


async def test_a_move_names_the_new_scope_once(tenant):
    assert not await tenant.change(placements.move, tenant.tenant_id, "shared"), "it never left"
    assert await tenant.change(placements.move, tenant.tenant_id, "dedicated")
    for isolation in ("dedicated", "shared"):
        assert not await tenant.change(placements.move, tenant.tenant_id, isolation), "one is under way"
    moved_at = await tenant.sql.fetchval("SELECT moved_at FROM placements WHERE tenant_id = $1", tenant.tenant_id)
    assert await tenant.change(placements.settle, Move(tenant.tenant_id, moved_at), partitions=PARTITIONS)
    assert not await tenant.change(placements.move, tenant.tenant_id, "dedicated"), "it is there"
    assert await tenant.change(placements.move, tenant.tenant_id, "shared")


async def test_an_erased_tenant_moves_nowhere(tenant):
    await tenant.sql.execute("INSERT INTO erased_tenants (id) VALUES ($1)", tenant.tenant_id)
    assert not await tenant.change(placements.move, tenant.tenant_id, "dedicated")
    assert await tenant.sql.fetchrow("SELECT FROM placements WHERE tenant_id = $1", tenant.tenant_id) is None


@pytest.mark.parametrize("isolation", ["dedicated", "shared"])
async def test_settling_commands_one_message_of_each_number_in_the_new_scope_and_happens_once(tenant, isolation):
    for lane in ("bulk", "live"):
        await tenant.queued(lane=lane)
    await tenant.queued(next_attempt_at=LATER)
    move = await tenant.placed(isolation)
    settled = await tenant.change(placements.settle, move, partitions=PARTITIONS)
    assert settled["isolation"] == isolation
    scope = str(tenant.tenant_id) if isolation == "dedicated" else ""
    assert await tenant.commanded() == [tenant.subject("bulk", scope)], "its oldest one"
    assert await tenant.change(placements.settle, move, partitions=PARTITIONS) is None
    assert len(await tenant.commanded()) == 1


async def test_one_who_places_with_an_old_memory_settles_nothing(tenant):
    old = await tenant.placed("dedicated")
    await tenant.placed("shared")
    assert await tenant.change(placements.settle, old, partitions=PARTITIONS) is None
    assert await tenant.change(placements.still_sending, old) == []
    assert not await tenant.change(placements.forget, old)


async def test_a_move_is_not_drained_while_something_is_on_its_way(tenant, worker_db):
    move, command = await tenant.placed("dedicated"), await tenant.queued(status="sending")

    async def look():
        async with worker_db.begin(WORKER) as tx:
            return await placements.look(tx, move)

    assert not (await look())["is_drained"]
    await tenant.sql.execute(
        "UPDATE messages SET status = 'accepted', accepted_at = now() WHERE id = $1", command.message_id
    )
    seen = await look()
    assert (seen["is_drained"], seen["is_overdue"]) == (True, False)
    long_ago = Move(tenant.tenant_id, move.moved_at - timedelta(seconds=90))
    await tenant.sql.execute(
        "UPDATE placements SET moved_at = $2 WHERE tenant_id = $1", tenant.tenant_id, long_ago.moved_at
    )
    async with worker_db.begin(WORKER) as tx:
        assert (await placements.look(tx, long_ago))["is_overdue"]
        assert await placements.look(tx, move) is None


async def test_a_transaction_from_before_the_move_is_seen_until_it_ends(tenant, worker_db):
    async with worker_db.begin(WORKER) as tx:
        older = int(await tx.fetchval("SELECT pg_current_xact_id()::text"))
        move = await tenant.placed("dedicated")
        async with worker_db.begin(WORKER) as other:
            seen = await placements.look(other, move)
        assert seen["oldest_transaction"] <= older < seen["next_transaction"]
    # The server counts transactions of all its databases, also those of tests that run beside this one.
    async with asyncio.timeout(60):
        while (await look(worker_db, move))["oldest_transaction"] <= older:  # noqa: ASYNC110 (the server tells nobody)
            await asyncio.sleep(0.05)


async def look(db, move):
    async with db.begin(WORKER) as tx:
        return await placements.look(tx, move)


# Scope of the partition, placement, and whether what is in `sending` there was left by an owner of that scope.
LEFT = [
    ("shared", "", None, True),
    ("shared", "dedicated", None, True),
    ("shared", "dedicated", EARLIER, False),
    ("shared", "shared", None, False),
    ("dedicated", "dedicated", EARLIER, True),
    ("dedicated", "dedicated", None, False),
    ("dedicated", "shared", None, True),
    ("dedicated", "shared", EARLIER, False),
    ("dedicated", "", None, False),
]


@pytest.mark.parametrize(("scope", "isolation", "settled_at", "is_left"), LEFT)
async def test_an_owner_finds_what_one_before_it_in_its_scope_left(tenant, scope, isolation, settled_at, is_left):
    if isolation:
        await tenant.placed(isolation, settled_at)
    command = await tenant.queued(status="sending")
    partition = Partition(
        partition_of(tenant.number, PARTITIONS), PARTITIONS, str(tenant.tenant_id) if scope == "dedicated" else ""
    )
    async with tenant.db.begin(WORKER, first=placements.HOLD) as tx:
        found = await taking_over.orphans(tx, partition, await taking_over.waiting_numbers(tx, partition))
    assert ((tenant.tenant_id, command.message_id) in found) == is_left


@pytest.mark.parametrize("case", [*HERE, *ELSEWHERE, *MOVING_HERE])
async def test_an_owner_finds_what_waits_where_its_tenant_is_placed(tenant, case):
    isolation, settled_at, claimer, _ = case
    if isolation:
        await tenant.placed(isolation, settled_at)
    second = await make_contact(tenant.sql, tenant.tenant_id)
    other = await make_conversation(
        tenant.sql, tenant.tenant_id, contact_id=second["id"], phone_number_id=tenant.number
    )
    bulk, live = await tenant.queued(lane="bulk"), await tenant.queued()
    later = await tenant.queued(conversation=other, next_attempt_at=datetime.now(UTC) + timedelta(seconds=600))
    scope = str(tenant.tenant_id) if claimer == "dedicated" else ""
    partition = Partition(partition_of(tenant.number, PARTITIONS), PARTITIONS, scope)
    async with tenant.db.begin(WORKER, first=placements.HOLD) as tx:
        numbers = await taking_over.waiting_numbers(tx, partition)
        asked = (numbers[tenant.number], tenant.number, scope)
        waiting = [await taking_over.oldest(tx, *asked, lane, Reading(10, [])) for lane in ("live", "bulk")]
        retries = await taking_over.retries(tx, *asked)
    assert numbers[tenant.number] == {tenant.tenant_id}
    if case in HERE:
        assert waiting == [[live], [bulk]]
        assert [each.command for each in retries] == [later]
        assert 0 < retries[0].due_seconds <= 600
    else:
        assert (waiting, retries) == ([[], []], [])


@pytest.mark.parametrize(("isolation", "scoped"), [("dedicated", True), ("shared", False), ("", False)])
async def test_a_retry_that_is_due_is_commanded_where_its_tenant_is_placed(tenant, isolation, scoped):
    if isolation:
        await tenant.placed(isolation)
    command = await tenant.queued(lane="bulk", next_attempt_at=datetime(2020, 1, 1, tzinfo=UTC))
    async with tenant.db.begin(WORKER) as tx:
        await claims.release_due(tx, partitions=PARTITIONS, most=1000)
    assert await tenant.commanded() == [tenant.subject("bulk", str(tenant.tenant_id) if scoped else "")]
    rows = await tenant.sql.fetch("SELECT data FROM outbox WHERE subject LIKE 'send.%'")
    assert str(command.message_id) in {
        json.loads(row["data"])["messageId"] for row in rows if row["data"].startswith(b"{")
    }
