"""Meta's webhooks reach the ingest as they came, and Meta gets the ingest's answer or a reason to try again."""

import asyncio
import contextlib
import io
import time

import aiohttp
import pytest
from gateway_rig import until

from gateway import ingest, webhooks
from kit import http_pool

SIGNATURE = "sha256=" + "5a" * 32


async def send(api, body: bytes, query: str = "", **headers: str):
    url = f"/webhooks/meta{query}"
    data = io.BytesIO(body) if isinstance(body, bytes) else body
    return await api.call("POST", url, token="", data=data, headers={"X-Hub-Signature-256": SIGNATURE, **headers})


@pytest.mark.parametrize(
    "body",
    [
        b'{"object":"whatsapp_business_account",  "entry":[ ]}\r\n',
        b"\x00\xff not JSON, not even UTF-8 \xc3\x28",
        b"",
        b"x" * 3_000_000,
    ],
    ids=["spaces", "binary", "empty", "large"],
)
async def test_every_byte_arrives(api, body):
    answer = await send(api, body, **{"Content-Type": "application/json; charset=utf-8"})
    assert answer.status == 200
    [(method, path, raw, headers)] = api.ingest.seen
    assert (method, path, raw) == ("POST", "/webhooks/meta", body)
    assert headers["X-Hub-Signature-256"] == SIGNATURE
    assert headers["Content-Type"] == "application/json; charset=utf-8"


async def test_nothing_else_of_the_caller_is_passed_on(api):
    await send(api, b"{}", Cookie="auth_token=secret", Authorization="Bearer secret", **{"X-Forwarded-For": "1.2.3.4"})
    [(_, _, _, headers)] = api.ingest.seen
    passed = {"Host", "X-Hub-Signature-256", "Content-Type", "Content-Length", "X-Request-ID"}
    assert set(headers) == passed


async def test_a_missing_header_stays_missing(api):
    await api.call("POST", "/webhooks/meta", token="", data=b"{}", skip_auto_headers=["Content-Type"])
    [(_, _, _, headers)] = api.ingest.seen
    assert not {"X-Hub-Signature-256", "Content-Type"} & set(headers)


async def test_the_request_is_found_by_one_id_in_both_logs(api):
    answer = await send(api, b"{}", **{"X-Request-Id": "meta-request-1"})
    assert answer.headers["X-Request-Id"] == "meta-request-1"
    [(_, _, _, headers)] = api.ingest.seen
    assert headers["X-Request-ID"] == "meta-request-1"


