"""Connecting a number while Meta is away, slow or talks nonsense: told as such, and nothing stored."""

import asyncio
import json

import pytest
from aiohttp import web
from grpc import StatusCode

from svc_tenants.graph import GraphClient


def impatient_at(edge):
    """Gives up calls to this edge soon; those before it may take their time on a slow machine."""
    exchange = GraphClient._exchange

    async def impatient(graph, method, path, token, params):
        last = path.rpartition("/")[2]
        is_meant = edge == f"{method} {'waba' if last.isdigit() else last}"
        graph._answer_seconds = 0.3 if is_meant else 30
        return await exchange(graph, method, path, token, params)

    return impatient


class TestUnreachable:
    EDGES = (
        ("GET debug_token", "token"),
        ("GET waba", "waba"),
        ("GET phone_numbers", "number"),
        ("POST subscribed_apps", "subscription"),
    )

    async def assert_unreachable(self, installation, tenant_id, number, step):
        error = await installation.refusal(installation.connect(tenant_id, number))
        assert (error.code, error.reason) == (StatusCode.UNAVAILABLE, "META_UNREACHABLE")
        assert error.metadata["step"] == step
        assert "Nothing has changed" in error.message
        await installation.assert_nothing_connected(tenant_id)

    @pytest.mark.parametrize(("edge", "step"), EDGES)
    async def test_meta_does_not_answer_in_time(self, installation, tenant_id, meta, monkeypatch, edge, step):
        async def hang(request):
            await asyncio.sleep(30)

        meta.answer(edge, hang)
        monkeypatch.setattr(GraphClient, "_exchange", impatient_at(edge))
        await self.assert_unreachable(installation, tenant_id, meta.number(), step)

    async def test_the_callers_deadline_leaves_time_for_the_answer(self, installation, tenant_id, meta, monkeypatch):
        async def hang(request):
            await asyncio.sleep(30)

        # What is kept of the caller's time is enough on the slowest machine; Meta has a second.
        monkeypatch.setattr("svc_tenants.graph._SPARE_SECONDS", 8.0)
        meta.answer("GET debug_token", hang)
        admin, request = installation.admin(tenant_id), meta.number().request()
        error = await installation.refusal(admin.call(installation.accounts.CreateWhatsAppAccount, request, timeout=9))
        assert error.reason == "META_UNREACHABLE"

    @pytest.mark.parametrize(
        "response",
        [
            {"status": 503, "text": "<html>Sorry, something went wrong.</html>"},
            {"status": 200, "text": "not JSON"},
            {"status": 200, "text": "[]"},
            {"status": 200, "text": "[" * 100_000},
            {"status": 302, "headers": {"Location": "http://127.0.0.1:9/"}},
            {"status": 500, "text": json.dumps({"error": {"message": "Later", "code": 131000}})},
            {"status": 400, "text": json.dumps({"error": {"message": "(#80007) Rate limit issues", "code": 80007}})},
            {"status": 400, "text": json.dumps({"error": {"message": "Later", "code": 3, "is_transient": True}})},
        ],
    )
    async def test_meta_answers_that_it_cannot_now(self, installation, tenant_id, meta, response):
        async def answer(request):
            return web.Response(**response)

        meta.answer("GET waba", answer)
        await self.assert_unreachable(installation, tenant_id, meta.number(), "waba")

    async def test_the_line_is_dead(self, installation, tenant_id, meta):
        async def hang_up(request):
            request.transport.close()

        meta.answer("GET phone_numbers", hang_up)
        await self.assert_unreachable(installation, tenant_id, meta.number(), "number")

    async def test_a_list_without_an_end_is_left(self, installation, tenant_id, meta):
        async def endless(request):
            return web.json_response({"data": [], "paging": {"cursors": {"after": "x"}, "next": "https://x/"}})

        meta.answer("GET phone_numbers", endless)
        await self.assert_unreachable(installation, tenant_id, meta.number(), "number")

    async def test_a_second_subscription_that_fails_is_shown_as_a_check(self, installation, tenant_id, meta):
        async def only_once(request):
            return web.Response(status=503) if meta.calls.count("POST subscribed_apps") > 1 else None

        meta.answer("POST subscribed_apps", only_once)
        account = await installation.connect(tenant_id, meta.number())
        assert account.state == "attention"
        assert [(check.step, check.state) for check in account.checks][-1] == ("subscription", "failed")
        assert await installation.listed(tenant_id) == [account]
