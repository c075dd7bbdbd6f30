"""Tokens: sealed at rest, absent from all that callers, events and operators read, rotated with their keys."""

import pytest
from aiohttp import web
from grpc import StatusCode

from kit.crypto import DecryptionFailed, KeyUnknown
from svc_tenants.rewrapping import rewrap_all
from svc_tenants.sealed_tokens import SealedToken


async def everything_stored(installation):
    """Every row of every table, as text and as bytes."""
    tables = await installation.look("SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 2200")
    stored = b""
    for table in tables:
        for row in await installation.look(f"SELECT * FROM {table['relname']}"):
            for value in row.values():
                stored += value if isinstance(value, bytes) else str(value).encode()
    return stored


async def stored_token(installation, tenant_id):
    [row] = await installation.look(
        "SELECT t.tenant_id, t.whatsapp_account_id, k.wrapped, t.sealed FROM whatsapp_tokens t"
        " JOIN data_keys k ON k.tenant_id = t.tenant_id AND k.id = t.data_key_id WHERE t.tenant_id = $1",
        tenant_id,
    )
    return SealedToken(*row)


async def test_a_token_stands_nowhere_in_clear(installation, meta, tenant_id):
    number = meta.number()
    old = number.token.value
    account = await installation.connect(tenant_id, number)
    await installation.connect(tenant_id, number, access_token=number.new_token())
    stored = await everything_stored(installation)
    assert account.phone_number_id.encode() in stored
    assert old.encode() not in stored
    assert number.token.value.encode() not in stored
    assert (await stored_token(installation, tenant_id)).open(installation.keys) == number.token.value


@pytest.mark.parametrize("status", [400, 503])
async def test_a_token_that_meta_quotes_is_blotted_out(installation, meta, tenant_id, status):
    number = meta.number()
    token = number.token.value

    async def quote(request):
        error = {"message": f"Malformed access token {token}", "code": 190, "error_data": {"details": f"({token})"}}
        return web.json_response({"error": error}, status=status)

    meta.answer("GET waba", quote)
    error = await installation.refusal(installation.connect(tenant_id, number))
    assert "Malformed access token …" in error.message
    assert token not in f"{error.message} {error.metadata}"


async def test_an_invalid_token_that_meta_quotes_is_blotted_out(installation, meta, tenant_id):
    token = "EAA" + "x" * 500

    async def quote(request):
        error = {"message": f"Cannot parse access token {token}", "code": 190}
        return web.json_response({"data": {"is_valid": False, "error": error}})

    meta.answer("GET debug_token", quote)
    error = await installation.refusal(installation.connect(tenant_id, meta.number(), access_token=token))
    assert error.message.endswith("Cannot parse access token …")
    assert "xxx" not in f"{error.message} {error.metadata}"


async def test_the_token_follows_no_redirect(installation, meta, tenant_id):
    heard = []

    async def elsewhere(request):
        heard.append(request)
        return web.json_response({})

    async def redirect(request):
        raise web.HTTPFound(f"{meta.url}/elsewhere?{request.query_string}")

    meta.answer("GET elsewhere", elsewhere)
    meta.answer("GET debug_token", redirect)
    await installation.refusal(installation.connect(tenant_id, meta.number()))
    assert heard == []


