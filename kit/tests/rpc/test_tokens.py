"""Access and service tokens: what is accepted, and every way of being refused."""

import base64
import json
import time
import uuid
from types import SimpleNamespace

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kit import tokens
from kit.errors import TokenExpired, TokenInvalid
from kit.keys import KeySource, encode_key
from kit.principal import Principal
from kit.service_tokens import ServiceIdentity, ServiceTrust
from kit.testing.rpc import make_user, seed
from kit.tokens import AccessTokenSigner, AccessTokenVerifier

SEED = seed("users")
PRIVATE = Ed25519PrivateKey.from_private_bytes(SEED)
USER = make_user(tenant_id=uuid.uuid4(), role="agent")


def jwks(**seeds):
    keys = {kid: AccessTokenSigner(kid, raw).public_key_bytes for kid, raw in seeds.items()}
    return SimpleNamespace(
        keys=[SimpleNamespace(kty="OKP", crv="Ed25519", kid=kid, x=encode_key(raw)) for kid, raw in keys.items()]
    )


@pytest.fixture
def verifier():
    async def fetch():
        return jwks(k1=SEED)

    return AccessTokenVerifier(KeySource(fetch))


def forge(*, key=PRIVATE, header=None, drop=(), **claims):
    now = int(time.time())
    good = {
        "iss": "aerostic",
        "aud": "aerostic",
        "sub": str(USER.user_id),
        "role": "agent",
        "tid": str(USER.tenant_id),
        "sid": str(USER.session_id),
        "iat": now,
        "nbf": now,
        "exp": now + 900,
    }
    body = {name: value for name, value in (good | claims).items() if name not in drop}
    return tokens.encode(body, key, {"typ": "at+jwt", "kid": "k1"} | (header or {}))


async def test_signed_token_gives_the_user_back(verifier):
    token = AccessTokenSigner("k1", SEED).sign(USER)
    assert await verifier.verify(token) == USER
    assert await verifier.verify(token) == USER  # also when it is remembered


async def test_super_admin_has_no_tenant(verifier):
    admin = make_user(role="super_admin")
    assert await verifier.verify(AccessTokenSigner("k1", SEED).sign(admin)) == admin


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(lambda: forge(iss="elsewhere"), id="issuer"),
        pytest.param(lambda: forge(aud="aerostic-internal"), id="audience"),
        pytest.param(lambda: forge(aud=["aerostic", "other"]), id="several audiences"),
        pytest.param(lambda: forge(nbf=time.time() + 60), id="not yet valid"),
        pytest.param(lambda: forge(iat=time.time() + 60), id="issued in the future"),
        pytest.param(lambda: forge(sub="bob"), id="user id"),
        pytest.param(lambda: forge(sub=12), id="user id type"),
        pytest.param(lambda: forge(role=["admin"]), id="role type"),
        pytest.param(lambda: forge(tid="bob"), id="tenant id"),
        pytest.param(lambda: forge(tid=None), id="tenant id null"),
        pytest.param(lambda: forge(exp="soon"), id="expiry type"),
        pytest.param(lambda: forge(header={"typ": "JWT"}), id="type"),
        pytest.param(lambda: forge(header={"typ": "service+jwt"}), id="type of a service"),
        pytest.param(lambda: forge(header={"kid": "k2"}), id="unknown key"),
        pytest.param(lambda: forge(header={"crit": ["exp"]}), id="critical header"),
        pytest.param(lambda: forge(key=Ed25519PrivateKey.generate()), id="other key"),
        pytest.param(lambda: forge().rsplit(".", 1)[0] + ".", id="no signature"),
        pytest.param(lambda: forge()[:-3], id="cut off"),
        pytest.param(lambda: "", id="empty"),
        pytest.param(lambda: "a.b", id="two parts"),
        pytest.param(lambda: "ü" * 40, id="not ASCII"),
        pytest.param(lambda: "x" * 100_000, id="huge"),
        *[
            pytest.param(lambda claim=claim: forge(drop=[claim]), id=f"no {claim}")
            for claim in ("iss", "aud", "exp", "iat", "nbf", "sub", "role")
        ],
    ],
)
async def test_token_with_a_flaw_is_invalid(verifier, token):
    with pytest.raises(TokenInvalid):
        await verifier.verify(token())


def _unsigned(algorithm):
    parts = [{"typ": "at+jwt", "kid": "k1", "alg": algorithm}, jwt.decode(forge(), options={"verify_signature": False})]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, ""])


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "EdDSA", ""])
async def test_unsigned_token_is_invalid_whatever_algorithm_it_names(verifier, algorithm):
    with pytest.raises(TokenInvalid):
        await verifier.verify(_unsigned(algorithm))


@pytest.mark.parametrize("encoding", ["raw", "pem"])
async def test_public_key_used_as_shared_secret_is_invalid(verifier, encoding):
    public = PRIVATE.public_key()
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    secret = public.public_bytes_raw() if encoding == "raw" else public.public_bytes(serialization.Encoding.PEM, spki)
    claims = jwt.decode(forge(), options={"verify_signature": False})
    header, body = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in ({"typ": "at+jwt", "kid": "k1", "alg": "HS256"}, claims)
    )
    import hashlib
    import hmac

    mac = base64.urlsafe_b64encode(hmac.digest(secret, header + b"." + body, hashlib.sha256)).rstrip(b"=")
    with pytest.raises(TokenInvalid):
        await verifier.verify(b".".join([header, body, mac]).decode())


