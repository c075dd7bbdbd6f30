"""The sender at work: every message goes once, in order, at Meta's pace, and has an honest outcome."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from messaging_factories import insert, make_conversation, make_media, make_message
from sender_rig import PARTITIONS, WORKER, failure_of, poll, sending, until_commands_are_gone

from kit import outbox, streams
from svc_messaging import send_commands
from svc_messaging.send_commands import Command
from svc_messaging.sender import claims, numbers
from svc_messaging.sender.claims import Wanted


async def test_a_queued_message_reaches_the_phone_and_has_metas_id(database, db, bus, sql, shop):
    message = await shop.queue(await shop.customer())
    async with sending(database, db, bus, shop):
        row = await shop.until(message, "accepted")
    (sent,) = await shop.meta.sent(shop.number)
    assert sent["text"]["body"] == "We have it."
    assert (row["wamid"], row["failure"], row["next_attempt_at"]) == (sent["wamid"], None, None)
    assert await sql.fetchval("SELECT message_id FROM wamids WHERE wamid = $1", sent["wamid"]) == message["id"]
    await until_commands_are_gone(bus)


async def test_messages_to_one_contact_keep_their_order(database, db, bus, shop):
    conversation = await shop.customer()
    messages = [await shop.queue(conversation, body=str(number)) for number in range(12)]
    async with sending(database, db, bus, shop):
        await shop.until(messages[-1], "accepted")
    assert [each["text"]["body"] for each in await shop.meta.sent(shop.number)] == [str(n) for n in range(12)]


async def test_a_repeated_command_sends_nothing(database, db, bus, shop):
    message = await shop.queue(await shop.customer())
    async with sending(database, db, bus, shop):
        await shop.until(message, "accepted")
        for attempt in (1, 2):
            await shop.command(message, attempt=attempt)
        other = await shop.queue(await shop.customer())
        await shop.until(other, "accepted")
    assert len(await shop.meta.sent(shop.number)) == 2


async def test_commands_that_came_together_are_all_carried_out_and_acknowledged_once(database, db, bus, shop):
    messages = [await make_message(
        shop.sql, shop.tenant_id, conversation=await shop.customer(), direction="outbound", body=str(number)
    ) for number in range(5)]  # fmt: skip
    commands = [Command(each["id"], shop.tenant_id, shop.number, each["contact_id"]) for each in messages]
    async with db.begin(WORKER) as tx:
        await outbox.add(
            tx, list(send_commands.outgoing_together(commands, lane="bulk", partitions=PARTITIONS, scope=""))
        )
    async with sending(database, db, bus, shop):
        for message in messages:
            await shop.until(message, "accepted")
    assert sorted(each["text"]["body"] for each in await shop.meta.sent(shop.number)) == ["0", "1", "2", "3", "4"]
    await until_commands_are_gone(bus)
    assert (await bus.js.stream_info(streams.SEND)).state.last_seq == 1, "they were one message"


async def test_a_refusal_fails_with_metas_reason_and_advice(database, db, bus, shop):
    conversation = await make_conversation(shop.sql, shop.tenant_id, phone_number_id=shop.number)
    await shop.meta.call("POST", "faults", kind="send_error", code=131026)
    message = await shop.queue(conversation)
    async with sending(database, db, bus, shop):
        row = await shop.until(message, "failed")
    failure = failure_of(row)
    assert (failure["reason"], failure["metaCode"]) == ("RECIPIENT_UNREACHABLE", 131026)
    assert failure["advice"]
    assert row["failed_at"] is not None


@pytest.mark.parametrize("code", [130429, 131000])
async def test_a_passing_refusal_is_tried_again_until_it_goes(database, db, bus, shop, code):
    message = await shop.queue(await shop.customer())
    await shop.meta.call("POST", "faults", kind="send_error", code=code, times=2)
    async with sending(database, db, bus, shop):
        row = await shop.until(message, "accepted")
    assert (row["attempts"], row["failure"]) == (3, None)
    assert len(await shop.meta.sent(shop.number)) == 1


async def test_a_lost_answer_is_unknown_and_never_repeated(database, db, bus, shop):
    conversation = await shop.customer()
    await shop.meta.call("POST", "faults", kind="drop_after_accept")
    message = await shop.queue(conversation)
    async with sending(database, db, bus, shop):
        row = await shop.until(message, "unknown")
        await shop.command(message, attempt=1)
        await shop.until(await shop.queue(conversation, body="next"), "accepted")
    assert failure_of(row)["reason"] == "OUTCOME_UNKNOWN"
    assert [each["text"]["body"] for each in await shop.meta.sent(shop.number)] == ["We have it.", "next"]


async def test_what_still_waits_when_the_lease_is_lost_is_left_to_the_next_owner(database, db, bus, shop):
    message = await shop.queue(await shop.customer())
    async with sending(database, db, bus, shop, is_lease_lost=lambda: True):
        told = await shop.until_told(message)
    assert "lease" in failure_of(told)["detail"]
    assert await shop.meta.sent(shop.number) == []
    async with sending(database, db, bus, shop):
        await shop.until(message, "accepted", "sent", "delivered")
    assert len(await shop.meta.sent(shop.number)) == 1


async def test_what_a_dead_sender_claimed_is_unknown_and_the_rest_goes(database, db, bus, shop):
    conversation = await shop.customer()
    claimed, waiting = [await shop.queue(conversation, body=word) for word in ("claimed", "waiting")]
    async with db.begin(WORKER) as tx:
        command = Command(claimed["id"], shop.tenant_id, shop.number, claimed["contact_id"])
        assert len((await claims.claim(tx, [Wanted(command)], partitions=PARTITIONS)).rows) == 1
    async with sending(database, db, bus, shop):
        assert failure_of(await shop.until(claimed, "unknown"))["reason"] == "OUTCOME_UNKNOWN"
        await shop.until(waiting, "accepted")
    assert [each["text"]["body"] for each in await shop.meta.sent(shop.number)] == ["waiting"]


async def test_a_message_whose_command_was_lost_goes_when_a_sender_takes_over(database, db, bus, shop):
    conversation = await shop.customer()
    message = await make_message(shop.sql, shop.tenant_id, conversation=conversation, direction="outbound")
    async with sending(database, db, bus, shop):
        await shop.until(message, "accepted")
    assert len(await shop.meta.sent(shop.number)) == 1


async def test_messages_of_a_campaign_stay_behind_live_ones_when_a_sender_takes_over(database, db, bus, sql, shop):
    campaign = [
        await make_message(sql, shop.tenant_id, conversation=await shop.customer(), direction="outbound", lane="bulk")
        for _ in range(8)
    ]
    answer = await shop.queue(await shop.customer(), body="Right away.")
    # One after the other: what leaves nearly at once may arrive in any order.
    shop.tokens.known[shop.number] = replace(shop.tokens.known[shop.number], messages_per_second=5)
    async with sending(database, db, bus, shop):
        for message in (answer, *campaign):
            await shop.until(message, "accepted")
    assert (await shop.meta.sent(shop.number))[0]["text"]["body"] == "Right away."


async def test_a_message_of_a_campaign_is_tried_again_in_its_lane(database, db, bus, sql, shop):
    await shop.queue(await shop.customer(), lane="bulk", next_attempt_at=datetime.now(UTC))
    async with db.begin(WORKER) as tx:
        assert await claims.release_due(tx, partitions=PARTITIONS, most=10) == 1
    subjects = await sql.fetch("SELECT subject FROM outbox ORDER BY id")
    assert [row["subject"] for row in subjects] == ["send.bulk.0", "send.bulk.0"], "as it was queued, and again"


async def test_everything_of_a_disconnected_number_fails_with_the_reason(database, db, bus, shop):
    conversation = await shop.customer()
    messages = [await shop.queue(conversation) for _ in range(3)]
    shop.tokens.known.clear()
    async with sending(database, db, bus, shop):
        rows = [await shop.until(each, "failed") for each in messages]
    assert {failure_of(row)["reason"] for row in rows} == {"NUMBER_NOT_CONNECTED"}


async def test_messages_wait_while_svc_tenants_is_away(database, db, bus, shop):
    message = await shop.queue(await shop.customer())
    shop.tokens.away = True
    async with sending(database, db, bus, shop):
        await asyncio.sleep(0.5)
        assert (await shop.until(message, "queued"))["attempts"] == 0
        shop.tokens.away = False
        await shop.until(message, "accepted")


async def test_messages_of_a_suspended_workspace_wait(database, db, bus, shop):
    message = await shop.queue(await shop.customer())
    good = shop.tokens.known[shop.number]
    shop.tokens.known[shop.number] = replace(good, tenant_suspended=True)
    async with sending(database, db, bus, shop):
        await asyncio.sleep(0.5)
        assert (await shop.until(message, "queued"))["attempts"] == 0
    assert await shop.meta.sent(shop.number) == []


async def test_a_refused_token_stops_the_number_until_it_is_replaced(database, db, bus, shop):
    conversation = await shop.customer()
    good = shop.tokens.known[shop.number]
    shop.tokens.known[shop.number] = replace(good, access_token="EAAstale-token")
    messages = [await shop.queue(conversation, body=word) for word in ("first", "second")]
    async with sending(database, db, bus, shop):
        assert failure_of(await shop.until_told(messages[0]))["reason"] == "TOKEN_INVALID"
        await asyncio.sleep(1.5)
        assert (await shop.until(messages[1], "queued"))["attempts"] == 0
        assert await shop.meta.sent(shop.number) == []
        shop.tokens.known[shop.number] = replace(good, token_version=good.token_version + 1)
        async with asyncio.timeout(30):  # less than until the refused token would be tried again
            for each in messages:
                await shop.until(each, "accepted")
    assert [each["text"]["body"] for each in await shop.meta.sent(shop.number)] == ["first", "second"]


async def test_an_image_is_uploaded_once_and_sent_as_often_as_asked(database, db, bus, shop):
    conversation = await shop.customer()
    picture = b"\xff\xd8\xff\xe0" + bytes(600_000)
    media = await make_media(shop.sql, shop.tenant_id, data=picture)
    images = [
        await shop.queue(conversation, type="image", body=caption, media_id=media["id"]) for caption in ("one", "two")
    ]
    async with sending(database, db, bus, shop):
        for image in images:
            await shop.until(image, "accepted")
    sent = await shop.meta.sent(shop.number)
    assert [each["image"]["caption"] for each in sent] == ["one", "two"]
    assert sent[0]["image"]["id"] == sent[1]["image"]["id"]
    async with shop.meta.http.get(f"{shop.meta.url}/_emulator/media/{sent[0]['image']['id']}") as answer:
        assert await answer.read() == picture


async def test_a_quote_carries_the_quoted_id(database, db, bus, shop):
    conversation = await shop.customer()
    (first,) = [await shop.queue(conversation)]
    async with sending(database, db, bus, shop):
        wamid = (await shop.until(first, "accepted"))["wamid"]
        await shop.until(await shop.queue(conversation, reply_to_wamid=wamid), "accepted")
    assert (await shop.meta.sent(shop.number))[1]["quoted"] == wamid


async def test_a_customers_file_is_fetched_and_told(database, db, bus, shop):
    conversation = await shop.customer()
    picture = b"\x89PNG\r\n\x1a\n" + bytes(700_000)
    form = aiohttp.FormData()
    form.add_field("messaging_product", "whatsapp")
    form.add_field("file", picture, filename="a.png", content_type="image/png")
    token = shop.tokens.known[shop.number].access_token
    url = f"{shop.meta.url}/v24.0/{shop.number}/media"
    async with shop.meta.http.post(url, data=form, headers={"Authorization": f"Bearer {token}"}) as answer:
        meta_id = (await answer.json())["id"]
    message = await make_message(shop.sql, shop.tenant_id, conversation=conversation, type="image", body="")
    media = await insert(
        shop.sql,
        "media",
        tenant_id=shop.tenant_id,
        direction="inbound",
        state="pending",
        mime_type="image/png",
        message_id=message["id"],
        phone_number_id=shop.number,
        meta_media_id=meta_id,
        next_attempt_at=message["created_at"],
    )
    await shop.sql.execute("UPDATE messages SET media_id = $2 WHERE id = $1", message["id"], media["id"])
    async with sending(database, db, bus, shop):
        row = await poll(shop.sql, "SELECT * FROM media WHERE id = $1 AND state = 'ready'", media["id"])
    chunks = await shop.sql.fetch("SELECT data FROM media_chunks WHERE media_id = $1 ORDER BY number", media["id"])
    assert b"".join(chunk["data"] for chunk in chunks) == picture
    assert row["size_bytes"] == len(picture)


async def test_the_bulk_lane_does_not_hold_up_an_answer(database, db, bus, shop):
    good = shop.tokens.known[shop.number]
    # So slow that offers wait on any machine.
    shop.tokens.known[shop.number] = replace(good, messages_per_second=1)
    answered, others = await shop.customer(), [await shop.customer() for _ in range(25)]
    bulk = [await shop.queue(conversation, lane="bulk", body="offer") for conversation in others]
    async with sending(database, db, bus, shop):
        await shop.until(bulk[0], "accepted")
        await shop.until(await shop.queue(answered, body="answer"), "accepted")
        waiting = await shop.sql.fetchval("SELECT count(*) FROM messages WHERE status = 'queued'")
        assert waiting > 0, "the answer went before offers that waited longer"
        shop.tokens.known[shop.number] = good
        for each in bulk:
            await shop.until(each, "accepted")
    assert len(await shop.meta.sent(shop.number)) == 26


async def test_a_message_whose_turn_comes_too_late_is_claimed_anew(database, db, bus, shop, monkeypatch):
    """Somebody may have called it unknown by then."""
    message = await shop.queue(await shop.customer())
    monkeypatch.setattr(numbers, "_CLAIM_SECONDS", -1.0)
    async with sending(database, db, bus, shop):
        await poll(shop.sql, "SELECT 1 FROM messages WHERE id = $1 AND attempts > 1", message["id"])
        assert await shop.meta.sent(shop.number) == []
        monkeypatch.setattr(numbers, "_CLAIM_SECONDS", 45.0)
        assert (await shop.until(message, "accepted"))["failure"] is None
    assert len(await shop.meta.sent(shop.number)) == 1


async def test_a_new_owner_lets_nothing_go_before_an_older_message_that_waits_for_its_next_try(database, db, bus, shop):
    conversation, given = await shop.customer(), {"direction": "outbound"}
    due = datetime.now(UTC) + timedelta(seconds=4)
    await make_message(shop.sql, shop.tenant_id, conversation=conversation, body="first", next_attempt_at=due, **given)
    second = await make_message(shop.sql, shop.tenant_id, conversation=conversation, body="second", **given)
    async with sending(database, db, bus, shop):
        await shop.until(second, "accepted")
    assert [each["text"]["body"] for each in await shop.meta.sent(shop.number)] == ["first", "second"]