@pytest.mark.parametrize(
    "query",
    [
        "?hub.mode=subscribe&hub.challenge=11%2B22&hub.verify_token=a%20b",
        "?hub.challenge=a+b&hub.challenge=twice&empty=&flag",
        "?x=%C3%A4&y=%c3%a4&z='()*!~",
    ],
)
async def test_the_verification_is_passed_on_with_its_query_as_it_is(api, query):
    api.ingest.body = b"11+22"
    async with api.connection() as (reader, writer):
        writer.write(f"GET /webhooks/meta{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        raw = await asyncio.wait_for(reader.read(), 20)
    assert raw.endswith(b"\r\n\r\n11+22")
    assert [(method, path) for method, path, _, _ in api.ingest.seen] == [("GET", f"/webhooks/meta{query}")]


@pytest.mark.parametrize(("status", "body"), [(401, b""), (403, b"no"), (413, b""), (500, b"oops"), (200, b"ok")])
async def test_the_ingests_answer_is_metas_answer(api, status, body):
    api.ingest.status, api.ingest.body = status, body
    answer = await send(api, b"{}")
    assert (answer.status, answer.body) == (status, body)


async def test_only_get_and_post_are_taken(api):
    answer = await api.call("PUT", "/webhooks/meta", token="", data=b"{}")
    assert (answer.status, answer.code) == (405, "METHOD_NOT_ALLOWED")
    assert answer.headers["Allow"] == "GET, POST"
    assert not api.ingest.seen


async def test_without_the_ingest_meta_is_told_to_come_back(start, monkeypatch):
    monkeypatch.setattr(ingest, "_AWAITED_SECONDS", 0.1)
    async with start(ingest_url="http://127.0.0.1:1") as api:
        answer = await send(api, b"{}")
        assert (answer.status, answer.code) == (503, "UNAVAILABLE")
        assert answer.headers["Retry-After"] == "1"
        assert "127.0.0.1" not in answer.body.decode()


async def test_an_ingest_that_is_started_again_is_waited_for_by_all_but_asked_by_one(start, port, monkeypatch):
    monkeypatch.setattr(ingest, "_AWAITED_SECONDS", 60)
    tried, talks = 0, []

    async def answer(reader, writer):
        talks.append(asyncio.current_task())
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n{}")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    class Counting(http_pool.HttpPool):
        async def exchange(self, request, **options):
            nonlocal tried
            tried += 1
            return await super().exchange(request, **options)

    monkeypatch.setattr(ingest, "HttpPool", Counting)
    async with start(ingest_url=f"http://127.0.0.1:{port}") as api:
        began = time.monotonic()
        webhooks_sent = [asyncio.create_task(send(api, b"{}")) for _ in range(30)]
        await asyncio.sleep(1)
        assert not any(each.done() for each in webhooks_sent)
        server = await asyncio.start_server(answer, "127.0.0.1", port)
        assert [(await each).status for each in webhooks_sent] == [200] * 30
        took = time.monotonic() - began
    server.close()
    await asyncio.wait(talks)
    # Each once when it came and once when the ingest was back; in between one at a time, with a pause before each try.
    assert tried <= 30 + 30 + took / ingest._PROBE_SECONDS


async def test_an_ingest_that_stays_away_is_not_waited_for_again_until_it_was_back(start, monkeypatch):
    monkeypatch.setattr(ingest, "_AWAITED_SECONDS", 0.1)
    async with start(ingest_url="http://127.0.0.1:1") as api:
        assert (await send(api, b"{}")).status == 503
        monkeypatch.setattr(ingest, "_PROBE_SECONDS", 3600)
        assert (await send(api, b"{}")).status == 503


async def test_a_silent_ingest_is_given_up(start):
    async with start(webhook_seconds=1) as api:
        api.ingest.waits = 5
        answer = await send(api, b"{}")
        assert (answer.status, answer.code) == (503, "UNAVAILABLE")


async def test_an_ingest_that_hangs_up_counts_as_away(start):
    async def hang_up(_reader, writer):
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with start(ingest_url=f"http://127.0.0.1:{port}") as api:
            answer = await send(api, b"{}")
            assert (answer.status, answer.code) == (503, "UNAVAILABLE")


async def test_a_kept_connection_that_the_ingest_closes_under_a_webhook_costs_nothing(start):
    """As an ingest does that is being replaced: it had promised to keep the connection."""
    connections = []

    async def take_one(reader, writer):
        connections.append(writer)
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        if len(connections) == 1:
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.abort()

    server = await asyncio.start_server(take_one, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with start(ingest_url=f"http://127.0.0.1:{port}") as api:
            assert [(await send(api, b"{}")).status for _ in range(2)] == [200, 200]
        assert len(connections) == 2
        connections[1].close()


async def test_more_webhooks_than_connections_wait_their_turn(start):
    async with start(webhook_connections=2) as api:
        api.ingest.waits = 0.05
        answers = await asyncio.gather(*(send(api, b"%d" % number) for number in range(8)))
        assert [answer.status for answer in answers] == [200] * 8
        assert sorted(raw for _, _, raw, _ in api.ingest.seen) == [b"%d" % number for number in range(8)]


async def test_a_webhook_of_a_hundred_megabytes_is_refused_by_its_head(api):
    async with api.connection() as (reader, writer):
        writer.write(b"POST /webhooks/meta HTTP/1.1\r\nHost: x\r\nContent-Length: 104857600\r\n\r\n")
        status = await asyncio.wait_for(reader.readline(), 20)
    assert status.split()[1] == b"413"
    assert not api.ingest.seen


async def test_an_endless_webhook_is_cut_at_the_limit(api):
    sent = 0

    async def endless():
        nonlocal sent
        while True:
            sent += 65536
            yield b"x" * 65536

    try:
        answer = await send(api, endless())
        assert answer.code == "BODY_TOO_LARGE"
        assert answer.status == 413
    except aiohttp.ClientError:
        pass  # the connection was closed while the client was still sending; it may never look at the answer
    assert sent < 40 * 1024 * 1024
    assert not api.ingest.seen


async def test_a_webhook_that_drips_is_given_up(start):
    async with start(webhook_seconds=0.5) as api, api.connection() as (reader, writer):
        writer.write(b"POST /webhooks/meta HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")

        async def drip():
            while True:
                writer.write(b"x")
                await asyncio.sleep(0.1)

        dripping = asyncio.create_task(drip())
        status = await asyncio.wait_for(reader.readline(), 20)
        dripping.cancel()
        assert status.split()[1] == b"408"
        assert not api.ingest.seen


async def test_more_than_fits_in_memory_is_sent_back_and_nothing_stays_counted(api, monkeypatch):
    monkeypatch.setattr(webhooks, "_HELD_BYTES_MAX", 1500)
    api.ingest.is_held = True
    kept = asyncio.create_task(send(api, b"x" * 1000))
    await until(lambda: api.ingest.seen)
    refused = await asyncio.gather(*(send(api, b"x" * 1000) for _ in range(2)))
    assert [(answer.status, answer.headers["Retry-After"]) for answer in refused] == [(503, "1")] * 2
    api.ingest.is_held = False
    assert (await kept).status == 200
    assert (await send(api, b"x" * 1500)).status == 200
