"""What happens now reaches those who may see it, and nobody else."""

import asyncio
import uuid

import aiohttp
import pytest

from kit import telemetry
from kit.events import Event, outgoing
from kit.testing.rpc import make_user


async def test_an_event_reaches_an_open_stream_with_all_that_a_page_needs(live):
    async with live.reading() as reader:
        event = Event("messaging.message.received", live.tenant_id, "messages/7", {"message": {"text": "a\nb"}})
        [message] = outgoing([event])
        sequence = await live.bus.publish(message.subject, message.data, headers=message.headers)
        told = await reader.event()
    assert told.id == f"{sequence}-0"
    assert told.event == "messaging.message.received"
    assert told.data == {
        "id": str(event.id),
        "type": "messaging.message.received",
        "time": event.time.isoformat().replace("+00:00", "Z"),
        "subject": "messages/7",
        "data": {"message": {"text": "a\nb"}},
    }


async def test_a_stream_says_at_once_that_it_lives_and_when_to_come_again(live):
    async with live.open() as reader:
        greeting = await reader.block()
        assert greeting.comment
        assert greeting.retry == "2000"
        headers = reader.response.headers
    assert headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Accel-Buffering"] == "no"


async def test_events_of_a_batch_come_one_by_one_in_order(live):
    async with live.reading() as reader:
        sequence = await live.publish(1, 2, 3)
        events = [await reader.event() for _ in range(3)]
    assert [told.id for told in events] == [f"{sequence}-{offset}" for offset in range(3)]
    assert [told.number for told in events] == [1, 2, 3]


async def test_events_of_another_workspace_are_never_told(live):
    async with live.reading() as reader:
        await live.publish(1, tenant_id=uuid.uuid4())
        await live.publish(2)
        assert (await reader.event()).number == 2


async def test_a_message_whose_event_names_another_workspace_is_told_to_nobody(live):
    async with live.reading() as reader:
        [message] = outgoing([Event("messaging.message.received", uuid.uuid4(), "messages/1", {"n": 1})])
        subject = f"events.messaging.message.received.{live.tenant_id}"
        await live.bus.publish(subject, message.data, headers=message.headers)
        await live.publish(2)
        assert (await reader.event()).number == 2


async def test_events_that_are_not_for_people_stay_inside(live):
    async with live.reading() as reader:
        await live.publish(1, kind="auth.session.revoked")
        await live.publish(2, kind="messaging.secret.made")
        await live.publish(3, kind="tenants.tenant.suspended")
        assert (await reader.event()).event == "tenants.tenant.suspended"


async def test_a_role_that_may_not_read_messages_is_not_told_of_them(live):
    nobody = make_user(tenant_id=live.tenant_id, role="auditor")
    async with live.reading(token=live.token(nobody)) as reader, live.reading() as agent:
        await live.publish(1)
        assert (await agent.event()).number == 1
        assert not (await reader.block()).event


async def test_a_quiet_stream_shows_that_it_lives_and_moves_its_place_along(live):
    async with live.reading() as reader:
        sequence = await live.publish(1, tenant_id=uuid.uuid4())
        await live.caught_up(sequence)
        beats = [await reader.block()]
        async with asyncio.timeout(60):
            while beats[-1].id != str(sequence):  # those before were sent while it was on its way
                beats.append(await reader.block())
    assert all(beat.comment for beat in beats)


async def test_a_stream_ends_when_its_token_expires_and_says_so(live):
    async with live.reading(token=live.token(seconds=2)) as reader:
        ended = await reader.event()
        assert (ended.event, ended.data["code"]) == ("stream.end", "TOKEN_EXPIRED")
        assert await reader.event() is None


async def test_a_stream_ends_when_its_session_is_ended_and_others_go_on(live):
    other = make_user(tenant_id=live.tenant_id)
    async with live.reading() as reader, live.reading(token=live.token(other)) as untouched:
        event = Event("auth.session.revoked", live.tenant_id, f"sessions/{live.user.session_id}", {})
        [message] = outgoing([event])
        await live.bus.publish(message.subject, message.data, headers=message.headers)
        assert (await reader.event()).data["code"] == "SESSION_REVOKED"
        await live.publish(1)
        assert (await untouched.event()).number == 1