async def test_expired_token_is_told_apart(verifier):
    with pytest.raises(TokenExpired):
        await verifier.verify(forge(exp=time.time() - 11))


async def test_clocks_may_differ_by_ten_seconds(verifier):
    assert await verifier.verify(forge(exp=time.time() - 5)) == USER
    assert await verifier.verify(forge(nbf=time.time() + 5, iat=time.time() + 5)) == USER


async def test_remembered_token_expires_too(verifier, monkeypatch):
    token = forge()
    assert await verifier.verify(token) == USER
    now = time.time()
    monkeypatch.setattr(tokens.time, "time", lambda: now + 911)
    with pytest.raises(TokenExpired):
        await verifier.verify(token)


async def test_only_so_many_tokens_are_remembered(verifier, monkeypatch):
    monkeypatch.setattr(tokens, "_REMEMBERED_MAX", 3)
    for number in range(10):
        await verifier.verify(forge(jti=str(number)))
    assert len(verifier._known._memories) == 3


async def test_tampered_claims_are_invalid_also_after_the_original_was_seen(verifier):
    token = forge()
    await verifier.verify(token)
    header, _, signature = token.split(".")
    claims = jwt.decode(token, options={"verify_signature": False}) | {"role": "admin"}
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    with pytest.raises(TokenInvalid):
        await verifier.verify(f"{header}.{body}.{signature}")


class TestServiceTokens:
    sender = ServiceIdentity("messaging-sender", seed("messaging-sender"))

    def test_trusted_process_is_known_by_name(self):
        trust = ServiceTrust.from_json(json.dumps({"messaging-sender": self.sender.public_key}))
        assert trust.verify(self.sender.token()) == Principal.service("messaging-sender")

    def test_key_can_be_replaced_without_a_gap(self):
        old, new = self.sender, ServiceIdentity("messaging-sender", seed("the next one"))
        trust = ServiceTrust.from_json(json.dumps({"messaging-sender": [old.public_key, new.public_key]}))
        assert trust.verify(old.token()) == trust.verify(new.token())

    def test_name_of_another_is_refused(self):
        other = ServiceIdentity("messaging-inbox", seed("messaging-inbox"))
        impostor = ServiceIdentity("messaging-sender", seed("messaging-inbox"))
        keys = {"messaging-sender": self.sender.public_key, "messaging-inbox": other.public_key}
        trust = ServiceTrust.from_json(json.dumps(keys))
        with pytest.raises(TokenInvalid):
            trust.verify(impostor.token())

    def test_unknown_process_is_refused(self):
        with pytest.raises(TokenInvalid):
            ServiceTrust.from_json("{}").verify(self.sender.token())

    @pytest.mark.parametrize(
        ("claims", "header"),
        [
            ({"aud": "aerostic"}, {}),
            ({"exp": None}, {}),
            ({"iss": 7}, {}),
            ({}, {"typ": "at+jwt"}),
            ({}, {"typ": "JWT"}),
        ],
    )
    def test_token_for_another_purpose_is_refused(self, claims, header):
        now = int(time.time())
        good = {"iss": "messaging-sender", "aud": "aerostic-internal", "iat": now, "exp": now + 60}
        key = Ed25519PrivateKey.from_private_bytes(seed("messaging-sender"))
        body = good | claims
        if isinstance(body["iss"], str):
            token = tokens.encode(body, key, {"typ": "service+jwt"} | header)
        else:
            signed = jwt.PyJWS().encode(json.dumps(body).encode(), key, "EdDSA", {"typ": "service+jwt"})
            token = signed
        trust = ServiceTrust.from_json(json.dumps({"messaging-sender": self.sender.public_key}))
        with pytest.raises(TokenInvalid):
            trust.verify(token)

    def test_token_is_made_anew_before_it_expires(self, monkeypatch):
        identity = ServiceIdentity("gateway", seed("gateway"))
        now = time.time()
        first = identity.token()
        assert identity.token() == first
        for moved in (50, -3600):  # also when the clock is set back
            monkeypatch.setattr(time, "time", lambda moved=moved: now + moved)
            assert identity.token() != first

    def test_expired_token_is_refused_also_when_remembered(self, monkeypatch):
        trust = ServiceTrust.from_json(json.dumps({"messaging-sender": self.sender.public_key}))
        token = ServiceIdentity("messaging-sender", seed("messaging-sender")).token()
        trust.verify(token)
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 75)
        with pytest.raises(TokenExpired):
            trust.verify(token)

    @pytest.mark.parametrize("text", ["[]", '{"a": "short"}', '{"a": "' + "!" * 43 + '"}', "{", '{"a": 7}'])
    def test_malformed_setting_is_a_value_error(self, text):
        with pytest.raises(ValueError):  # noqa: PT011 (the setting's own error wraps it)
            ServiceTrust.from_json(text)
