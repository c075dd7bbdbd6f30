"""What cannot go now waits in the table: it holds up nobody else, and goes once and in order when it may."""

import asyncio
import time
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from messaging_factories import make_message
from sender_rig import PARTITIONS, WORKER, Shop, poll, sending, until_commands_are_gone

from kit import outbox
from kit.ids import new_id
from kit.streams import SEND
from svc_messaging import send_commands
from svc_messaging.send_commands import Command

MANY = 5000
CONTACTS = 50
FILL = """
    INSERT INTO messages (tenant_id, id, conversation_id, contact_id, whatsapp_account_id, phone_number_id, direction,
                          type, body, status, lane)
    SELECT c.tenant_id, given.id, c.id, c.contact_id, c.whatsapp_account_id, c.phone_number_id, 'outbound',
           'text', given.body, 'queued', $4
    FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS given (id, conversation_id, body)
    JOIN conversations c ON c.id = given.conversation_id
"""


async def fast_shop(shop: Shop, tenant_id=None) -> Shop:
    """One with a number of its own that may send 1,000 a second, as many as it likes to one customer."""
    made = await shop.meta.call("POST", "numbers", throughput=1000)
    number = made["phoneNumberId"]
    await shop.meta.call("PATCH", f"numbers/{number}", behaviour={"pairLimit": False})
    tenant_id = tenant_id or new_id()
    shop.tokens.known[number] = replace(
        shop.tokens.known[shop.number],
        phone_number_id=number,
        tenant_id=tenant_id,
        access_token=made["accessToken"],
        messages_per_second=1000,
    )
    return replace(shop, tenant_id=tenant_id, number=number)


async def queue_many(shop: Shop, count: int, lane: str = "bulk", *, one_by_one: bool = False) -> None:
    """Queue messages to many customers in turn, each with a number in its row; commanded together or one by one."""
    conversations = [await shop.customer() for _ in range(CONTACTS)]
    turns = [(new_id(), conversations[n % CONTACTS], str(n)) for n in range(count)]
    ids, of, bodies = zip(*((id_, each["id"], body) for id_, each, body in turns), strict=True)
    await shop.sql.execute(FILL, list(ids), list(of), list(bodies), lane)
    commands = [Command(id_, shop.tenant_id, shop.number, each["contact_id"]) for id_, each, _ in turns]
    given = {"lane": lane, "partitions": PARTITIONS, "scope": ""}
    if one_by_one:
        outgoing = [send_commands.outgoing(each, **given) for each in commands]
    else:
        outgoing = list(send_commands.outgoing_together(commands, **given))
    async with shop.db.begin(WORKER) as tx:
        await outbox.add(tx, outgoing)


def set_suspended(shop: Shop, *, to: bool) -> None:
    shop.tokens.known[shop.number] = replace(shop.tokens.known[shop.number], tenant_suspended=to)


async def until_accepted(shop: Shop, count: int) -> None:
    """However long it takes, as long as there are more and more."""
    query = "SELECT count(*) FROM messages WHERE tenant_id = $1 AND accepted_at IS NOT NULL HAVING count(*) > $2"
    accepted = 0
    while accepted < count:
        accepted = (await poll(shop.sql, query, shop.tenant_id, accepted))["count"]
        await asyncio.sleep(0.02)


async def assert_all_went_once_and_in_order(shop: Shop, count: int) -> None:
    sent = await shop.meta.sent(shop.number)
    assert sorted(int(each["text"]["body"]) for each in sent) == list(range(count))
    by_contact = defaultdict(list)
    for each in sent:
        by_contact[each["to"]].append(int(each["text"]["body"]))
    assert len(by_contact) == CONTACTS
    for numbers in by_contact.values():
        assert numbers == sorted(numbers)
    assert await shop.sql.fetchval("SELECT max(attempts) FROM messages WHERE tenant_id = $1", shop.tenant_id) == 1


@pytest.mark.parametrize("lane", ["bulk", "live"])
async def test_a_suspended_tenants_commands_hold_up_nobody_else_of_the_partition(database, db, bus, shop, lane):
    held = await fast_shop(shop)
    set_suspended(held, to=True)
    await queue_many(held, MANY, lane, one_by_one=True)
    async with sending(database, db, bus, shop):
        # The answer's command is behind all of theirs.
        answer = await shop.queue(await shop.customer(), lane)
        await shop.until(answer, "accepted")
        await until_commands_are_gone(bus)
    assert await shop.meta.sent(held.number) == []
    waiting = "SELECT count(*) FROM messages WHERE tenant_id = $1 AND status = 'queued' AND attempts = 0"
    assert await shop.sql.fetchval(waiting, held.tenant_id) == MANY


