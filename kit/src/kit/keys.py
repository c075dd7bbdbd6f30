"""The public keys that verify access tokens: fetched from svc-auth, kept, and refreshed when they change."""

import asyncio
import base64
import binascii
import contextvars
import math
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from kit.errors import TokenInvalid, Unavailable

log = structlog.get_logger()

_FETCH_SECONDS_MAX = 5.0
_KEYS_MAX = 100


class Jwk(Protocol):
    """A public key (RFC 7517), such as aerostic.auth.v1.Jwk."""

    kty: str
    crv: str
    kid: str
    x: str


class JwkSet(Protocol):
    """The answer of svc-auth's GetJwks, or anything of its shape."""

    @property
    def keys(self) -> Iterable[Jwk]: ...


class KeySource:
    """Knows the current keys. Works on with the keys it has while svc-auth is away.

    A key id it does not know makes it ask, at most once per `retry_seconds`, so that forged ids cannot flood svc-auth.
    Known keys are asked for again every `refresh_seconds` of use; one that is gone by then verifies nothing any more.
    """

    def __init__(
        self, fetch: Callable[[], Awaitable[JwkSet]], *, refresh_seconds: float = 300, retry_seconds: float = 2
    ) -> None:
        self._fetch = fetch
        self._refresh_seconds = refresh_seconds
        self._retry_seconds = retry_seconds
        self._keys: dict[str, Ed25519PublicKey] = {}
        self._fetched_at = -math.inf
        self._tried_at = -math.inf
        self._failure: BaseException | None = None
        self._refreshing: asyncio.Task[None] | None = None

    async def key(self, kid: str) -> Ed25519PublicKey:
        """The key of this id. Raises TokenInvalid when there is none, Unavailable when that cannot be known."""
        age = _now() - self._fetched_at
        if kid not in self._keys or age > 2 * self._refresh_seconds:
            await self._refresh()
        elif age > self._refresh_seconds:
            self._begin_refresh()
        if key := self._keys.get(kid):
            return key
        if self._failure is not None:
            raise Unavailable("The keys that verify access tokens cannot be fetched; try again shortly.")
        raise TokenInvalid

    async def _refresh(self) -> None:
        if refreshing := self._begin_refresh():
            # Shielded: one caller that goes away must not end the fetch that others wait for.
            await asyncio.shield(refreshing)

    def _begin_refresh(self) -> asyncio.Task[None] | None:
        """The running or a new refresh; None when the last one was too short ago."""
        if self._refreshing and not self._refreshing.done():
            return self._refreshing
        if _now() - self._tried_at < self._retry_seconds:
            return None
        self._tried_at = _now()
        # In a context of its own: the fetch serves all callers, so the first one's deadline and trace are not its own.
        self._refreshing = asyncio.create_task(self._replace_keys(), context=contextvars.Context())
        return self._refreshing

    async def _replace_keys(self) -> None:
        try:
            async with asyncio.timeout(_FETCH_SECONDS_MAX):
                fetched = await self._fetch()
            raw = {jwk.kid: _raw_key(jwk) for jwk in list(fetched.keys)[:_KEYS_MAX] if _is_ours(jwk)}
        except Exception as error:  # noqa: BLE001 (runs beside its callers, who learn of it through `key`)
            self._failure = error
            log.warning("keys_fetch_failed", error=type(error).__name__, keys=len(self._keys))
            return
        self._failure = None
        self._fetched_at = _now()
        # An unchanged key stays the same object: that is how verified tokens are remembered.
        self._keys = {
            kid: self._unchanged(kid, key) or Ed25519PublicKey.from_public_bytes(key) for kid, key in raw.items()
        }

    def _unchanged(self, kid: str, raw: bytes) -> Ed25519PublicKey | None:
        key = self._keys.get(kid)
        return key if key and key.public_bytes_raw() == raw else None


def encode_key(raw: bytes) -> str:
    """The text of a key's bytes in JWKs and settings: base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode_key(text: str) -> bytes:
    """The 32 bytes of an Ed25519 key or seed. Raises ValueError, without the text."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("a key is 32 bytes in base64url") from None
    if len(raw) != 32:
        raise ValueError("a key is 32 bytes in base64url")
    return raw


def _is_ours(jwk: Jwk) -> bool:
    """Keys of other kinds may stand in the set one day; they are for other readers."""
    return jwk.kty == "OKP" and jwk.crv == "Ed25519" and bool(jwk.kid)


def _raw_key(jwk: Jwk) -> bytes:
    return decode_key(jwk.x)


def _now() -> float:
    return asyncio.get_running_loop().time()
