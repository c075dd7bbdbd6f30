"""What machines ask: alive, ready, metrics."""

import asyncio

from gateway_peers import passage_to
from yarl import URL


async def test_it_lives_and_is_ready(api):
    await told(api, 200, b"ok\n")
    for path in ("/healthz", "/readyz"):
        answer = await api.get(path, token="")
        assert (answer.status, answer.body) == (200, b"ok\n")
        assert answer.headers["Cache-Control"] == "no-store"


async def test_metrics_count_requests_by_route_and_not_by_path(api):
    await api.get("/v1/messages/6b0a53d4-9c37-4f0f-9d4f-b29d0d8a3c70")
    answer = await api.get("/metrics", token="")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert 'aerostic_http_seconds_count{method="GET",route="/v1/messages/{message_id}",status="200"}' in str(
        answer.body
    )
    assert b"6b0a53d4" not in answer.body


async def test_readiness_names_each_service_that_does_not_serve(start):
    async with start(targets={"tenants": "127.0.0.1:1"}) as api:
        await told(api, 503, b"tenants: UNAVAILABLE\n")
        assert (await api.get("/healthz", token="")).status == 200


async def test_readiness_is_lost_and_found_with_a_service(start):
    async with start() as api:
        await told(api, 200, b"ok\n")
        server = api.servers["messaging"].server
        await server._set_health(serving=False)
        await told(api, 503, b"messaging: NOT_SERVING\n")
        await server._set_health(serving=True)
        await told(api, 200, b"ok\n")


async def test_readiness_is_lost_without_nats(start, nats_server):
    async with passage_to(URL(nats_server.url).port) as (port, cut), start(nats_port=port) as api:
        await told(api, 200, b"ok\n")
        cut()
        await told(api, 503, b"nats: not connected\n")
        assert (await api.get("/healthz")).status == 200


async def told(api, status: int, body: bytes) -> None:
    """Until /readyz says this. It remembers its last answer for a moment, and names a service that once took long."""
    async with asyncio.timeout(60):
        while True:
            answer = await api.get("/readyz", token="")
            if (answer.status, answer.body) == (status, body):
                return
            await asyncio.sleep(0.02)
