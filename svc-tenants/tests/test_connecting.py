"""Connecting a number whose every step passes."""

import uuid

from aerostic.tenants.v1 import whatsapp_account_service_pb2 as pb
from aiohttp import web
from grpc import StatusCode

from kit.ids import new_id

STEPS = ["token", "scopes", "waba", "number", "subscription"]


class TestGood:
    async def test_a_number_is_ready_with_every_step_passed(self, installation, tenant_id, meta):
        number = meta.number(display="+1 631-555-5555", verified_name="Lucky Shrub")
        account = await installation.connect(tenant_id, number)
        assert (account.waba_id, account.phone_number_id) == (number.number.waba_id, number.number.id)
        assert (account.display_phone_number, account.verified_name) == ("+1 631-555-5555", "Lucky Shrub")
        assert (account.state, account.quality_rating, account.messages_per_second) == ("ready", "GREEN", 80)
        assert [(check.step, check.state) for check in account.checks] == [(step, "passed") for step in STEPS]
        assert account.checks[0].detail == "Valid; does not expire."
        assert meta.is_subscribed(number.number.waba_id)
        request = pb.GetWhatsAppAccountRequest(whatsapp_account_id=account.id)
        agent = installation.agent(tenant_id)
        assert await agent.call(installation.accounts.GetWhatsAppAccount, request) == account
        assert await installation.listed(tenant_id) == [account]
        assert await installation.events(tenant_id) == ["tenants.tenant.created", "tenants.whatsappaccount.connected"]
        assert await installation.audit(tenant_id) == ["tenant.created", "whatsapp_account.connected"]

    async def test_a_raised_number_sends_a_thousand_a_second(self, installation, tenant_id, meta):
        account = await installation.connect(tenant_id, meta.number(throughput=1000))
        assert account.messages_per_second == 1000

    async def test_a_number_of_the_business_app_sends_twenty_a_second(self, installation, tenant_id, meta):
        number = meta.number()

        async def on_app(request):
            known = {"id": number.number.id, "is_on_biz_app": True, "platform_type": "CLOUD_API", "status": "CONNECTED"}
            return web.json_response({"data": [known]})

        meta.answer("GET phone_numbers", on_app)
        assert (await installation.connect(tenant_id, number)).messages_per_second == 20

    async def test_a_number_on_a_later_page_of_a_large_waba_is_found(self, installation, tenant_id, meta):
        number = meta.number()
        for _ in range(120):
            meta.number(waba_id=number.number.waba_id)
        assert (await installation.connect(tenant_id, number)).state == "ready"
        assert meta.calls.count("GET phone_numbers") == 2

    async def test_a_number_that_is_not_registered_at_meta_needs_attention(self, installation, tenant_id, meta):
        account = await installation.connect(tenant_id, meta.number(registered=False))
        assert account.state == "attention"
        [failed] = [check for check in account.checks if check.state == "failed"]
        assert failed.step == "number"
        assert "PENDING" in failed.detail

    async def test_a_workspace_connects_several_numbers(self, installation, tenant_id, meta):
        first, second, third = [await installation.connect(tenant_id, meta.number()) for _ in range(3)]
        assert await installation.listed(tenant_id) == [third, second, first]
        request = pb.ListWhatsAppAccountsRequest(page_size=2)
        page = await installation.admin(tenant_id).call(installation.accounts.ListWhatsAppAccounts, request)
        assert list(page.whatsapp_accounts) == [third, second]
        request.page_token = page.next_page_token
        page = await installation.admin(tenant_id).call(installation.accounts.ListWhatsAppAccounts, request)
        assert (list(page.whatsapp_accounts), page.next_page_token) == ([first], "")

    async def test_connecting_the_own_number_again_replaces_its_token(self, installation, tenant_id, meta):
        number = meta.number()
        first = await installation.connect(tenant_id, number)
        before = await installation.credentials(number.number.id)
        second = await installation.connect(tenant_id, number, access_token=number.new_token())
        after = await installation.credentials(number.number.id)
        assert (second.id, second.create_time) == (first.id, first.create_time)
        assert await installation.listed(tenant_id) == [second]
        assert (before.token_version, after.token_version) == (1, 2)
        assert after.access_token == number.token.value != before.access_token
        assert await installation.events(tenant_id) == [
            "tenants.tenant.created",
            "tenants.whatsappaccount.connected",
            "tenants.whatsappaccount.updated",
        ]

    async def test_without_an_app_secret_a_token_inspects_itself(self, postgres, meta, install, key_ring):
        database = postgres.database("tenants")
        async with install(database, meta, keys=key_ring("k1"), app_id="", app_secret="") as installation:
            tenant_id = await installation.tenant()
            assert (await installation.connect(tenant_id, meta.number())).state == "ready"
            error = await installation.refusal(
                installation.connect(tenant_id, meta.number(), access_token="EAAnobodys")
            )
            assert (error.reason, error.metadata["step"], error.metadata["metaCode"]) == (
                "META_REFUSED",
                "token",
                "190",
            )


class TestSuspendedTenant:
    async def test_it_reads_but_neither_connects_nor_disconnects(self, installation, tenant_id, meta):
        account = await installation.connect(tenant_id, meta.number())
        await installation.suspend(tenant_id, "The invoice is open.")
        calls = list(meta.calls)
        for call in (installation.connect(tenant_id, meta.number()), installation.disconnect(tenant_id, account.id)):
            error = await installation.refusal(call)
            assert (error.code, error.reason) == (StatusCode.PERMISSION_DENIED, "TENANT_SUSPENDED")
            assert "The invoice is open." in error.message
        assert meta.calls == calls
        assert await installation.listed(tenant_id) == [account]

    async def test_one_suspended_while_meta_answers_connects_nothing(self, installation, tenant_id, meta):
        async def suspend(request):
            await installation.suspend(tenant_id)

        meta.answer("GET phone_numbers", suspend)
        error = await installation.refusal(installation.connect(tenant_id, meta.number()))
        assert error.reason == "TENANT_SUSPENDED"
        assert await installation.listed(tenant_id) == []

    async def test_a_tenant_that_is_not_here_connects_nothing(self, installation, meta):
        error = await installation.refusal(installation.connect(uuid.uuid4(), meta.number()))
        assert (error.reason, meta.calls) == ("TENANT_NOT_FOUND", [])


async def test_an_unknown_account_is_not_found(installation, tenant_id):
    request = pb.GetWhatsAppAccountRequest(whatsapp_account_id=str(new_id()))
    error = await installation.refusal(
        installation.agent(tenant_id).call(installation.accounts.GetWhatsAppAccount, request)
    )
    assert (error.code, error.reason) == (StatusCode.NOT_FOUND, "WHATSAPP_ACCOUNT_NOT_FOUND")
