"""Connected numbers are looked at again: what Meta says of them and of their tokens is kept up to date."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web

from meta_emulator.numbers import live_tokens

APP_SECRET = "an-app-secret-for-tests"


def failing(account):
    return {check.step: (check.state, check.detail) for check in account.checks if check.state != "passed"}


async def last_audit(installation, tenant_id):
    rows = await installation.look(
        "SELECT action, actor_name, detail FROM audit_log WHERE tenant_id = $1 ORDER BY id DESC LIMIT 1", tenant_id
    )
    return rows[0]["action"], rows[0]["actor_name"], json.loads(rows[0]["detail"])


def ends_in(number, **delta):
    """Have all tokens of the number end; the moment."""
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(**delta)
    for token in live_tokens(number.meta.emulator, number.number):
        token.expires_at = end.timestamp()
    return end


async def test_connecting_tells_what_meta_says_of_the_number(installation, tenant_id, meta):
    account = await installation.connect(tenant_id, meta.number())
    assert (account.number_status, account.name_status) == ("CONNECTED", "APPROVED")
    assert account.messaging_limit == "TIER_UNLIMITED"
    assert account.HasField("check_time")
    assert not account.HasField("token_expire_time")


async def test_where_nothing_has_changed_only_the_moment_moves(installation, tenant_id, number, look):
    [before] = await installation.listed(tenant_id)
    events, audit = await installation.events(tenant_id), await installation.audit(tenant_id)
    await look()
    [after] = await installation.listed(tenant_id)
    assert after.check_time.ToNanoseconds() > before.check_time.ToNanoseconds()
    before.check_time.CopyFrom(after.check_time)
    assert after == before
    assert (await installation.events(tenant_id), await installation.audit(tenant_id)) == (events, audit)


async def test_changes_at_meta_are_kept_told_and_audited(installation, tenant_id, number, look):
    found = number.number
    found.quality_rating, found.messaging_limit, found.name_status = "RED", "TIER_2K", "DECLINED"
    found.behaviour["throughputPerSecond"] = 1000
    number.meta.emulator.behaviours.forget(found.id)
    await look()
    [account] = await installation.listed(tenant_id)
    assert (account.quality_rating, account.messaging_limit, account.name_status) == ("RED", "TIER_2K", "DECLINED")
    assert (account.messages_per_second, account.state) == (1000, "ready")
    assert (await installation.credentials(found.id)).messages_per_second == 1000
    assert (await installation.events(tenant_id))[-1] == "tenants.whatsappaccount.updated"
    [row] = await installation.look("SELECT data FROM outbox ORDER BY id DESC LIMIT 1")
    assert b'"RED"' in row["data"]
    action, actor, detail = await last_audit(installation, tenant_id)
    assert (action, actor) == ("whatsapp_account.checked", "svc-tenants")
    assert detail == {
        "qualityRating": "GREEN → RED",
        "messagingLimit": "TIER_UNLIMITED → TIER_2K",
        "nameStatus": "APPROVED → DECLINED",
        "messagesPerSecond": "80 → 1000",
    }


@pytest.mark.parametrize(("status", "state"), [("RESTRICTED", "failed"), ("FLAGGED", "warning")])
async def test_a_number_that_meta_restricts_needs_attention_until_it_is_let_go(
    installation, tenant_id, number, look, status, state
):
    number.number.status = status
    await look()
    [account] = await installation.listed(tenant_id)
    assert (account.state, account.number_status) == ("attention", status)
    [(step, (found, detail))] = failing(account).items()
    assert (step, found) == ("number", state)
    assert status in detail
    number.number.status = ""
    await look()
    [account] = await installation.listed(tenant_id)
    assert (account.state, account.number_status, failing(account)) == ("ready", "CONNECTED", {})


class TestToken:
    async def test_a_revoked_one_is_told_in_metas_words_and_what_was_known_stays(
        self, installation, tenant_id, number, look
    ):
        [before] = await installation.listed(tenant_id)
        number.token.revoked_at = 1.0
        await look()
        [account] = await installation.listed(tenant_id)
        assert account.state == "attention"
        [(step, (state, detail))] = failing(account).items()
        assert (step, state) == ("token", "failed")
        assert "The session was invalidated explicitly" in detail
        assert (account.quality_rating, account.number_status) == (before.quality_rating, before.number_status)
        assert (await last_audit(installation, tenant_id))[2]["check.token"].startswith("failed: Meta does not accept")
        await installation.connect(tenant_id, number, access_token=number.new_token())
        await look()
        [account] = await installation.listed(tenant_id)
        assert (account.state, failing(account)) == ("ready", {})

    async def test_one_that_ends_soon_is_told_once_and_an_ended_one_as_failed(
        self, installation, tenant_id, number, look
    ):
        end = ends_in(number, days=6)
        await look()
        [account] = await installation.listed(tenant_id)
        assert account.state == "attention"
        assert account.token_expire_time.ToDatetime(UTC) == end
        moment = f"{end:%Y-%m-%d %H:%M} UTC"
        text = f"Valid only until {moment}; connect the number with a new token before."
        assert failing(account) == {"token": ("warning", text)}
        told = await installation.events(tenant_id)
        await look()
        assert await installation.events(tenant_id) == told
        number.token.expires_at = 1.0
        await look()
        [account] = await installation.listed(tenant_id)
        assert failing(account)["token"][0] == "failed"
        assert "Session has expired" in failing(account)["token"][1]

    async def test_one_that_ends_later_is_ready(self, installation, tenant_id, number, look):
        end = ends_in(number, days=8)
        await look()
        [account] = await installation.listed(tenant_id)
        assert (account.state, account.token_expire_time.ToDatetime(UTC)) == ("ready", end)

    async def test_the_end_of_access_to_data_is_its_end(self, installation, tenant_id, number, look):
        ends_in(number, days=60)
        sooner = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
        number.token.data_access_expires_at = sooner.timestamp()
        await look()
        [account] = await installation.listed(tenant_id)
        assert (account.state, account.token_expire_time.ToDatetime(UTC)) == ("attention", sooner)

    async def test_one_that_lost_a_permission_fails_by_its_name(self, installation, tenant_id, number, look):
        number.token.scopes = ["whatsapp_business_management"]
        await look()
        [account] = await installation.listed(tenant_id)
        assert failing(account) == {
            "scopes": ("failed", "The access token lacks the permission whatsapp_business_messaging.")
        }

    async def test_one_replaced_while_meta_answered_is_not_blamed_for_the_one_before(
        self, installation, tenant_id, number, look
    ):
        number.token.revoked_at = 1.0
        number.new_token()
        renewing = asyncio.Event()

        async def renew(request):
            if not renewing.is_set():
                renewing.set()
                await installation.connect(tenant_id, number)

        number.meta.answer("GET debug_token", renew)
        await look()
        [account] = await installation.listed(tenant_id)
        assert (account.state, failing(account)) == ("ready", {})

    async def test_one_that_cannot_be_read_is_told(self, installation, tenant_id, number, look):
        await installation.look("UPDATE whatsapp_tokens SET sealed = 'gone'")
        await look()
        [account] = await installation.listed(tenant_id)
        assert failing(account) == {"token": ("failed", "The stored token cannot be read; connect the number again.")}


class TestSubscription:
    async def test_one_that_was_lost_is_restored(self, installation, tenant_id, number, look):
        waba_id = number.number.waba_id
        number.meta.emulator.world.wabas[waba_id].subscription = None
        await look()
        assert number.meta.is_subscribed(waba_id)
        [account] = await installation.listed(tenant_id)
        assert account.state == "ready"
        action, _, detail = await last_audit(installation, tenant_id)
        assert (action, detail) == ("whatsapp_account.subscription_restored", {"wabaId": waba_id})

    async def test_metas_refusal_to_restore_it_is_told(self, installation, tenant_id, number, look):
        number.meta.emulator.world.wabas[number.number.waba_id].subscription = None

        async def refuse(request):
            return web.json_response({"error": {"message": "Not now, not ever", "code": 200}}, status=403)

        number.meta.answer("POST subscribed_apps", refuse)
        await look()
        [account] = await installation.listed(tenant_id)
        state, detail = failing(account)["subscription"]
        assert (account.state, state) == ("attention", "failed")
        assert "Not now, not ever" in detail

    async def test_it_is_not_restored_for_a_number_that_is_disconnected_meanwhile(
        self, installation, tenant_id, number, look
    ):
        waba_id = number.number.waba_id
        number.meta.emulator.world.wabas[waba_id].subscription = None
        [account] = await installation.listed(tenant_id)

        async def disconnect(request):
            await installation.disconnect(tenant_id, account.id)

        number.meta.answer("POST subscribed_apps", disconnect)
        await look()
        assert not number.meta.is_subscribed(waba_id)
        assert await installation.listed(tenant_id) == []


async def test_a_number_that_left_its_waba_fails(installation, tenant_id, number, look):
    number.number.waba_id = number.meta.number().number.waba_id
    await look()
    [account] = await installation.listed(tenant_id)
    assert "has no phone number with the id" in failing(account)["number"][1]


async def test_numbers_of_a_waba_with_one_token_cost_three_calls(installation, tenant_id, meta, look):
    first = meta.number()
    numbers = [first, *(meta.number(waba_id=first.number.waba_id) for _ in range(3))]
    for number in numbers:
        await installation.connect(tenant_id, number, access_token=first.token.value)
    numbers[2].number.quality_rating = "YELLOW"
    meta.calls.clear()
    await look()
    assert meta.calls == ["GET debug_token", "GET phone_numbers", "GET subscribed_apps"]
    ratings = [account.quality_rating for account in await installation.listed(tenant_id)]
    assert ratings == ["GREEN", "YELLOW", "GREEN", "GREEN"]


async def test_tenants_that_share_a_waba_are_asked_for_by_their_own_tokens(installation, meta, look):
    first = meta.number()
    second = meta.number(waba_id=first.number.waba_id)
    theirs, mine = await installation.tenant(), await installation.tenant()
    await installation.connect(theirs, first)
    await installation.connect(mine, second)
    first.token.revoked_at = 1.0
    await look()
    assert [account.state for account in await installation.listed(theirs)] == ["attention"]
    assert [account.state for account in await installation.listed(mine)] == ["ready"]
