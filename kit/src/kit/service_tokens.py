"""Tokens by which our own processes know each other: short-lived, signed by the caller, checked against a list of
trusted public keys. The network is not trusted, and no secret is shared.
"""

import json
import time
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from kit import tokens
from kit.errors import TokenInvalid
from kit.keys import decode_key, encode_key
from kit.principal import Principal

SERVICE_TYPE = "service+jwt"
AUDIENCE = "aerostic-internal"
LIFETIME_SECONDS = 60
# A token is renewed while it still has this long to live, so that it does not expire under way.
_RENEW_SECONDS = 20


class ServiceIdentity:
    """One process: its name and the key that proves it."""

    def __init__(self, name: str, seed: bytes) -> None:
        """`seed`: the 32 bytes of an Ed25519 private key."""
        self.name = name
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._token = ""
        self._renew_at = 0.0

    @property
    def public_key(self) -> str:
        """What the others' list of trusted processes says beside the name."""
        return encode_key(self.public_key_bytes)

    @property
    def public_key_bytes(self) -> bytes:
        return self._key.public_key().public_bytes_raw()

    def token(self) -> str:
        """A token to call with now."""
        now = time.time()
        # A clock that was set back must not keep us on a token that the others find too young or expired.
        if not self._renew_at - LIFETIME_SECONDS <= now < self._renew_at:
            claims = {"iss": self.name, "aud": AUDIENCE, "iat": int(now), "exp": int(now) + LIFETIME_SECONDS}
            self._token = tokens.encode(claims, self._key, {"typ": SERVICE_TYPE})
            self._renew_at = now + LIFETIME_SECONDS - _RENEW_SECONDS
        return self._token


class ServiceTrust:
    """The processes that may call, with their public keys. A name may have two while its key is being replaced."""

    def __init__(self, keys: Mapping[str, tuple[bytes, ...]]) -> None:
        self._keys = {
            name: tuple(Ed25519PublicKey.from_public_bytes(raw) for raw in several) for name, several in keys.items()
        }
        self._known = tokens.Remembered()

    @classmethod
    def from_json(cls, text: str) -> "ServiceTrust":
        """Read the setting: {"messaging-sender": "<key>", "gateway": ["<key>", "<next key>"]}. Raises ValueError."""
        named: dict[str, str | list[str]] = json.loads(text)
        try:
            several = {name: [keys] if isinstance(keys, str) else keys for name, keys in named.items()}
            return cls({name: tuple(decode_key(key) for key in keys) for name, keys in several.items()})
        except (TypeError, AttributeError) as error:
            raise ValueError("the trusted services are a JSON object of names and public keys") from error

    def verify(self, token: str) -> Principal:
        """The process that made this token. Raises TokenInvalid or TokenExpired."""
        name = tokens.unverified_claims(token).get("iss")
        refusal = TokenInvalid()
        for key in self._keys.get(name, ()) if isinstance(name, str) else ():
            if known := self._known.find(token, key):
                return known
            try:
                claims = tokens.decode(token, key, typ=SERVICE_TYPE, audience=AUDIENCE, require=())
            except TokenInvalid as error:
                refusal = error
                continue
            principal = Principal.service(claims["iss"])
            self._known.add(token, key, principal, expires_at=claims["exp"])
            return principal
        raise refusal
