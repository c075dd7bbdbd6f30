"""Parked events and dead letters on their way back, by those who may, and what becomes of them."""

import asyncio
import json
import os
import subprocess
import sys
import uuid

import pytest
import pytest_asyncio
from aerostic.messaging.v1 import dead_letter_service_pb2 as letters_pb
from aerostic.messaging.v1 import parked_event_service_pb2 as parked_pb
from messaging_factories import make_parked_event
from webhook_bodies import WORKER, Customer, Line, new_wamid, status, take_in

from kit import streams
from kit.errors import RemoteError
from kit.principal import Principal
from svc_messaging.inbox.second_chance import SecondChance


class Known:
    """svc-tenants as the inbox sees it."""

    def __init__(self, *lines: Line) -> None:
        self.lines = {line.number: line.owner for line in lines}

    async def owners(self, numbers):
        return {number: self.lines[number] for number in numbers if number in self.lines}


def super_admin(service):
    return service.rpc.user(tenant_id=None, role="super_admin")


async def retry(service, event_id):
    request = parked_pb.RetryParkedEventRequest(parked_event_id=str(event_id))
    return await super_admin(service).call(service.parked_events.RetryParkedEvent, request)


async def parked(sql, **found):
    column, value = next(iter(found.items()))
    return await sql.fetchrow(f"SELECT * FROM parked_events WHERE {column} = $1", value)


async def test_a_parked_event_whose_cause_is_gone_is_settled_by_a_retry(service, worker_db, sql):
    line, ana = Line(), Customer()
    await take_in(worker_db, line.written(ana), lines=[])
    event = await parked(sql, phone_number_id=line.number)
    assert (await retry(service, event["id"])).state == "retrying"
    assert (await retry(service, event["id"])).state == "retrying", "asked twice is asked once"
    await SecondChance(worker_db, WORKER, Known(line)).redo()
    assert (await parked(sql, id=event["id"]))["state"] == "settled"
    assert (await retry(service, event["id"])).state == "settled"
    stored = await sql.fetch("SELECT body FROM messages WHERE tenant_id = $1", line.tenant_id)
    assert [row["body"] for row in stored] == ["Is it in stock?"]


async def test_one_whose_cause_remains_is_parked_again_and_says_why(service, worker_db, sql):
    line = Line()
    body = line.body(statuses=[status(new_wamid(), "sent")])
    await take_in(worker_db, body, lines=[line])
    event = await parked(sql, phone_number_id=line.number)
    await retry(service, event["id"])
    assert await SecondChance(worker_db, WORKER, Known(line)).redo() == 1
    again = await parked(sql, id=event["id"])
    assert (again["state"], again["retry_requested_at"], again["reason"]) == ("parked", None, "unknown_message")
    assert await SecondChance(worker_db, WORKER, Known(line)).redo() == 0


async def test_what_the_database_refuses_again_stays_parked_alone(service, worker_db, sql):
    line, ana = Line(), Customer()
    raw = json.dumps(ana.writes("odd", {"n": 1})).replace('"n": 1', '"n": 1e999')
    poison = await make_parked_event(sql, reason="poison", phone_number_id=line.number, body=raw)
    good = await make_parked_event(
        sql, reason="poison", phone_number_id=line.number, body=json.dumps(ana.writes(content={"body": "good"}))
    )
    for event in (poison, good):
        await retry(service, event["id"])
    await SecondChance(worker_db, WORKER, Known(line)).redo()
    again = await parked(sql, id=poison["id"])
    assert (again["state"], again["retry_requested_at"]) == ("parked", None)
    assert "JSON" in again["detail"] or "json" in again["detail"]
    assert (await parked(sql, id=good["id"]))["state"] == "settled"
    stored = await sql.fetch("SELECT body FROM messages WHERE tenant_id = $1", line.tenant_id)
    assert [row["body"] for row in stored] == ["good"]


SHAPES = ["no json", "[]", '{"entry": [{"id": "1"}]}', '{"changes": [{"field": "flows"}]}', "{]", '{"a":' * 30_000]


@pytest.mark.parametrize("body", SHAPES, ids=lambda body: body[:12])
async def test_any_shape_can_be_retried(service, worker_db, sql, body):
    event = await make_parked_event(sql, reason="malformed", body=body, phone_number_id="")
    await retry(service, event["id"])
    await SecondChance(worker_db, WORKER, Known()).redo()
    again = await parked(sql, id=event["id"])
    # It was parked under a key that tests made up, so what is wrong with it is parked under its own.
    assert again["state"] == "settled" or again["retry_requested_at"] is None


async def test_many_are_retried_by_a_condition_and_others_left_alone(service, sql):
    number, other = (str(uuid.uuid4().int)[:15] for _ in range(2))
    for phone_number_id in (number, number, other):
        await make_parked_event(sql, phone_number_id=phone_number_id)
    request = parked_pb.RetryParkedEventsRequest(phone_number_id=number)
    agent = super_admin(service)
    assert (await agent.call(service.parked_events.RetryParkedEvents, request)).retried_count == 2
    assert (await agent.call(service.parked_events.RetryParkedEvents, request)).retried_count == 0
    for state, count in (("retrying", 2), ("parked", 0), ("", 2)):
        listed = parked_pb.ListParkedEventsRequest(state=state, phone_number_id=number)
        assert len((await agent.call(service.parked_events.ListParkedEvents, listed)).parked_events) == count
    listed = parked_pb.ListParkedEventsRequest(state="parked", phone_number_id=other)
    assert len((await agent.call(service.parked_events.ListParkedEvents, listed)).parked_events) == 1


