"""What surrounds every request: problems, headers, ids, and a server that outlives rude peers."""

import asyncio

import pytest
import structlog
from aerostic.auth.v1.auth_service_pb2 import Me
from gateway_rig import until

from gateway import http_server
from kit.errors import AppError, InvalidRequest, Violation

STATUS = InvalidRequest.code.__class__
ID = "9cc7ee4b-6a0c-4c3f-a0c7-bd2a3c2d0a01"


def failing(code: str, reason: str, **options) -> AppError:
    kind = type(reason.title().replace("_", ""), (AppError,), {"code": STATUS[code], "reason": reason})
    return kind("In plain words.", **options)


async def test_a_problem_says_all_that_a_caller_needs(api):
    violation = Violation("state", "string.in", "must be open or closed")
    api.recorder.answers["GetConversation"] = failing(
        "FAILED_PRECONDITION", "WINDOW_CLOSED", violations=[violation], window_expire_time="2026-01-01T00:00:00Z"
    )
    answer = await api.get(f"/v1/conversations/{ID}", headers={"X-Request-Id": "request-77"})
    assert answer.status == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json == {
        "type": "/docs#WINDOW_CLOSED",
        "title": "Window closed",
        "status": 400,
        "detail": "In plain words.",
        "code": "WINDOW_CLOSED",
        "errors": [{"field": "state", "rule": "string.in", "message": "must be open or closed"}],
        "requestId": "request-77",
        "metadata": {"windowExpireTime": "2026-01-01T00:00:00Z"},
    }


@pytest.mark.parametrize(
    ("code", "reason", "status"),
    [
        ("INVALID_ARGUMENT", "MEDIA_TYPE_UNSUPPORTED", 400),
        ("UNAUTHENTICATED", "CREDENTIALS_WRONG", 401),
        ("PERMISSION_DENIED", "TENANT_SUSPENDED", 403),
        ("NOT_FOUND", "CONVERSATION_NOT_FOUND", 404),
        ("ALREADY_EXISTS", "REQUEST_ID_REUSED", 409),
        ("RESOURCE_EXHAUSTED", "SEND_QUEUE_FULL", 429),
        ("UNAVAILABLE", "REGISTRATION_PENDING", 503),
    ],
)
async def test_reasons_keep_their_names_and_get_a_status(api, code, reason, status):
    api.recorder.answers["CloseConversation"] = failing(code, reason)
    answer = await api.post(f"/v1/conversations/{ID}:close", {})
    assert (answer.status, answer.code) == (status, reason)


async def test_when_to_come_back_is_told_to_people_and_programs(api):
    api.recorder.answers["Login"] = failing("RESOURCE_EXHAUSTED", "LOGIN_THROTTLED", retry_after=12.2)
    answer = await api.post("/v1/auth/login", {"email": "a@b.example", "password": "x"}, token="")
    assert (answer.headers["Retry-After"], answer.json["retryAfter"]) == ("13", 12.2)


async def test_a_defect_of_a_service_tells_nothing_about_itself(api):
    async def fail(_request):
        raise ValueError("password=hunter2 in /srv/secret.py")

    api.recorder.answers["GetConversation"] = fail
    answer = await api.get(f"/v1/conversations/{ID}")
    assert (answer.status, answer.code) == (500, "INTERNAL")
    assert b"hunter2" not in answer.body
    assert "secret.py" not in str(answer.headers)


async def test_a_service_that_is_away_is_an_outage_and_not_a_defect(start):
    async with start(targets={"messaging": "127.0.0.1:1"}) as api:
        answer = await api.get(f"/v1/conversations/{ID}")
        assert (answer.status, answer.code, answer.headers["Retry-After"]) == (503, "UNAVAILABLE", "1")
        assert b"127.0.0.1" not in answer.body
        assert (await api.get("/.well-known/jwks.json", token="")).status == 200


async def test_a_service_that_does_not_answer_is_given_up(start):
    async with start(request_seconds=0.3) as api:

        async def sleep(_request):
            await asyncio.sleep(20)

        api.recorder.answers["GetConversation"] = sleep
        answer = await api.get(f"/v1/conversations/{ID}")
        assert (answer.status, answer.code) == (504, "DEADLINE_EXCEEDED")


async def test_a_path_that_does_not_exist_is_a_problem_too(api):
    answer = await api.get("/v1/nothing/here")
    assert (answer.status, answer.code) == (404, "ROUTE_NOT_FOUND")


@pytest.mark.parametrize("path", ["/healthz", "/v1/me", "/nowhere", "/webhooks/meta"])
async def test_every_answer_is_safe_for_browsers(api, path):
    headers = (await api.get(path)).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert "Strict-Transport-Security" not in headers
    assert "Server" not in headers


async def test_in_production_browsers_stay_with_https(start):
    async with start(AEROSTIC_ENVIRONMENT="production") as api:
        headers = (await api.get("/healthz")).headers
        assert headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"


