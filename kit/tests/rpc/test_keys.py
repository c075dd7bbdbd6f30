"""The key source: rotation, outages and floods of unknown keys."""

import asyncio
import uuid
from types import SimpleNamespace

import pytest

from kit import deadlines
from kit import keys as keys_module
from kit.errors import TokenInvalid, Unavailable
from kit.keys import KeySource, encode_key
from kit.testing.rpc import make_user, seed
from kit.tokens import AccessTokenSigner, AccessTokenVerifier

USER = make_user(tenant_id=uuid.uuid4())


class Auth:
    """svc-auth as the key source sees it: its keys, whether it answers, and how often it was asked."""

    def __init__(self, *kids):
        self.signers = {kid: AccessTokenSigner(kid, seed(kid)) for kid in kids}
        self.asked = 0
        self.away = False
        self.asked_once = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    def add(self, kid):
        self.signers[kid] = AccessTokenSigner(kid, seed(kid))

    def token(self, kid):
        return AccessTokenSigner(kid, seed(kid)).sign(USER)

    async def jwks(self):
        self.asked += 1
        self.asked_once.set()
        await self.gate.wait()
        if self.away:
            raise ConnectionRefusedError("svc-auth is away")
        return SimpleNamespace(
            keys=[
                SimpleNamespace(kty="OKP", crv="Ed25519", kid=kid, x=encode_key(signer.public_key_bytes))
                for kid, signer in self.signers.items()
            ]
        )


class Clock:
    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(keys_module, "_now", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


async def test_keys_are_fetched_once_for_many_callers():
    auth = Auth("k1")
    auth.gate.clear()
    verifier = AccessTokenVerifier(KeySource(auth.jwks))
    callers = [asyncio.create_task(verifier.verify(auth.token("k1"))) for _ in range(50)]
    await asyncio.sleep(0)
    auth.gate.set()
    assert await asyncio.gather(*callers) == [USER] * 50
    assert auth.asked == 1


async def test_caller_that_goes_away_does_not_end_the_fetch_for_others():
    auth = Auth("k1")
    auth.gate.clear()
    source = KeySource(auth.jwks)
    first, second = (asyncio.create_task(source.key("k1")) for _ in range(2))
    await auth.asked_once.wait()
    first.cancel()
    auth.gate.set()
    assert await second
    assert auth.asked == 1


async def test_fetch_is_not_cut_short_by_its_first_callers_deadline():
    left = []

    async def jwks():
        left.append(deadlines.remaining_seconds())
        return await Auth("k1").jwks()

    async def within():
        deadlines.start(0.001)
        return await KeySource(jwks).key("k1")

    assert await asyncio.create_task(within())
    assert left == [None]


async def test_new_key_is_fetched_when_first_seen(clock):
    auth = Auth("k1")
    verifier = AccessTokenVerifier(KeySource(auth.jwks, retry_seconds=2))
    assert await verifier.verify(auth.token("k1")) == USER
    auth.add("k2")
    clock.now += 3
    assert await verifier.verify(auth.token("k2")) == USER
    assert await verifier.verify(auth.token("k1")) == USER


async def test_unknown_keys_cannot_flood_svc_auth(clock):
    auth = Auth("k1")
    source = KeySource(auth.jwks, retry_seconds=2)
    for number in range(100):
        with pytest.raises(TokenInvalid):
            await source.key(f"forged-{number}")
    assert auth.asked == 1
    clock.now += 3
    with pytest.raises(TokenInvalid):
        await source.key("forged")
    assert auth.asked == 2


async def test_withdrawn_key_ends_its_tokens_even_those_seen_before(clock):
    auth = Auth("k1", "k2")
    verifier = AccessTokenVerifier(KeySource(auth.jwks, refresh_seconds=300))
    token = auth.token("k1")
    assert await verifier.verify(token) == USER
    del auth.signers["k1"]
    clock.now += 601
    with pytest.raises(TokenInvalid):
        await verifier.verify(token)


async def test_known_keys_are_renewed_beside_the_callers(clock):
    auth = Auth("k1")
    source = KeySource(auth.jwks, refresh_seconds=300)
    await source.key("k1")
    clock.now += 301
    auth.gate.clear()  # the renewal hangs, and nobody waits for it
    assert await source.key("k1")
    auth.gate.set()
    await source._refreshing
    assert auth.asked == 2


@pytest.mark.parametrize("age", [301, 100_000])
async def test_known_keys_work_on_while_svc_auth_is_away(clock, age):
    auth = Auth("k1")
    verifier = AccessTokenVerifier(KeySource(auth.jwks, refresh_seconds=300))
    assert await verifier.verify(auth.token("k1")) == USER
    auth.away = True
    for _ in range(3):
        clock.now += age
        assert await verifier.verify(auth.token("k1")) == USER


async def test_token_that_cannot_be_checked_is_neither_valid_nor_invalid(clock):
    auth = Auth("k1")
    auth.away = True
    verifier = AccessTokenVerifier(KeySource(auth.jwks))
    for _ in range(2):  # also within the pause between two attempts
        with pytest.raises(Unavailable):
            await verifier.verify(auth.token("k1"))
    auth.away = False
    clock.now += 3
    assert await verifier.verify(auth.token("k1")) == USER


async def test_hanging_svc_auth_is_given_up(monkeypatch):
    monkeypatch.setattr(keys_module, "_FETCH_SECONDS_MAX", 0.05)
    auth = Auth("k1")
    auth.gate.clear()
    with pytest.raises(Unavailable):
        await KeySource(auth.jwks).key("k1")


async def test_keys_of_other_kinds_are_left_alone():
    async def jwks():
        good = SimpleNamespace(kty="OKP", crv="Ed25519", kid="k1", x=encode_key(b"k" * 32))
        return SimpleNamespace(
            keys=[
                SimpleNamespace(kty="RSA", crv="", kid="r", x=""),
                SimpleNamespace(kty="OKP", crv="X25519", kid="x", x=""),
                good,
            ]
        )

    source = KeySource(jwks)
    assert await source.key("k1")
    with pytest.raises(TokenInvalid):
        await source.key("x")


async def test_malformed_answer_keeps_the_keys_at_hand(clock):
    auth = Auth("k1")
    source = KeySource(auth.jwks, refresh_seconds=300)
    await source.key("k1")
    auth.signers["k1"] = SimpleNamespace(public_key_bytes=b"short")
    clock.now += 601
    assert await source.key("k1")
