"""A tenant moves between the shared partitions and its own while messages are on their way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from messaging_factories import make_message
from movers import mover
from sender_rig import PARTITIONS, SECONDS, WORKER, failure_of, poll, sending

from kit.db import as_app_error
from kit.streams import ROUTES, ROUTES_META, SEND
from svc_messaging import placements
from svc_messaging.send_commands import Command
from svc_messaging.sender import claims
from svc_messaging.sender.claims import Wanted


@asynccontextmanager
async def both(database, db, bus, shop) -> AsyncIterator[None]:
    """Owners of the shared partition and of the tenant's own."""
    async with sending(database, db, bus, shop), sending(database, db, bus, shop, scope=str(shop.tenant_id)):
        yield


async def said(shop) -> list[str]:
    return [each["text"]["body"] for each in await shop.meta.sent(shop.number)]


def numbered(count: int) -> list[str]:
    return [str(number) for number in range(count)]


async def test_messages_go_once_and_in_order_while_the_tenant_moves_there_and_back(database, db, bus, sql, shop):
    move, conversation = mover(db, bus, shop), await shop.customer()
    # Else the last of them would wait for Meta's limit per customer.
    await shop.meta.call("PATCH", f"numbers/{shop.number}", behaviour={"pairLimit": False})
    messages = []

    async def write() -> None:
        for number in range(60):
            placed = await move.row()
            scope = placements.scope_of(shop.tenant_id, placed and placed["isolation"])
            messages.append(await shop.queue(conversation, body=str(number), scope=scope))
            await asyncio.sleep(0.1)

    async with both(database, db, bus, shop):
        writing = asyncio.create_task(write())
        for isolation in ("dedicated", "shared", "dedicated"):
            await move.moved(isolation)
            await asyncio.sleep(0.5)
        await writing
        for message in messages:
            await shop.until(message, "accepted")
    assert await said(shop) == numbered(60)


async def test_what_waits_is_sent_in_the_new_scope_though_every_command_was_lost(database, db, bus, shop):
    move, conversation = mover(db, bus, shop), await shop.customer()
    given = {"direction": "outbound", "conversation": conversation}
    messages = [await make_message(shop.sql, shop.tenant_id, body=text, **given) for text in numbered(5)]
    await move.moved("dedicated")
    async with sending(database, db, bus, shop, scope=str(shop.tenant_id)):
        await shop.until(messages[-1], "accepted")
    assert await said(shop) == numbered(5)


async def test_a_younger_message_that_comes_straight_to_the_new_scope_does_not_overtake(database, db, bus, shop):
    """The old owner is dead, so what it held comes to the new one only by the table."""
    move, conversation = mover(db, bus, shop), await shop.customer()
    older = [await shop.queue(conversation, body=text) for text in numbered(4)]
    async with sending(database, db, bus, shop, scope=str(shop.tenant_id)):
        await move.move("dedicated")
        youngest = await shop.queue(conversation, body="4", scope=str(shop.tenant_id))
        await asyncio.sleep(0.5)
        assert await said(shop) == [], "nothing goes before the move has settled"
        await move.settled()
        await shop.until(youngest, "accepted")
        for each in older:
            await shop.until(each, "accepted")
    assert await said(shop) == numbered(5)


async def test_a_move_waits_for_what_is_in_flight_and_its_outcome_counts(database, db, bus, shop):
    move, conversation = mover(db, bus, shop), await shop.customer()
    await shop.meta.call("POST", "faults", kind="delay", seconds=3.0)
    slow = await shop.queue(conversation, body="slow")
    async with both(database, db, bus, shop):
        await shop.until(slow, "sending")
        await move.move("dedicated")
        assert (await move.row())["settled_at"] is None
        after = await shop.queue(conversation, body="after", scope=str(shop.tenant_id))
        await move.settled()
        assert (await shop.until(slow, "accepted"))["failure"] is None
        await shop.until(after, "accepted")
    assert await said(shop) == ["slow", "after"]


async def test_what_a_dead_owner_left_is_called_unknown_by_the_next_one_of_the_old_scope(database, db, bus, shop):
    move, conversation = mover(db, bus, shop), await shop.customer()
    claimed, waiting = [await shop.queue(conversation, body=text) for text in ("claimed", "waiting")]
    await _claim(db, shop, claimed)
    await move.move("dedicated")
    async with both(database, db, bus, shop):
        assert failure_of(await shop.until(claimed, "unknown"))["reason"] == "OUTCOME_UNKNOWN"
        await move.settled()
        await shop.until(waiting, "accepted")
    assert await said(shop) == ["waiting"]


