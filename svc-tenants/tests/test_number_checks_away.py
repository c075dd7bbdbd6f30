"""Looking at connected numbers while Meta is away, limits or talks nonsense; and who looks, and at what."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from prometheus_client import REGISTRY


class TestMetaAway:
    @pytest.mark.parametrize(
        "response",
        [
            {"status": 503, "text": "<html>Sorry, something went wrong.</html>"},
            {"status": 200, "text": "not JSON"},
            {"status": 500, "text": json.dumps({"error": {"message": "Later", "code": 2}})},
        ],
    )
    @pytest.mark.parametrize("edge", ["GET debug_token", "GET phone_numbers", "GET subscribed_apps"])
    async def test_nothing_is_concluded_from_it(self, installation, tenant_id, number, look, edge, response):
        async def answer(request):
            return web.Response(**response)

        [before] = await installation.listed(tenant_id)
        number.meta.answer(edge, answer)
        await look()
        assert await installation.listed(tenant_id) == [before]
        number.meta.calls.clear()
        await look_again(installation, look, number)

    async def test_the_whole_app_refused_says_nothing_of_tokens(self, installation, tenant_id, number, look):
        async def refuse(request):
            return web.json_response({"error": {"message": "Invalid application", "code": 101}}, status=400)

        [before] = await installation.listed(tenant_id)
        number.meta.answer("GET debug_token", refuse)
        await look()
        assert await installation.listed(tenant_id) == [before]

    @pytest.mark.parametrize(("code", "asked_again"), [(4, False), (80007, True)])
    async def test_limits_are_waited_for(self, installation, tenant_id, number, look, code, asked_again):
        async def limit(request):
            return web.json_response({"error": {"message": "Too many calls", "code": code}}, status=400)

        number.meta.answer("GET phone_numbers", limit)
        await look()
        [row] = await installation.look(
            "SELECT check_after - now() AS wait FROM whatsapp_accounts WHERE tenant_id = $1", tenant_id
        )
        least = timedelta(minutes=50) if code == 80007 else timedelta(minutes=8)
        assert row["wait"] > least
        number.meta.rules.clear()
        number.meta.calls.clear()
        await look()
        # The whole app is limited: nobody is asked for.
        assert bool(number.meta.calls) == asked_again

    async def test_a_meta_that_answers_nobody_is_left_alone_for_a_while(self, installation, tenant_id, meta, look):
        for _ in range(18):
            await installation.connect(tenant_id, meta.number())

        async def away(request):
            return web.Response(status=502)

        meta.rules.append(away)
        meta.calls.clear()
        await look()
        asked = len(meta.calls)
        await look()
        assert asked == len(meta.calls) == 16


async def look_again(installation, look, number):
    """Once Meta is back."""
    number.meta.rules.clear()
    await look()
    assert number.meta.calls == ["GET debug_token", "GET phone_numbers", "GET subscribed_apps"]


@pytest.mark.parametrize(
    "odd",
    [
        {"status": 7, "quality_rating": ["x"], "throughput": "fast", "name_status": None},
        {"status": "NE\0W" * 200, "verified_name": "\0", "whatsapp_business_manager_messaging_limit": {"a": 1}},
        {"throughput": {"level": None}, "is_on_biz_app": "yes"},
    ],
)
async def test_odd_answers_end_nothing(installation, tenant_id, number, look, odd):
    async def answer(request):
        return web.json_response({"data": [{"id": number.number.id, **odd}, "?", {"id": 5}]})

    number.meta.answer("GET phone_numbers", answer)
    await look()
    [account] = await installation.listed(tenant_id)
    assert account.check_time.ToDatetime(UTC) > datetime.now(UTC) - timedelta(minutes=1)
    assert account.quality_rating == "UNKNOWN"


@pytest.mark.parametrize("known", ["messaging_limit_tier", ""])
async def test_a_graph_version_that_names_the_limit_otherwise_is_understood(installation, tenant_id, meta, known):
    async def old(request):
        fields = request.query["fields"].split(",")
        for name in ("whatsapp_business_manager_messaging_limit", "messaging_limit_tier"):
            if name in fields and name != known:
                text = f"(#100) Tried accessing nonexisting field ({name}) on node type (WhatsAppBusinessPhoneNumber)"
                return web.json_response({"error": {"message": text, "code": 100}}, status=400)
        return None

    meta.answer("GET phone_numbers", old)
    account = await installation.connect(tenant_id, meta.number())
    assert (account.state, account.messaging_limit) == ("ready", "TIER_UNLIMITED" if known else "")


async def test_numbers_of_a_tenant_that_is_erased_are_left_alone(installation, tenant_id, number, look):
    await installation.look("UPDATE tenants SET state = 'deleting', suspension_reason = '' WHERE id = $1", tenant_id)
    number.meta.calls.clear()
    await look()
    assert number.meta.calls == []


async def test_metrics_count_numbers_by_check(installation, number, look, checkers):
    number.token.revoked_at = 1.0
    await look()
    await checkers().look_at_all_due()
    [row] = await installation.look("SELECT numbers FROM numbers_by_check() WHERE step = 'token' AND state = 'failed'")
    sample = {"step": "token", "state": "failed"}
    assert REGISTRY.get_sample_value("aerostic_numbers_by_check", sample) == row["numbers"] >= 1


async def test_one_process_of_all_looks_again_and_again(installation, tenant_id, number, be_due, checkers):
    stop = asyncio.Event()
    await be_due()
    dsn = installation.database.app_url
    running = [asyncio.create_task(checkers(seconds=0.1).run(dsn, stop)) for _ in range(2)]
    try:
        for rating in ("YELLOW", "RED", "GREEN"):
            number.number.quality_rating = rating
            async with asyncio.timeout(60):
                while (await installation.listed(tenant_id))[0].quality_rating != rating:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
    finally:
        stop.set()
        await asyncio.gather(*running)