class TestAtRest:
    async def test_a_sealed_token_opens_only_for_its_tenant_and_account(self, installation, meta):
        first, second = await installation.tenant(), await installation.tenant()
        await installation.connect(first, meta.number())
        await installation.connect(second, meta.number())
        one, other = await stored_token(installation, first), await stored_token(installation, second)
        for moved in (
            SealedToken(other.tenant_id, one.account_id, one.wrapped_key, one.sealed),
            SealedToken(one.tenant_id, other.account_id, one.wrapped_key, one.sealed),
            SealedToken(one.tenant_id, one.account_id, one.wrapped_key, other.sealed),
            SealedToken(other.tenant_id, other.account_id, one.wrapped_key, other.sealed),
            SealedToken(one.tenant_id, one.account_id, one.wrapped_key, one.sealed[:-1] + bytes([one.sealed[-1] ^ 1])),
        ):
            with pytest.raises(DecryptionFailed):
                moved.open(installation.keys)

    async def test_a_tenant_has_one_data_key_for_all_its_tokens(self, installation, meta, tenant_id):
        for _ in range(3):
            await installation.connect(tenant_id, meta.number())
        assert len(await installation.look("SELECT 1 FROM data_keys WHERE tenant_id = $1", tenant_id)) == 1

    async def test_a_key_that_is_gone_is_a_defect_without_detail(self, postgres, meta, install, key_ring):
        database, number = postgres.database("tenants"), meta.number()
        async with install(database, meta, keys=key_ring("k1")) as installation:
            await installation.connect(await installation.tenant(), number)
        async with install(database, meta, keys=key_ring("k2")) as installation:
            error = await installation.refusal(installation.credentials(number.number.id))
            assert (error.code, error.reason) == (StatusCode.INTERNAL, "INTERNAL")
            assert "k1" not in error.message

    async def test_a_tenant_whose_key_is_gone_connects_again(self, postgres, meta, install, key_ring):
        database, number = postgres.database("tenants"), meta.number()
        async with install(database, meta, keys=key_ring("k1")) as installation:
            tenant_id = await installation.tenant()
            await installation.connect(tenant_id, number)
        async with install(database, meta, keys=key_ring("k2")) as installation:
            await installation.connect(tenant_id, number, access_token=number.new_token())
            assert (await installation.credentials(number.number.id)).access_token == number.token.value


class TestRotation:
    async def test_after_rewrapping_the_old_key_may_go(self, postgres, meta, install, key_ring):
        database = postgres.fresh_database("tenants")
        numbers = [meta.number() for _ in range(3)]
        async with install(database, meta, keys=key_ring("old")) as installation:
            for number in numbers:
                await installation.connect(await installation.tenant(), number)
            sealed = await installation.look("SELECT sealed FROM whatsapp_tokens ORDER BY tenant_id")
            await installation.tenant("Without a number")
        async with install(database, meta, keys=key_ring("new", "old")) as installation:
            assert (await installation.credentials(numbers[0].number.id)).access_token == numbers[0].token.value
            late = meta.number()
            await installation.connect(await installation.tenant(), late)
            done = await rewrap_all(installation.db, installation.keys)
            assert (done.rewrapped, done.unreadable) == (3, 0)
            again = await rewrap_all(installation.db, installation.keys)
            assert (again.rewrapped, again.unreadable) == (0, 0)
        async with install(database, meta, keys=key_ring("new")) as installation:
            for number in (*numbers, late):
                assert (await installation.credentials(number.number.id)).access_token == number.token.value
            rows = await installation.look("SELECT sealed FROM whatsapp_tokens ORDER BY tenant_id")
            assert {row["sealed"] for row in sealed} < {row["sealed"] for row in rows}
        database.drop()

    async def test_a_data_key_that_no_key_opens_is_told_and_stops_nobody_else(self, postgres, meta, install, key_ring):
        database = postgres.fresh_database("tenants")
        lost, kept = meta.number(), meta.number()
        async with install(database, meta, keys=key_ring("lost")) as installation:
            await installation.connect(await installation.tenant(), lost)
        async with install(database, meta, keys=key_ring("old")) as installation:
            await installation.connect(await installation.tenant(), kept)
        async with install(database, meta, keys=key_ring("new", "old")) as installation:
            done = await rewrap_all(installation.db, installation.keys)
            assert (done.rewrapped, done.unreadable) == (1, 1)
        async with install(database, meta, keys=key_ring("new")) as installation:
            assert (await installation.credentials(kept.number.id)).access_token == kept.token.value
            [row] = await installation.look(
                "SELECT t.tenant_id, t.whatsapp_account_id, k.wrapped, t.sealed FROM whatsapp_tokens t"
                " JOIN data_keys k ON k.id = t.data_key_id JOIN connected_numbers n USING (whatsapp_account_id)"
                " WHERE n.phone_number_id = $1",
                lost.number.id,
            )
            with pytest.raises(KeyUnknown):
                SealedToken(*row).open(installation.keys)
        database.drop()
