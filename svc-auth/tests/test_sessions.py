"""Logging in, carrying a session on, ending it; theft, throttles, suspension and key rotation."""

import asyncio
import base64
import uuid

import asyncpg
import jwt
import pytest
from aerostic.auth.v1 import auth_service_pb2 as pb

from kit.errors import RemoteError
from kit.service_tokens import ServiceIdentity
from kit.testing.rpc import seed
from svc_auth import signing_keys, throttle, users
from svc_auth.signing_in import SELF

PASSWORD = "correct horse"


async def register(auth, email: str = "ana@example.com") -> pb.SessionTokens:
    return await auth.call(
        "Register", pb.RegisterRequest(workspace_name="Shop", name="Ana", email=email, password=PASSWORD)
    )


async def log_in(auth, email: str = "ana@example.com", password: str = PASSWORD, **more: str) -> pb.SessionTokens:
    return await auth.call("Login", pb.LoginRequest(email=email, password=password, **more))


async def log_in_from(auth, address: str, email: str = "ana@example.com", token: str | None = None) -> pb.SessionTokens:
    """A log-in through the gateway, or by the holder of a token. Only the known e-mail's password is right."""
    password = PASSWORD if email == "ana@example.com" else "a guess"
    token = auth.identities["gateway"].token() if token is None else token
    return await auth.call_from(address, "Login", pb.LoginRequest(email=email, password=password), token=token)


async def refresh(auth, token: str) -> pb.SessionTokens:
    return await auth.call("RefreshSession", pb.RefreshSessionRequest(refresh_token=token))


async def refused(call) -> RemoteError:
    with pytest.raises(RemoteError) as error:
        await call
    return error.value


async def execute(auth, statement: str) -> None:
    connection = await asyncpg.connect(auth.database.superuser_url)
    await connection.execute(statement)
    await connection.close()


async def test_logging_in_opens_a_session_of_its_own(auth) -> None:
    first, second = await register(auth), await log_in(auth, "ANA@example.com")
    claims = jwt.decode(second.access_token, options={"verify_signature": False})
    assert claims["tid"] == first.workspace.id
    assert claims["role"] == "admin"
    assert claims["exp"] - claims["iat"] == second.expires_in.seconds == 900
    assert claims["sid"] != jwt.decode(first.access_token, options={"verify_signature": False})["sid"]


async def test_wrong_password_and_unknown_email_look_alike(auth) -> None:
    await register(auth)
    wrong = await refused(log_in(auth, password="wrong password"))
    unknown = await refused(log_in(auth, "nobody@example.com"))
    assert (wrong.reason, wrong.message) == (unknown.reason, unknown.message)
    assert wrong.reason == "CREDENTIALS_WRONG"


async def test_failed_log_ins_are_throttled_per_account_and_then_forgiven(auth) -> None:
    await register(auth)
    for _ in range(throttle.FREE_FAILURES["email"]):
        assert (await refused(log_in(auth, password="guess"))).reason == "CREDENTIALS_WRONG"
    await auth.prolong_blocks()
    blocked = await refused(log_in(auth))
    assert blocked.reason == "LOGIN_THROTTLED"
    assert blocked.retry_after >= 1
    await execute(auth, "UPDATE login_failures SET blocked_until = now()")
    await log_in(auth)
    assert (await refused(log_in(auth, password="guess"))).reason == "CREDENTIALS_WRONG"


async def test_failed_log_ins_are_throttled_per_address_that_the_gateway_names(auth) -> None:
    await register(auth)
    for number in range(throttle.FREE_FAILURES["address"]):
        error = await refused(log_in_from(auth, "192.0.2.1", email=f"nobody{number}@example.com"))
        assert error.reason == "CREDENTIALS_WRONG"
    await auth.prolong_blocks()
    assert (await refused(log_in_from(auth, "192.0.2.1"))).reason == "LOGIN_THROTTLED"
    await log_in_from(auth, "192.0.2.2")


@pytest.mark.parametrize("who", ["nobody", "a user", "svc-tenants", "somebody who calls himself gateway"])
async def test_an_address_that_anybody_else_names_is_not_believed(auth, who) -> None:
    tokens = await register(auth)
    token = {
        "nobody": "",
        "a user": tokens.access_token,
        "svc-tenants": ServiceIdentity("svc-tenants", seed("svc-tenants")).token(),
        "somebody who calls himself gateway": ServiceIdentity("gateway", seed("a forger")).token(),
    }[who]
    for number in range(throttle.FREE_FAILURES["address"] + 1):
        error = await refused(log_in_from(auth, "192.0.2.1", email=f"nobody{number}@example.com", token=token))
        assert error.reason == "CREDENTIALS_WRONG"
    # The address is free for those who are there.
    await log_in_from(auth, "192.0.2.1")


async def test_a_refresh_token_works_once_and_gives_the_next(auth) -> None:
    tokens = await register(auth)
    first = await refresh(auth, tokens.refresh_token)
    second = await refresh(auth, first.refresh_token)
    assert len({tokens.refresh_token, first.refresh_token, second.refresh_token}) == 3
    me = await auth.call("GetMe", pb.GetMeRequest(), token=second.access_token)
    assert me.user.id == tokens.user.id


