"""Access tokens of users: who signs them, who verifies them, and what is in them.

The rules are those of RFC 8725: one algorithm, never the token's own; type, issuer and audience are always checked.
"""

import base64
import json
import time
import uuid
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from kit.errors import TokenExpired, TokenInvalid
from kit.keys import KeySource
from kit.principal import Principal

ACCESS_TYPE = "at+jwt"
ISSUER = "aerostic"
AUDIENCE = "aerostic"
ACCESS_SECONDS = 15 * 60
# Clocks of machines differ, and jump back when they are set right.
LEEWAY_SECONDS = 10
TOKEN_CHARACTERS_MAX = 4096

_ALGORITHM = "EdDSA"
_REMEMBERED_MAX = 4096


class AccessTokenSigner:
    """Makes access tokens with one key. Only svc-auth has one, and tests."""

    def __init__(self, kid: str, seed: bytes) -> None:
        """`seed`: the 32 bytes of an Ed25519 private key."""
        self._kid = kid
        self._key = Ed25519PrivateKey.from_private_bytes(seed)

    @property
    def public_key_bytes(self) -> bytes:
        """What goes into the JWK beside the kid."""
        return self._key.public_key().public_bytes_raw()

    def sign(self, principal: Principal, *, lifetime_seconds: float = ACCESS_SECONDS) -> str:
        """A token that says who this user is, in which workspace, session and role."""
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(principal.require_user()),
            "role": principal.role,
            "iat": now,
            "nbf": now,
            "exp": int(now + lifetime_seconds),
        }
        if principal.tenant_id:
            claims["tid"] = str(principal.tenant_id)
        if principal.session_id:
            claims["sid"] = str(principal.session_id)
        return encode(claims, self._key, {"typ": ACCESS_TYPE, "kid": self._kid})


class AccessTokenVerifier:
    """Turns access tokens into principals."""

    def __init__(self, keys: KeySource) -> None:
        self._keys = keys
        self._known = Remembered()

    async def verify(self, token: str) -> Principal:
        """The user of a token. Raises TokenInvalid, TokenExpired, or Unavailable while the keys cannot be had."""
        kid = unverified_header(token).get("kid")
        if not isinstance(kid, str):
            raise TokenInvalid
        # Asked also for tokens seen before: a key that was withdrawn ends its tokens.
        key = await self._keys.key(kid)
        if known := self._known.find(token, key):
            return known
        claims = decode(token, key, typ=ACCESS_TYPE, audience=AUDIENCE, require=("sub", "role", "nbf"))
        if claims["iss"] != ISSUER:
            raise TokenInvalid
        principal = _principal_of(claims)
        self._known.add(token, key, principal, expires_at=claims["exp"])
        return principal


@dataclass(frozen=True, slots=True)
class _Memory:
    key: Ed25519PublicKey
    principal: Principal
    expires_at: float


class Remembered:
    """Tokens verified before, by their exact text, until they expire: a signature costs 0.1 ms to verify, and a
    dashboard sends the same token with every call. Bounded; the oldest goes first.
    """

    def __init__(self) -> None:
        self._memories: dict[str, _Memory] = {}

    def find(self, token: str, key: Ed25519PublicKey) -> Principal | None:
        """None where the token is new, or was verified with another key. Raises TokenExpired."""
        memory = self._memories.get(token)
        if memory is None or memory.key is not key:
            return None
        if memory.expires_at <= time.time() - LEEWAY_SECONDS:
            del self._memories[token]
            raise TokenExpired
        return memory.principal

    def add(self, token: str, key: Ed25519PublicKey, principal: Principal, *, expires_at: float) -> None:
        if len(self._memories) >= _REMEMBERED_MAX:
            del self._memories[next(iter(self._memories))]
        self._memories[token] = _Memory(key, principal, expires_at)


def encode(claims: dict[str, Any], key: Ed25519PrivateKey, header: dict[str, str]) -> str:
    return jwt.encode(claims, key, _ALGORITHM, headers=header)


def unverified_header(token: str) -> dict[str, Any]:
    """What the token says of itself: good for choosing a key, never to be believed. Raises TokenInvalid."""
    return _unverified(token, part=0)


def unverified_claims(token: str) -> dict[str, Any]:
    """As `unverified_header`."""
    return _unverified(token, part=1)


def decode(token: str, key: Ed25519PublicKey, *, typ: str, audience: str, require: tuple[str, ...]) -> dict[str, Any]:
    """The claims of a token that this key signed for this purpose and that is valid now. The issuer is left to the
    caller. Raises TokenInvalid or TokenExpired.
    """
    try:
        decoded = jwt.decode_complete(
            token,
            key,
            algorithms=[_ALGORITHM],
            audience=audience,
            leeway=LEEWAY_SECONDS,
            options={"require": ["iss", "aud", "exp", "iat", *require], "strict_aud": True},
        )
    except jwt.ExpiredSignatureError as error:
        raise TokenExpired from error
    except jwt.InvalidTokenError as error:
        # Why it is not valid would help whoever forges; the reason stays in the exception's cause, for our logs.
        raise TokenInvalid from error
    if decoded["header"].get("typ") != typ:
        raise TokenInvalid
    claims: dict[str, Any] = decoded["payload"]
    return claims


def _unverified(token: str, *, part: int) -> dict[str, Any]:
    # Beside PyJWT, which takes 0.1 ms to read a token whose principal is remembered. It reads new ones strictly.
    parts = token.split(".")
    if len(token) > TOKEN_CHARACTERS_MAX or len(parts) != 3:
        raise TokenInvalid
    try:
        said = json.loads(base64.urlsafe_b64decode(parts[part] + "=" * (-len(parts[part]) % 4)))
    except (ValueError, RecursionError) as error:
        raise TokenInvalid from error
    if not isinstance(said, dict):
        raise TokenInvalid
    return said


def _principal_of(claims: dict[str, Any]) -> Principal:
    if not isinstance(claims["role"], str):
        raise TokenInvalid
    try:
        return Principal.user(
            user_id=uuid.UUID(claims["sub"]),
            role=claims["role"],
            tenant_id=uuid.UUID(claims["tid"]) if "tid" in claims else None,
            session_id=uuid.UUID(claims["sid"]) if "sid" in claims else None,
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise TokenInvalid from error
