"""Connecting a number that Meta refuses: the failed step in Meta's words, and nothing stored."""

import pytest
from aiohttp import web
from grpc import StatusCode


class TestRefused:
    async def assert_refused(self, installation, tenant_id, number, step, *, words="", code="", **changes):
        error = await installation.refusal(installation.connect(tenant_id, number, **changes))
        assert (error.code, error.reason) == (StatusCode.FAILED_PRECONDITION, "META_REFUSED")
        assert error.metadata["step"] == step
        assert error.metadata.get("metaCode", "") == code
        assert words in error.message
        assert bool(code) == ("metaMessage" in error.metadata)
        await installation.assert_nothing_connected(tenant_id)
        assert not installation.meta.is_subscribed(number.number.waba_id)

    async def test_an_unknown_token(self, installation, tenant_id, meta):
        words = "Meta does not accept the access token: Invalid OAuth access token - Cannot parse access token"
        await self.assert_refused(
            installation, tenant_id, meta.number(), "token", words=words, code="190", access_token="EAAunknown"
        )

    async def test_an_expired_token(self, installation, tenant_id, meta):
        number = meta.number()
        number.token.expires_at = meta.emulator.now() - 60
        await self.assert_refused(installation, tenant_id, number, "token", words="Session has expired", code="190")

    async def test_a_revoked_token(self, installation, tenant_id, meta):
        number = meta.number()
        number.token.revoked_at = meta.emulator.now()
        await self.assert_refused(installation, tenant_id, number, "token", words="invalidated", code="190")

    async def test_a_token_of_another_app(self, postgres, meta, install, key_ring):
        database = postgres.database("tenants")
        async with install(database, meta, keys=key_ring("k1"), app_id="999999999999", app_secret="") as installation:
            tenant_id = await installation.tenant()
            await self.assert_refused(installation, tenant_id, meta.number(), "token", words="999999999999")

    async def test_credentials_of_the_app_that_meta_refuses(self, postgres, meta, install, key_ring):
        database = postgres.database("tenants")
        async with install(database, meta, keys=key_ring("k1"), app_secret="wrong") as installation:
            tenant_id = await installation.tenant()
            await self.assert_refused(
                installation, tenant_id, meta.number(), "token", words="app id and app secret", code="190"
            )

    @pytest.mark.parametrize("scope", ["whatsapp_business_messaging", "whatsapp_business_management"])
    async def test_a_token_without_a_scope(self, installation, tenant_id, meta, scope):
        number = meta.number()
        number.token.scopes.remove(scope)
        await self.assert_refused(installation, tenant_id, number, "scopes", words=f"lacks the permission {scope}.")

    async def test_a_token_for_another_waba(self, installation, tenant_id, meta):
        number, other = meta.number(), meta.number()
        words = f"does not reach the WhatsApp Business Account {number.number.waba_id}"
        await self.assert_refused(
            installation, tenant_id, number, "scopes", words=words, access_token=other.token.value
        )

    async def test_a_waba_that_is_none(self, installation, tenant_id, meta):
        number = meta.number()
        number.token.waba_ids.append(number.number.id)
        await self.assert_refused(
            installation, tenant_id, number, "waba", words="(#100)", code="100", waba_id=number.number.id
        )

    async def test_a_waba_that_does_not_exist(self, installation, tenant_id, meta):
        number = meta.number()
        number.token.waba_ids.append("123456789")
        await self.assert_refused(
            installation, tenant_id, number, "waba", words="does not exist", code="100", waba_id="123456789"
        )

    async def test_a_number_of_another_waba(self, installation, tenant_id, meta):
        number, other = meta.number(), meta.number()
        words = f"has no phone number with the id {other.number.id}"
        await self.assert_refused(
            installation, tenant_id, number, "number", words=words, phone_number_id=other.number.id
        )

    async def test_a_subscription_that_meta_refuses(self, installation, tenant_id, meta):
        async def refuse(request):
            error = {"message": "(#200) Permissions error", "type": "OAuthException", "code": 200}
            return web.json_response({"error": error}, status=403)

        meta.answer("POST subscribed_apps", refuse)
        await self.assert_refused(
            installation, tenant_id, meta.number(), "subscription", words="(#200) Permissions error", code="200"
        )

    @pytest.mark.parametrize(
        ("field", "changes"),
        [
            ("wabaId", {"waba_id": "my waba"}),
            ("wabaId", {"waba_id": ""}),
            ("phoneNumberId", {"phone_number_id": "+16315555555"}),
            ("phoneNumberId", {"phone_number_id": "1" * 21}),
            ("accessToken", {"access_token": ""}),
            ("accessToken", {"access_token": "two words"}),
            ("accessToken", {"access_token": "a" * 2049}),
        ],
    )
    async def test_bad_fields_are_named_and_never_reach_meta(self, installation, tenant_id, meta, field, changes):
        error = await installation.refusal(installation.connect(tenant_id, meta.number(), **changes))
        assert (error.code, error.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
        assert {violation.field for violation in error.violations} == {field}
        assert meta.calls == []
