"""What machines ask: alive, ready, metrics."""

import pytest
from gateway_rig import until


async def test_it_lives_and_is_ready(api):
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
        answer = await api.get("/readyz", token="")
        assert (answer.status, answer.body) == (503, b"tenants: UNAVAILABLE\n")
        assert (await api.get("/healthz", token="")).status == 200


async def test_readiness_is_lost_and_found_with_a_service(start):
    async with start() as api:
        assert (await api.get("/readyz")).status == 200
        health = api.servers["messaging"].server
        await health._set_health(serving=False)
        answers = []

        async def is_ready() -> bool:
            answers.append(await api.get("/readyz"))
            return answers[-1].status == 200

        async def eventually(wanted: bool) -> None:
            while await is_ready() is not wanted:
                pass

        import asyncio

        await asyncio.wait_for(eventually(False), 20)
        assert answers[-1].body == b"messaging: NOT_SERVING\n"
        await health._set_health(serving=True)
        await asyncio.wait_for(eventually(True), 20)
