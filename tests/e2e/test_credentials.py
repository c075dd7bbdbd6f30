"""Who may call what, in every call of the contracts: expired and forged tokens, strangers, and the wrong role."""

import base64
import json
import time
import uuid

import asyncpg
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from devstack.workspace import Workspace, refusal
from gateway.transcode.routes import Binding, bindings
from kit import access
from kit.crypto import KeyRing
from kit.principal import Principal
from kit.tokens import AccessTokenSigner, unverified_claims
from svc_auth import signing_keys

CLOSED = [each for each in bindings(access.all_methods()) if each.method.permission != access.PUBLIC]
EVERY_CLOSED_CALL = pytest.mark.parametrize("binding", CLOSED, ids=lambda b: f"{b.verb} {b.template.text}")


@pytest.fixture(scope="module")
async def people(product):
    """A workspace's admin, and by their roles the tokens of everybody who might try."""
    async with Workspace.create(product.url("gateway"), product.url("meta-emulator")) as shop:
        person = {"email": f"agent-{shop.email}", "password": shop.password}
        await shop.post("/v1/members", {**person, "name": "Agent", "role": "agent"})
        agent = await shop.post("/v1/auth/login", person)
        yield shop, {"admin": shop.token, "agent": agent["accessToken"]}


@pytest.fixture
async def signing_key(product) -> signing_keys.SigningKey:
    """The installation's own, as nobody outside has it."""
    database = await asyncpg.connect(product.database("auth").superuser_url)
    try:
        return await signing_keys.current(
            database, KeyRing.parse(product.settings["AEROSTIC_AUTH_KEY_ENCRYPTION_KEYS"])
        )
    finally:
        await database.close()


def principal_of(token: str) -> Principal:
    claims = unverified_claims(token)
    ids = {
        name: uuid.UUID(claims[claim])
        for name, claim in (("user_id", "sub"), ("tenant_id", "tid"), ("session_id", "sid"))
    }
    return Principal.user(role=claims["role"], **ids)


async def test_an_expired_token_opens_nothing(shop, signing_key) -> None:
    await shop.customer_writes("16505550800", "Hello")
    conversation = await shop.conversation_with("16505550800")
    good, signer = shop.token, AccessTokenSigner(signing_key.kid, signing_key.seed)
    shop.token = signer.sign(principal_of(good))
    assert (await shop.get("/v1/me"))["user"]["email"] == shop.email, "the key is the right one"
    shop.token = signer.sign(principal_of(good), lifetime_seconds=-60)
    for call in (
        shop.get("/v1/me"),
        shop.answer(conversation["id"], "Too late"),
        shop.stream().__aenter__(),
        shop.post("/v1/media", {}),
    ):
        refused = await refusal(call)
        assert (refused.status, refused.code) == (401, "TOKEN_EXPIRED")
        assert refused.headers["WWW-Authenticate"] == 'Bearer realm="aerostic", error="invalid_token"'
    shop.token = good
    assert len(await shop.messages(conversation["id"])) == 1


async def test_a_token_that_somebody_else_made_opens_nothing(shop, other_shop, signing_key) -> None:
    own = principal_of(shop.token)
    header, payload, signature = shop.token.split(".")
    claims = unverified_claims(shop.token)
    public = Ed25519PrivateKey.from_private_bytes(signing_key.seed).public_key().public_bytes_raw()
    elsewhere = {**claims, "tid": other_shop.tenant_id}
    forged = {
        "another key under our key's id": AccessTokenSigner(signing_key.kid, bytes(32)).sign(own),
        "a key id that we do not have": AccessTokenSigner("0" * 16, signing_key.seed).sign(own),
        "another workspace, the old signature": f"{header}.{encoded(elsewhere)}.{signature}",
        "a higher role, the old signature": f"{header}.{encoded({**claims, 'role': 'super_admin'})}.{signature}",
        "no signature": f"{encoded({'alg': 'none', 'typ': 'at+jwt', 'kid': signing_key.kid})}.{payload}.",
        "our public key as a shared secret": jwt.encode(
            claims, base64.b64encode(public), "HS256", headers={"kid": signing_key.kid, "typ": "at+jwt"}
        ),
        "of another kind": signed(signing_key, claims, typ="JWT"),
        "for another audience": signed(signing_key, {**claims, "aud": "elsewhere"}),
        "of another issuer": signed(signing_key, {**claims, "iss": "elsewhere"}),
        "not valid yet": signed(signing_key, {**claims, "nbf": int(time.time()) + 3600}),
        "without an end": signed(signing_key, {name: claims[name] for name in claims if name != "exp"}),
        "endless": "x." * 10_000,
    }
    real = shop.token
    for what, token in forged.items():
        shop.token = token
        refused = await refusal(shop.get("/v1/conversations"))
        assert refused is not None, what
        assert (refused.status, refused.code) == (401, "TOKEN_INVALID"), what
    shop.token = real
    assert (await shop.get("/v1/conversations"))["conversations"] == []