async def test_without_an_owner_of_the_old_scope_a_move_gives_up_after_a_minute(database, db, bus, sql, shop):
    move, conversation = mover(db, bus, shop), await shop.customer()
    claimed, waiting = [await shop.queue(conversation, body=text) for text in ("claimed", "waiting")]
    await _claim(db, shop, claimed)
    await move.move("dedicated")
    async with sending(database, db, bus, shop, scope=str(shop.tenant_id)):
        for _ in range(3):
            assert await move.placing.step()
            await asyncio.sleep(0.6)
        await sql.execute("UPDATE placements SET moved_at = moved_at - interval '61 seconds'")
        await move.settled()
        assert failure_of(await shop.until(claimed, "unknown"))["reason"] == "OUTCOME_UNKNOWN"
        await shop.until(waiting, "accepted")
    assert await said(shop) == ["waiting"]


async def test_a_restart_of_placing_in_the_middle_of_a_move_changes_nothing(database, db, bus, shop):
    first, second, message = mover(db, bus, shop), mover(db, bus, shop), await shop.queue(await shop.customer())
    async with both(database, db, bus, shop):
        await first.move("dedicated")
        second.want("dedicated")
        # Two at once, as while a lease is lost: each settles, one does.
        await asyncio.gather(first.settled(), second.settled())
        await shop.until(message, "accepted")
    assert await said(shop) == ["We have it."]


async def test_nobody_moves_while_svc_tenants_is_away_and_a_move_that_has_begun_is_ended(database, db, bus, shop):
    move = mover(db, bus, shop)
    move.tenants.away = True
    await move.moved("dedicated")
    assert await move.row() is None
    move.tenants.away = False
    await move.move("dedicated")
    move.tenants.away = True
    await move.settled()
    assert (await move.row())["settled_at"] is not None
    await move.moved("shared")
    assert (await move.row())["isolation"] == "dedicated", "it has not said so"


async def test_the_ingest_is_told_whose_a_number_is(database, db, bus, shop):
    move = mover(db, bus, shop)

    async def told() -> bytes:
        return (await bus.js.get_last_msg(ROUTES, ROUTES_META)).data

    await move.moved("dedicated")
    assert str(shop.tenant_id).encode() in await told()
    await move.moved("shared")
    assert str(shop.tenant_id).encode() not in await told()


async def test_the_numbers_limit_holds_over_moves(database, db, bus, sql, shop):
    """Meta refuses what comes too fast; nothing ever does."""
    made = await shop.meta.call("POST", "numbers", throughput=20)
    good = shop.tokens.known[shop.number]
    shop.number = made["phoneNumberId"]
    shop.tokens.known[shop.number] = replace(good, access_token=made["accessToken"], messages_per_second=20)
    move, conversations = mover(db, bus, shop), [await shop.customer() for _ in range(30)]
    messages = [await shop.queue(each, lane="bulk") for each in conversations * 4]
    async with both(database, db, bus, shop):
        await shop.until(messages[20], "accepted")
        await move.moved("dedicated")
        await shop.until(messages[60], "accepted")
        await move.moved("shared")
        for message in messages:
            await shop.until(message, "accepted")
    assert len(await said(shop)) == 120
    assert await sql.fetchval("SELECT max(attempts) FROM messages WHERE direction = 'outbound'") == 1, "no refusal"


async def test_a_restart_of_the_database_in_the_middle_of_a_move_changes_nothing(database, db, bus, shop):
    move, conversation = mover(db, bus, shop), await shop.customer()
    messages = [await shop.queue(conversation, body=text) for text in numbered(6)]
    async with both(database, db, bus, shop):
        await _taken_over(bus, f"sender-bulk-{shop.tenant_id}-0", "sender-bulk-0")
        await move.move("dedicated")
        await shop.sql.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND usename = 'messaging_worker' AND application_name IN ('test sender', 'lease outbox', 'outbox relay')"
        )
        while (await move.row())["settled_at"] is None:
            try:
                await move.settled()
            except Exception as error:
                if as_app_error(error) is None:
                    raise
        await shop.until(messages[-1], "accepted")
    assert await said(shop) == numbered(6)


async def _taken_over(bus, *consumers: str) -> None:
    """Until the owners have begun to read: before that an outage ends them, and the lease starts them anew."""
    async with asyncio.timeout(SECONDS):
        while not set(consumers) <= {each.name for each in await bus.js.consumers_info(SEND)}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def _claim(db, shop, message) -> None:
    """As a sender does that dies before it has recorded anything."""
    command = Command(message["id"], shop.tenant_id, shop.number, message["contact_id"])
    async with db.begin(WORKER, first=placements.HOLD) as tx:
        assert (await claims.claim(tx, [Wanted(command)], partitions=PARTITIONS)).rows


async def test_a_tenants_own_owner_sends_nothing_of_others(database, db, bus, shop):
    message = await shop.queue(await shop.customer())
    async with sending(database, db, bus, shop, scope=str(shop.tenant_id)):
        await asyncio.sleep(1)
        assert (await poll(shop.sql, "SELECT status FROM messages WHERE id = $1", message["id"]))["status"] == "queued"
    assert await said(shop) == []