async def test_a_retry_of_everything_is_refused(service):
    with pytest.raises(RemoteError) as refused:
        await super_admin(service).call(service.parked_events.RetryParkedEvents, parked_pb.RetryParkedEventsRequest())
    assert refused.value.reason == "INVALID_REQUEST"


async def test_an_unknown_event_and_letter_do_not_exist(service, dead):
    with pytest.raises(RemoteError) as refused:
        await retry(service, uuid.uuid4())
    assert refused.value.reason == "PARKED_EVENT_NOT_FOUND"
    with pytest.raises(RemoteError) as refused:
        await super_admin(service).call(dead.RetryDeadLetter, letters_pb.RetryDeadLetterRequest(dead_letter_id="99"))
    assert refused.value.reason == "DEAD_LETTER_NOT_FOUND"


async def test_admins_of_a_workspace_may_not_retry(service, sql, dead, tenant_id):
    event = await make_parked_event(sql)
    calls = [
        (service.parked_events.RetryParkedEvent, parked_pb.RetryParkedEventRequest(parked_event_id=str(event["id"]))),
        (service.parked_events.RetryParkedEvents, parked_pb.RetryParkedEventsRequest(reason="poison")),
        (dead.ListDeadLetters, letters_pb.ListDeadLettersRequest()),
        (dead.RetryDeadLetter, letters_pb.RetryDeadLetterRequest(dead_letter_id="1")),
        (dead.RetryDeadLetters, letters_pb.RetryDeadLettersRequest(stream="META")),
    ]
    for method, request in calls:
        with pytest.raises(RemoteError) as refused:
            await service.rpc.user(tenant_id=tenant_id, role="admin").call(method, request)
        assert refused.value.reason == "PERMISSION_DENIED"


async def test_the_application_may_ask_for_a_retry_and_change_nothing_else(app_db, sql):
    event = await make_parked_event(sql)
    outside = Principal.user(user_id=uuid.uuid4(), role="super_admin")
    with pytest.raises(Exception, match="permission denied"):
        async with app_db.begin(outside) as tx:
            await tx.execute("UPDATE parked_events SET state = 'settled' WHERE id = $1", event["id"])


@pytest_asyncio.fixture
async def dead(service, server_bus, nats):
    """The service, with two dead letters of the inbox and one of the sender."""
    await server_bus.ensure(streams.meta(), streams.send(), streams.dead())
    for stream, subject, consumer in (
        ("META", "meta.0", "inbox"),
        ("META", "meta.0", "inbox"),
        ("SEND", "send.live.0", "sender-live"),
    ):
        await server_bus.publish(subject, f"spoilt for {consumer}".encode())
        puller = await server_bus.puller(stream, f"test-{consumer}", subject, limit=10)
        for message in await puller.batch(1, seconds=60):
            await server_bus.bury(message, consumer=consumer, reason="malformed", detail="it is spoilt")
        await puller.close()
    return service.dead_letters


async def letters(service, dead, **fields):
    answer = await super_admin(service).call(dead.ListDeadLetters, letters_pb.ListDeadLettersRequest(**fields))
    return list(answer.dead_letters), answer.next_page_token


async def test_dead_letters_are_listed_with_their_reason_page_by_page(service, dead):
    (first,), token = await letters(service, dead, page_size=1)
    assert (first.stream, first.consumer, first.reason, first.detail) == ("META", "inbox", "malformed", "it is spoilt")
    assert (first.subject, first.head) == ("meta.0", "spoilt for inbox")
    (second,), token = await letters(service, dead, page_size=1, page_token=token)
    (third,), token = await letters(service, dead, page_size=1, page_token=token)
    assert (second.consumer, third.consumer, token) == ("inbox", "sender-live", "")
    assert [each.consumer for each in (await letters(service, dead, stream="SEND"))[0]] == ["sender-live"]


async def test_a_retried_letter_is_in_its_stream_again_and_gone_here(service, dead, server_bus):
    (first, *_), _ = await letters(service, dead)
    before = (await server_bus.js.stream_info("META")).state.messages
    request = letters_pb.RetryDeadLetterRequest(dead_letter_id=first.id)
    await super_admin(service).call(dead.RetryDeadLetter, request)
    assert (await server_bus.js.stream_info("META")).state.messages == before + 1
    assert [each.id for each in (await letters(service, dead))[0]] == ["2", "3"]
    with pytest.raises(RemoteError):
        await super_admin(service).call(dead.RetryDeadLetter, request)


async def test_all_letters_of_a_stream_are_retried_at_once(service, dead):
    request = letters_pb.RetryDeadLettersRequest(stream="META")
    assert (await super_admin(service).call(dead.RetryDeadLetters, request)).retried_count == 2
    assert [each.stream for each in (await letters(service, dead))[0]] == ["SEND"]


async def test_the_command_does_what_rest_does(sql, database, dead, nats):
    number = str(uuid.uuid4().int)[:15]
    event = await make_parked_event(sql, phone_number_id=number)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AEROSTIC_")}
    settings = {"AEROSTIC_MESSAGING_WORKER_DATABASE_URL": database.worker_url, "AEROSTIC_NATS_URL": nats}

    async def redrive(*arguments):
        command = [sys.executable, "-m", "svc_messaging", "redrive", *arguments]
        process = await asyncio.create_subprocess_exec(*command, env=clean | settings, stdout=subprocess.PIPE)
        out, _ = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode, out.decode().strip()

    assert await redrive("parked", "--number", number) == (0, "1 parked events are taken in again.")
    assert (await parked(sql, id=event["id"]))["retry_requested_at"] is not None
    assert await redrive("dead-letters", "--stream", "META") == (0, "2 dead letters are in META again.")
    assert (await redrive("parked"))[0] == 2, "everything at once is nothing to ask for"