async def test_the_callers_request_id_goes_all_the_way(api):
    answer = await api.get("/v1/me", headers={"X-Request-Id": "my-request-1"})
    assert answer.headers["X-Request-Id"] == "my-request-1"
    assert api.recorder.call.metadata["x-request-id"] == "my-request-1"


@pytest.mark.parametrize("given", ["", "short", "x" * 65, "spaces in it", "a;b=c-12345"])
async def test_a_request_id_that_could_spoil_a_log_is_replaced(api, given):
    answer = await api.get("/v1/me", headers={"X-Request-Id": given} if given else {})
    assert answer.headers["X-Request-Id"] != given
    assert len(answer.headers["X-Request-Id"]) == 32
    assert api.recorder.call.metadata["x-request-id"] == answer.headers["X-Request-Id"]


async def test_each_request_has_a_line_and_probes_have_none(api):
    with structlog.testing.capture_logs() as lines:
        await api.get("/nowhere/secret-word")
        await api.get("/healthz")
        await until(lambda: [line for line in lines if line["event"] == "http_completed"])
    [line] = [line for line in lines if line["event"] == "http_completed"]
    assert (line["route"], line["status"], line["code"]) == ("unmatched", 404, "ROUTE_NOT_FOUND")
    assert line["client_ip"] == "127.0.0.1"
    assert "secret-word" not in str(lines)


async def test_a_large_head_is_refused(api):
    async with api.connection() as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Large: " + b"x" * 100_000 + b"\r\n\r\n")
        status = await asyncio.wait_for(reader.readline(), 20)
    assert status.split()[1] == b"400"
    assert (await api.get("/healthz")).status == 200


async def test_a_head_that_drips_is_given_up(api, monkeypatch):
    monkeypatch.setattr(http_server, "HEAD_SECONDS_MAX", 0.3)
    async with api.connection() as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        assert await asyncio.wait_for(reader.read(), 20) == b""


async def test_the_second_request_of_a_connection_has_its_own_time(api, monkeypatch):
    monkeypatch.setattr(http_server, "HEAD_SECONDS_MAX", 0.3)
    async with api.connection() as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"ok\n"), 20)
        await asyncio.sleep(0.5)  # idle connections stay open: the time of a head begins with it
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"ok\n"), 20)


@pytest.mark.parametrize(
    "head",
    [
        b"rubbish\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n Bad: folded\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused(api, head):
    async with api.connection() as (reader, writer):
        writer.write(head)
        status = await asyncio.wait_for(reader.readline(), 20)
    assert status.split()[1] == b"400"


async def test_many_requests_share_a_connection(api):
    async with api.connection() as (reader, writer):
        for _ in range(20):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(20):
            await asyncio.wait_for(reader.readuntil(b"ok\n"), 20)


async def test_a_stop_lets_requests_finish_and_takes_no_new_ones(start):
    async with start(drain_seconds=60, request_seconds=60) as api:
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def answer(_request):
            asked.set()
            await go_on.wait()
            return Me(role="admin")

        api.recorder.answers["GetMe"] = answer
        under_way = asyncio.create_task(api.get("/v1/me"))
        await asyncio.wait_for(asked.wait(), 20)
        api.stop.set()
        await until(lambda: not listens(api))
        go_on.set()
        finished = await under_way
        assert (finished.status, finished.json["role"]) == (200, "admin")
        assert finished.headers["Connection"] == "close"
        await asyncio.wait_for(asyncio.shield(api.serving), 20)


async def test_a_stop_waits_no_longer_than_it_may(start):
    async with start(drain_seconds=1) as api:
        asked = asyncio.Event()

        async def never(_request):
            asked.set()
            await asyncio.sleep(60)

        api.recorder.answers["GetMe"] = never
        under_way = asyncio.create_task(api.get("/v1/me"))
        await asyncio.wait_for(asked.wait(), 20)
        api.stop.set()
        await asyncio.wait_for(asyncio.shield(api.serving), 20)
        answer = await under_way
        assert (answer.status, answer.code, answer.headers["Retry-After"]) == (503, "UNAVAILABLE", "1")


async def test_a_stop_ends_open_live_streams_at_once(start):
    async with start(drain_seconds=60) as api:
        headers = {"Authorization": f"Bearer {api.token}"}
        api.recorder.answers["GetJwks"] = await jwks_of(api)
        async with api.http.get(f"{api.url}/v1/stream", headers=headers) as response:
            assert response.status == 200, await response.text()
            api.stop.set()
            await asyncio.wait_for(asyncio.shield(api.serving), 20)


async def test_an_address_that_is_taken_is_named(api):
    with pytest.raises(OSError, match=f"Cannot listen on 127.0.0.1:{api.port}"):
        http_server.listen("127.0.0.1", api.port)


def listens(api) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", api.port)) == 0


async def jwks_of(api):
    from aerostic.auth.v1.auth_service_pb2 import Jwk, Jwks

    keys = (await api.authority.jwks()).keys
    return Jwks(keys=[Jwk(kty=key.kty, crv=key.crv, kid=key.kid, x=key.x) for key in keys])