@EVERY_CLOSED_CALL
async def test_every_call_asks_who_is_calling(people, binding: Binding) -> None:
    shop, _ = people
    stranger = Workspace(shop.http, shop.api, shop.emulator)
    for token, code in (("", "TOKEN_MISSING"), ("a.b.c", "TOKEN_INVALID")):
        stranger.token = token
        refused = await refusal(stranger.call(binding.verb, path_of(binding), body_of(binding)))
        assert (refused.status, refused.code) == (401, code)


@EVERY_CLOSED_CALL
async def test_every_call_asks_for_its_permission(people, super_admin, binding: Binding) -> None:
    shop, tokens = people
    before = await state_of(shop)
    permission = binding.method.permission
    for role, token in {**tokens, "super_admin": super_admin.token}.items():
        caller = Workspace(shop.http, shop.api, shop.emulator, token=token)
        refused = await refusal(caller.call(binding.verb, path_of(binding), body_of(binding)))
        if permission == access.AUTHENTICATED or access.granted(role, permission):
            assert refused is None or refused.status not in {401, 403}
        else:
            assert (refused.status, refused.code) == (403, "PERMISSION_DENIED"), role
            assert permission in refused.problem["detail"]
    assert await state_of(shop) == before


async def test_an_agent_answers_but_does_not_manage(people) -> None:
    shop, tokens = people
    agent = Workspace(shop.http, shop.api, shop.emulator, token=tokens["agent"])
    await shop.customer_writes("16505550801", "Hello")
    conversation = await shop.conversation_with("16505550801")
    sent = await agent.answer(conversation["id"], "Hello, an agent here")
    await shop.message_reaches(sent["id"], "read")
    person = {"email": f"x-{shop.email}", "name": "X", "password": shop.password, "role": "admin"}
    credentials = {name: shop.number[name] for name in ("wabaId", "phoneNumberId", "accessToken")}
    for call in (
        agent.post("/v1/members", person),
        agent.post("/v1/whatsapp-accounts", credentials),
        agent.call("DELETE", f"/v1/whatsapp-accounts/{shop.account['id']}"),
    ):
        refused = await refusal(call)
        assert (refused.status, refused.code) == (403, "PERMISSION_DENIED")
    assert person["email"] not in [member["email"] for member in (await shop.get("/v1/members"))["members"]]
    assert len((await shop.get("/v1/whatsapp-accounts"))["whatsappAccounts"]) == 1


async def state_of(shop: Workspace) -> tuple:
    members = (await shop.get("/v1/members"))["members"]
    found = (await shop.get("/v1/whatsapp-accounts"))["whatsappAccounts"]
    # Looked at by the product itself, now and then.
    accounts = [{name: value for name, value in each.items() if name != "checkTime"} for each in found]
    return members, accounts, await shop.get("/v1/tenant")


def path_of(binding: Binding) -> str:
    """With ids that nobody has."""
    path = binding.template.text
    for variable in binding.template.variables:
        path = path.replace(f"{{{variable}}}", str(uuid.uuid4()))
    return path


def body_of(binding: Binding) -> dict | None:
    return {} if binding.body else None


def encoded(claims: dict) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()


def signed(key: signing_keys.SigningKey, claims: dict, *, typ: str = "at+jwt") -> str:
    return jwt.encode(
        claims, Ed25519PrivateKey.from_private_bytes(key.seed), "EdDSA", headers={"kid": key.kid, "typ": typ}
    )