async def test_what_was_held_goes_once_and_in_order_after_all_also_over_a_restart(database, db, bus, shop):
    held = await fast_shop(shop)
    set_suspended(held, to=True)
    await queue_many(held, MANY - 1)
    async with sending(database, db, bus, shop):
        await until_commands_are_gone(bus)
        set_suspended(held, to=False)
        await until_accepted(held, MANY // 3)
    assert len(await shop.meta.sent(held.number)) < MANY - 1, "the sender ended in the middle"
    async with sending(database, db, bus, shop):
        await until_accepted(held, MANY - 1)
    await assert_all_went_once_and_in_order(held, MANY - 1)


async def test_a_queue_longer_than_memory_goes_once_and_in_order_while_more_arrives(database, db, bus, shop):
    fast = await fast_shop(shop)
    async with sending(database, db, bus, shop):
        await queue_many(fast, MANY // 2)
        await until_accepted(fast, 100)
        conversation = await shop.sql.fetchrow("SELECT * FROM conversations WHERE tenant_id = $1", fast.tenant_id)
        later = [await fast.queue(conversation, "bulk", body=str(MANY // 2 + n)) for n in range(50)]
        await until_accepted(fast, MANY // 2 + len(later))
    await assert_all_went_once_and_in_order(fast, MANY // 2 + len(later))


async def test_an_answer_goes_at_once_though_the_bulk_lane_is_full(database, db, bus, shop):
    """The number is slow, so that the bulk lane stays full."""
    slow = await fast_shop(shop)
    shop.tokens.known[slow.number] = replace(shop.tokens.known[slow.number], messages_per_second=10)
    await queue_many(slow, MANY)
    async with sending(database, db, bus, shop):
        await until_commands_are_gone(bus)
        await slow.until(await slow.queue(await slow.customer(), body="answer"), "accepted")
    assert len(await shop.meta.sent(slow.number)) < MANY // 2


async def test_one_customer_with_many_messages_holds_up_no_other_of_the_lane(database, db, bus, shop):
    """Meta takes one message in six seconds to him."""
    fast = await fast_shop(shop)
    await shop.meta.call("PATCH", f"numbers/{fast.number}", behaviour={"pairLimit": True})
    one = await fast.customer()
    ids = [new_id() for _ in range(MANY // 2)]
    await shop.sql.execute(FILL, ids, [one["id"]] * len(ids), [str(n) for n in range(len(ids))], "live")
    async with sending(database, db, bus, shop):
        for _ in range(3):
            other = await fast.queue(await fast.customer(), body="other")
            await fast.until(other, "accepted")
    said = [each["text"]["body"] for each in await shop.meta.sent(fast.number)]
    assert said.count("other") == 3
    his = [int(each) for each in said if each != "other"]
    assert his == list(range(len(his)))
    assert len(his) < MANY // 2


async def test_a_message_that_is_tried_again_goes_before_younger_ones_though_the_lane_is_full(database, db, bus, shop):
    fast = await fast_shop(shop)
    conversation = await fast.customer()
    await shop.meta.call("POST", "faults", kind="send_error", code=131000)
    async with sending(database, db, bus, shop):
        first = await fast.queue(conversation, "bulk", body="first")
        await fast.until_told(first)
        shop.tokens.known[fast.number] = replace(shop.tokens.known[fast.number], messages_per_second=10)
        await queue_many(fast, MANY // 2)
        younger = await fast.queue(conversation, body="second")
        await fast.until(younger, "accepted")
    said = [each["text"]["body"] for each in await shop.meta.sent(fast.number)]
    assert said.index("first") < said.index("second")


async def test_a_retry_that_waits_is_found_by_the_next_owner_whose_lane_is_full(database, db, bus, shop):
    fast = await fast_shop(shop)
    conversation, due = await fast.customer(), datetime.now(UTC) + timedelta(seconds=3)
    given = {"direction": "outbound", "lane": "bulk", "conversation": conversation}
    await queue_many(fast, 1500)
    first = await make_message(shop.sql, fast.tenant_id, body="first", next_attempt_at=due, **given)
    second = await make_message(shop.sql, fast.tenant_id, body="second", **given)
    async with sending(database, db, bus, shop):
        await fast.until(second, "accepted")
        await fast.until(first, "accepted")
    said = [each["text"]["body"] for each in await shop.meta.sent(fast.number)]
    assert said.index("first") < said.index("second")


async def test_no_command_is_acknowledged_before_the_lease_is_known_to_be_held_after_it_came(database, db, bus, shop):
    """Another owner may have read the table already, and would not find what came later."""
    held_at = 0.0
    message = await shop.queue(await shop.customer())
    async with sending(database, db, bus, shop, lease_held_at=lambda: held_at):
        await shop.until(message, "accepted")
        await asyncio.sleep(0.6)
        assert (await bus.js.stream_info(SEND)).state.messages == 1
        held_at = time.monotonic()
        await until_commands_are_gone(bus)
