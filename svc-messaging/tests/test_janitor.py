"""What has served its purpose is forgotten after its days, and nothing else."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from aerostic.messaging.v1 import media_service_pb2 as media_pb
from messaging_factories import insert, make_conversation, make_media, make_message, make_parked_event, moment
from messaging_rpc import refusal, until, until_somebody_waits
from pydantic import ValidationError
from webhook_bodies import WORKER

from kit.ids import first_id_at, new_id, time_of
from svc_messaging import sending
from svc_messaging.errors import MediaNotReady
from svc_messaging.inbox.janitor import RULES, Janitor
from svc_messaging.settings import InboxSettings

DAY = 24 * 3600
DAYS = 30


def old_id(days: float = DAYS + 1) -> uuid.UUID:
    """As if made so many days ago; no two are the same."""
    return uuid.UUID(int=first_id_at(datetime.now(UTC) - timedelta(days=days)).int | (uuid.uuid4().int >> 56))


async def sweep(worker_db, *names):
    janitor = Janitor(worker_db, WORKER, keep_days=dict.fromkeys(names, DAYS))
    for name in names:
        while await janitor.forget(name):
            pass


async def test_request_ids_are_forgotten(worker_db, sql, tenant_id):
    for age in (DAYS + 1, DAYS - 1):
        row = {"request_id": str(age), "message_id": new_id(), "fingerprint": b"", "created_at": moment(-age * DAY)}
        await insert(sql, "send_requests", tenant_id=tenant_id, id=None, **row)
    await sweep(worker_db, "request_ids")
    kept = await sql.fetch("SELECT request_id FROM send_requests WHERE tenant_id = $1", tenant_id)
    assert [row["request_id"] for row in kept] == [str(DAYS - 1)]


async def test_metas_ids_are_forgotten_by_the_age_of_their_messages(worker_db, sql, tenant_id):
    for age in (DAYS + 1, DAYS - 1):
        row = {"phone_number_id": "1", "wamid": str(age), "message_id": old_id(age)}
        await insert(sql, "wamids", tenant_id=tenant_id, id=None, **row)
    await sweep(worker_db, "wamids")
    kept = await sql.fetch("SELECT wamid FROM wamids WHERE tenant_id = $1", tenant_id)
    assert [row["wamid"] for row in kept] == [str(DAYS - 1)]


async def test_settled_events_are_forgotten_and_parked_ones_only_by_their_own_rule(worker_db, sql):
    old = moment(-(DAYS + 1) * DAY)
    events = {
        "settled long ago": await make_parked_event(sql, id=old_id(), state="settled", settled_at=old),
        "settled now": await make_parked_event(sql, id=old_id(), state="settled", settled_at=moment()),
        "parked long ago": await make_parked_event(sql, id=old_id()),
        "parked now": await make_parked_event(sql),
    }

    async def left():
        ids = await sql.fetch("SELECT id FROM parked_events WHERE id = ANY($1)", [row["id"] for row in events.values()])
        return {name for name, row in events.items() if row["id"] in {each["id"] for each in ids}}

    await sweep(worker_db, "settled")
    assert await left() == {"settled now", "parked long ago", "parked now"}
    await sweep(worker_db, "parked")
    assert await left() == {"settled now", "parked now"}


async def test_statuses_stop_waiting_for_messages_that_would_have_been_forgotten(worker_db, sql):
    reason = {"reason": "unknown_message"}
    old = await make_parked_event(sql, id=old_id(), **reason)
    kept = [
        await make_parked_event(sql, **reason),
        await make_parked_event(sql, id=old_id(), state="settled", settled_at=moment(), **reason),
        await make_parked_event(sql, id=old_id(), reason="poison"),
    ]
    await sweep(worker_db, "unknown_messages")
    ids = await sql.fetch("SELECT id FROM parked_events WHERE id = ANY($1)", [row["id"] for row in (old, *kept)])
    assert {row["id"] for row in ids} == {row["id"] for row in kept}


class TestFiles:
    async def test_the_bytes_go_and_the_description_says_so(self, service, worker_db, sql, tenant_id):
        old = await make_media(sql, tenant_id, created_at=moment(-(DAYS + 1) * DAY))
        new = await make_media(sql, tenant_id)
        await sweep(worker_db, "media")
        chunks = await sql.fetch("SELECT media_id FROM media_chunks WHERE tenant_id = $1", tenant_id)
        assert [row["media_id"] for row in chunks] == [new["id"]]
        agent, named = service.agent(tenant_id), {"media_id": str(old["id"])}
        described = await agent.call(service.media.GetMedia, media_pb.GetMediaRequest(**named))
        assert (described.state, described.mime_type) == ("failed", "image/jpeg")
        assert "deleted" in described.failure
        error = await refusal(agent.call(service.media.RetryMedia, media_pb.RetryMediaRequest(**named)))
        assert error.reason == "MEDIA_EXPIRED"

    async def test_a_file_that_waits_to_be_sent_is_left_alone(self, worker_db, sql, tenant_id):
        file = await make_media(sql, tenant_id, created_at=moment(-(DAYS + 1) * DAY))
        message = await make_message(sql, tenant_id, direction="outbound", type="image", media_id=file["id"])
        await sweep(worker_db, "media")
        assert await sql.fetchval("SELECT state FROM media WHERE id = $1", file["id"]) == "ready"
        await sql.execute("UPDATE messages SET status = 'accepted', accepted_at = now() WHERE id = $1", message["id"])
        await sweep(worker_db, "media")
        assert await sql.fetchval("SELECT state FROM media WHERE id = $1", file["id"]) == "failed"

    async def test_a_file_that_is_just_being_sent_keeps_its_bytes(self, worker_db, service, sql, tenant_id):
        file = await make_media(sql, tenant_id, created_at=moment(-(DAYS + 1) * DAY))
        conversation = await make_conversation(sql, tenant_id)
        async with service.inside(tenant_id) as tx:
            await sending._require_image(tx, tenant_id, file["id"])
            await sweep(worker_db, "media")
            content = sending.Content("image", media_id=file["id"])
            await sending._store(tx, conversation, sending.Draft("", content, new_id()), None)
        await sweep(worker_db, "media")
        assert await sql.fetchval("SELECT state FROM media WHERE id = $1", file["id"]) == "ready"
        assert await sql.fetchval("SELECT count(*) FROM media_chunks WHERE media_id = $1", file["id"]) == 1

    async def test_a_file_whose_message_was_stored_just_before_it_was_held_keeps_its_bytes(
        self, worker_db, service, sql, tenant_id
    ):
        file = await make_media(sql, tenant_id, created_at=moment(-(DAYS + 1) * DAY))
        async with worker_db.begin(WORKER) as tx:
            # The janitor found that nobody sends it, and then somebody did.
            await make_message(sql, tenant_id, direction="outbound", type="image", media_id=file["id"])
            assert await tx.execute(RULES["media"].statement, [tenant_id], [file["id"]]) == "UPDATE 0"
        assert await sql.fetchval("SELECT count(*) FROM media_chunks WHERE media_id = $1", file["id"]) == 1

    async def test_who_sends_a_file_whose_bytes_go_at_that_moment_is_told(self, worker_db, service, sql, tenant_id):
        file = await make_media(sql, tenant_id, created_at=moment(-(DAYS + 1) * DAY))

        async def send():
            async with service.inside(tenant_id) as tx:
                await sending._require_image(tx, tenant_id, file["id"])

        async with worker_db.begin(WORKER) as tx:
            rows = await tx.fetch(RULES["media"].hold, moment(-DAYS * DAY), RULES["media"].rows)
            asking = asyncio.create_task(send())
            await until_somebody_waits(sql)
            await tx.execute(RULES["media"].statement, [row["tenant_id"] for row in rows], [row["id"] for row in rows])
        with pytest.raises(MediaNotReady):
            await asking


async def test_one_batch_is_small_and_the_next_follows_soon(database, worker_db, sql, tenant_id):
    await sql.execute(
        "INSERT INTO send_requests (tenant_id, request_id, message_id, fingerprint, created_at)"
        " SELECT $1, n::text, gen_random_uuid(), '', now() - interval '40 days' FROM generate_series(1, 2500) n",
        tenant_id,
    )
    janitor = Janitor(worker_db, WORKER, keep_days={"request_ids": DAYS})
    assert await janitor.forget("request_ids") == 1000
    stop = asyncio.Event()
    running = asyncio.create_task(janitor.run(database.worker_url, stop))

    async def is_empty():
        return not await sql.fetchval("SELECT count(*) FROM send_requests WHERE tenant_id = $1", tenant_id)

    await until(is_empty)
    stop.set()
    await asyncio.wait_for(running, 30)


def test_zero_keeps_for_ever_and_less_than_the_journal_needs_is_refused(monkeypatch):
    janitor = Janitor(None, WORKER, keep_days=dict.fromkeys(RULES, 0))
    assert janitor._keep_days == {}
    monkeypatch.setenv("AEROSTIC_MESSAGING_WAMIDS_KEEP_DAYS", "7")
    with pytest.raises(ValidationError, match="must be 0 or at least 30"):
        InboxSettings()


def test_the_first_id_of_a_moment_stands_between_before_and_after():
    made = new_id()
    at = time_of(made)
    assert first_id_at(at) <= made < first_id_at(at + timedelta(milliseconds=1))