async def test_reusing_a_refresh_token_ends_the_session_for_both_users_of_it(auth) -> None:
    stolen = await register(auth)
    owner = await refresh(auth, stolen.refresh_token)
    await execute(auth, "UPDATE refresh_tokens SET used_at = used_at - interval '1 minute'")
    assert (await refused(refresh(auth, stolen.refresh_token))).reason == "REFRESH_TOKEN_INVALID"
    assert (await refused(refresh(auth, owner.refresh_token))).reason == "REFRESH_TOKEN_INVALID"
    other = await log_in(auth)
    assert (await refresh(auth, other.refresh_token)).access_token, "other sessions go on"


async def test_two_tabs_refreshing_at_once_both_go_on(auth) -> None:
    tokens = await register(auth)
    both = await asyncio.gather(*(refresh(auth, tokens.refresh_token) for _ in range(2)))
    assert all(await asyncio.gather(*(refresh(auth, each.refresh_token) for each in both)))


async def test_expired_mangled_and_foreign_refresh_tokens_are_refused(auth) -> None:
    tokens = await register(auth)
    raw = bytearray(base64.urlsafe_b64decode(tokens.refresh_token))
    raw[-1] ^= 1
    mangled = base64.urlsafe_b64encode(bytes(raw)).decode()
    swapped = base64.urlsafe_b64encode(uuid.uuid4().bytes + bytes(raw[16:])).decode()
    for token in ("rubbish", "ü", "A" * 88, mangled, swapped):
        assert (await refused(refresh(auth, token))).reason == "REFRESH_TOKEN_INVALID"
    await execute(auth, "UPDATE refresh_tokens SET expires_at = now()")
    assert (await refused(refresh(auth, tokens.refresh_token))).reason == "REFRESH_TOKEN_INVALID"


async def test_logging_out_ends_the_session_and_may_be_repeated(auth) -> None:
    tokens = await register(auth)
    for _ in range(2):
        await auth.call("Logout", pb.LogoutRequest(refresh_token=tokens.refresh_token))
    assert (await refused(refresh(auth, tokens.refresh_token))).reason == "REFRESH_TOKEN_INVALID"
    await auth.call("Logout", pb.LogoutRequest(refresh_token="rubbish"))
    other = await log_in(auth)
    await auth.call("Logout", pb.LogoutRequest(), token=other.access_token)
    assert (await refused(refresh(auth, other.refresh_token))).reason == "REFRESH_TOKEN_INVALID"


async def test_a_suspended_workspace_lets_nobody_in_or_on(auth) -> None:
    tokens = await register(auth)
    auth.tenants.suspended.add(uuid.UUID(tokens.workspace.id))
    auth.parts.workspaces._known.clear()
    assert (await refused(log_in(auth))).reason == "TENANT_SUSPENDED"
    assert (await refused(refresh(auth, tokens.refresh_token))).reason == "TENANT_SUSPENDED"


async def test_known_workspaces_let_people_in_while_svc_tenants_is_away(auth) -> None:
    await register(auth)
    auth.tenants.is_away = True
    known = auth.parts.workspaces._known
    for tenant, (workspace, asked_at) in list(known.items()):
        known[tenant] = (workspace, asked_at - 60)
    assert (await log_in(auth)).access_token


async def test_super_admins_log_in_without_a_workspace(auth) -> None:
    async with auth.parts.db.begin(SELF) as tx:
        password_hash = await auth.parts.passwords.hash(PASSWORD)
        await users.make_super_admin(tx, email="root@example.com", name="Root", password_hash=password_hash)
    tokens = await log_in(auth, "root@example.com")
    assert (tokens.role, tokens.HasField("workspace")) == ("super_admin", False)
    again = await refresh(auth, tokens.refresh_token)
    me = await auth.call("GetMe", pb.GetMeRequest(), token=again.access_token)
    assert list(me.permissions) == ["platform.*"]


async def test_a_rotated_key_is_published_before_it_signs_and_verifies_after(auth) -> None:
    before = await register(auth)
    async with auth.parts.db.begin(SELF) as tx:
        new = await signing_keys.rotate(tx, auth.parts.ring)
    keys = await auth.call("GetJwks", pb.GetJwksRequest())
    assert new in [key.kid for key in keys.keys]
    assert jwt.get_unverified_header((await log_in(auth)).access_token)["kid"] != new
    await execute(auth, "UPDATE signing_keys SET signs_from = signs_from - interval '16 minutes'")
    async with auth.parts.db.begin(SELF) as tx:
        await signing_keys.ensure(tx, auth.parts.ring)
    after = await log_in(auth)
    assert jwt.get_unverified_header(after.access_token)["kid"] == new
    for tokens in (before, after):
        assert (await auth.call("GetMe", pb.GetMeRequest(), token=tokens.access_token)).user.id


async def test_replicas_starting_together_make_one_key(auth) -> None:
    await execute(auth, "DELETE FROM signing_keys")

    async def start() -> None:
        async with auth.parts.db.begin(SELF) as tx:
            await signing_keys.ensure(tx, auth.parts.ring)

    await asyncio.gather(*(start() for _ in range(5)))
    assert len((await auth.call("GetJwks", pb.GetJwksRequest())).keys) == 1


async def test_private_keys_are_sealed(auth) -> None:
    async with auth.parts.db.begin(SELF) as tx:
        key = await signing_keys.current(tx, auth.parts.ring)
        assert key.seed not in await tx.fetchval("SELECT sealed_seed FROM signing_keys")