async def test_all_streams_end_at_once_when_the_server_stops(live):
    async with live.reading() as first, live.reading() as second:
        live.stop.set()
        for reader in (first, second):
            assert (await reader.event()).data["code"] == "SERVER_STOPPING"
            assert await reader.event() is None


async def test_a_stopped_hub_takes_nobody(live):
    live.stop.set()
    async with asyncio.timeout(60):
        while True:
            async with live.http.get(live.url, headers={"Authorization": f"Bearer {live.token()}"}) as response:
                if response.status == 503:
                    assert (await response.json())["code"] == "UNAVAILABLE"
                    assert response.headers["Retry-After"]
                    return


async def test_a_cookie_signs_a_stream_in(live):
    async with live.http.get(live.url, headers={"Cookie": f"auth_token={live.token()}"}) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "TOKEN_MISSING"),
        ({"Authorization": "Bearer nonsense"}, 401, "TOKEN_INVALID"),
        ({"Cookie": "auth_token=nonsense"}, 401, "TOKEN_INVALID"),
    ],
)
async def test_strangers_get_no_stream(live, headers, status, code):
    async with live.http.get(live.url, headers=headers) as response:
        assert (response.status, (await response.json())["code"]) == (status, code)


async def test_a_super_admin_has_no_workspace_to_hear_of(live):
    token = live.token(make_user(role="super_admin"))
    async with live.http.get(live.url, headers={"Authorization": f"Bearer {token}"}) as response:
        assert (response.status, (await response.json())["code"]) == (403, "TENANT_REQUIRED")


async def test_a_forged_token_gets_no_stream(live):
    head, claims, _ = live.token().split(".")
    forged = f"{head}.{claims}.{'A' * 86}"
    async with live.http.get(live.url, headers={"Authorization": f"Bearer {forged}"}) as response:
        assert response.status == 401


async def test_head_answers_without_a_stream(live):
    async with live.http.head(live.url, headers={"Authorization": f"Bearer {live.token()}"}) as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/event-stream")


async def test_a_workspace_has_a_limit_of_streams_and_closing_one_makes_room(run_live):
    async with run_live(stream_tenant_connections_max=2) as live:
        headers = {"Authorization": f"Bearer {live.token()}"}
        async with live.reading():
            async with live.reading():
                async with live.http.get(live.url, headers=headers) as response:
                    assert (response.status, (await response.json())["code"]) == (429, "STREAM_LIMIT_REACHED")
                stranger = make_user(tenant_id=uuid.uuid4())
                async with live.reading(token=live.token(stranger)):
                    pass
            async with asyncio.timeout(60):
                while True:
                    async with live.http.get(live.url, headers=headers) as response:
                        if response.status == 200:
                            return


async def test_a_process_has_a_limit_of_streams(run_live):
    async with run_live(stream_connections_max=1) as live, live.reading():
        token = live.token(make_user(tenant_id=uuid.uuid4()))
        async with live.http.get(live.url, headers={"Authorization": f"Bearer {token}"}) as response:
            assert (response.status, (await response.json())["code"]) == (429, "OVERLOADED")


async def test_the_trace_of_an_event_goes_on_to_its_delivery(live, monkeypatch):
    parents = []
    span = telemetry.span

    def noting(name, **given):
        if name == "stream deliver":
            parents.append(given["parent"])
        return span(name, **given)

    monkeypatch.setattr(telemetry, "span", noting)
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with live.reading() as reader:
        await live.publish(1, headers={"traceparent": traceparent})
        await reader.event()
    assert parents == [{"traceparent": traceparent}]


async def test_a_client_that_leaves_makes_room(run_live):
    async with run_live(stream_connections_max=1) as live:
        async with live.reading():
            pass
        async with asyncio.timeout(60):
            while True:
                try:
                    async with live.open():
                        return
                except (AssertionError, aiohttp.ClientError):
                    await asyncio.sleep(0.05)
