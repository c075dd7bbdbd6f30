"""Disconnecting a number: it is free at once; what became of the subscription at Meta is told, whatever it was."""

import json

from aiohttp import web
from grpc import StatusCode

from kit.ids import new_id


async def subscription_audit(installation, tenant_id):
    query = "SELECT action, detail FROM audit_log WHERE tenant_id = $1 AND action LIKE '%subscription%'"
    return [(row["action"], json.loads(row["detail"])) for row in await installation.look(query, tenant_id)]


async def assert_gone(installation, tenant_id, account):
    assert await installation.listed(tenant_id) == []
    assert await installation.resolve(account.phone_number_id) == {}
    assert await installation.look("SELECT 1 FROM whatsapp_tokens WHERE tenant_id = $1", tenant_id) == []
    assert (await installation.events(tenant_id))[-1] == "tenants.whatsappaccount.disconnected"
    assert "whatsapp_account.disconnected" in await installation.audit(tenant_id)


async def test_the_last_number_of_a_waba_ends_its_subscription(installation, meta, tenant_id):
    account = await installation.connect(tenant_id, meta.number())
    done = await installation.disconnect(tenant_id, account.id)
    assert (done.subscription, done.detail) == ("ended", "")
    assert not meta.is_subscribed(account.waba_id)
    await assert_gone(installation, tenant_id, account)
    assert await subscription_audit(installation, tenant_id) == [
        ("whatsapp_account.subscription_ended", {"wabaId": account.waba_id, "detail": ""})
    ]


async def test_a_waba_with_another_number_here_stays_subscribed(installation, meta, tenant_id):
    mine = meta.number()
    other = meta.number(waba_id=mine.number.waba_id)
    account = await installation.connect(tenant_id, mine)
    await installation.connect(await installation.tenant(), other)
    done = await installation.disconnect(tenant_id, account.id)
    assert (done.subscription, done.detail) == ("kept", "")
    assert meta.is_subscribed(account.waba_id)
    assert "DELETE subscribed_apps" not in meta.calls
    await assert_gone(installation, tenant_id, account)


async def test_meta_refuses_to_end_the_subscription(installation, meta, tenant_id):
    number = meta.number()
    account = await installation.connect(tenant_id, number)
    number.token.revoked_at = meta.emulator.now()
    done = await installation.disconnect(tenant_id, account.id)
    assert done.subscription == "failed"
    assert done.detail.startswith("Meta refused: Error validating access token")
    await assert_gone(installation, tenant_id, account)
    [(action, detail)] = await subscription_audit(installation, tenant_id)
    assert (action, detail["detail"]) == ("whatsapp_account.subscription_failed", done.detail)


async def test_meta_is_away(installation, meta, tenant_id):
    account = await installation.connect(tenant_id, meta.number())

    async def hang_up(request):
        request.transport.close()

    meta.answer("DELETE subscribed_apps", hang_up)
    done = await installation.disconnect(tenant_id, account.id)
    assert (done.subscription, done.detail) == ("failed", "Meta did not answer (ServerDisconnectedError).")
    await assert_gone(installation, tenant_id, account)


async def test_meta_does_not_confirm(installation, meta, tenant_id):
    account = await installation.connect(tenant_id, meta.number())

    async def unsure(request):
        return web.json_response({"success": False})

    meta.answer("DELETE subscribed_apps", unsure)
    done = await installation.disconnect(tenant_id, account.id)
    assert (done.subscription, done.detail) == ("failed", "Meta refused: Meta did not confirm it.")


async def test_the_token_cannot_be_read_any_more(postgres, meta, install, key_ring):
    database = postgres.database("tenants")
    async with install(database, meta, keys=key_ring("k1")) as installation:
        tenant_id = await installation.tenant()
        account = await installation.connect(tenant_id, meta.number())
    async with install(database, meta, keys=key_ring("k2")) as installation:
        done = await installation.disconnect(tenant_id, account.id)
        assert (done.subscription, done.detail) == ("failed", "The stored token cannot be read.")
        await assert_gone(installation, tenant_id, account)


async def test_a_number_that_comes_while_the_subscription_ends_keeps_it(installation, meta, tenant_id):
    leaving = meta.number()
    coming = meta.number(waba_id=leaving.number.waba_id)
    account = await installation.connect(tenant_id, leaving)
    other = await installation.tenant()

    async def connect_meanwhile(request):
        await installation.connect(other, coming)

    meta.answer("DELETE subscribed_apps", connect_meanwhile)
    done = await installation.disconnect(tenant_id, account.id)
    assert done.subscription == "kept"
    assert meta.is_subscribed(account.waba_id)


async def test_a_subscription_that_ends_while_a_number_comes_is_renewed(installation, meta, tenant_id):
    leaving = meta.number()
    coming = meta.number(waba_id=leaving.number.waba_id)
    account = await installation.connect(tenant_id, leaving)
    meta.calls.clear()

    async def disconnect_meanwhile(request):
        if meta.calls.count("POST subscribed_apps") > 1:
            return None
        answer = await meta.ask_emulator(request)
        assert (await installation.disconnect(tenant_id, account.id)).subscription == "ended"
        return answer

    meta.answer("POST subscribed_apps", disconnect_meanwhile)
    connected = await installation.connect(await installation.tenant(), coming)
    assert connected.state == "ready"
    assert meta.is_subscribed(account.waba_id)


async def test_disconnecting_twice_finds_nothing_the_second_time(installation, meta, tenant_id):
    account = await installation.connect(tenant_id, meta.number())
    await installation.disconnect(tenant_id, account.id)
    events = await installation.events(tenant_id)
    error = await installation.refusal(installation.disconnect(tenant_id, account.id))
    assert (error.code, error.reason) == (StatusCode.NOT_FOUND, "WHATSAPP_ACCOUNT_NOT_FOUND")
    assert await installation.events(tenant_id) == events


async def test_an_unknown_account_is_not_disconnected(installation, tenant_id):
    error = await installation.refusal(installation.disconnect(tenant_id, str(new_id())))
    assert error.reason == "WHATSAPP_ACCOUNT_NOT_FOUND"
