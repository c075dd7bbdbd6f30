"""The keys that sign access tokens: made, published, used and retired in an order that no verifier can miss."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kit.crypto import KeyRing
from kit.db import Tx
from kit.tokens import ACCESS_SECONDS

PUBLISHED_BEFORE_SIGNING = timedelta(seconds=ACCESS_SECONDS)
"""A new key is in the key set for this long before it signs; verifiers look at least that often."""
VERIFIES_AFTER_SIGNING = timedelta(seconds=2 * ACCESS_SECONDS)
ROTATE_AFTER = timedelta(days=30)

_PURPOSE = "access-token-signing-key"
_LOCK = 52_001

_SIGNING = "SELECT kid, sealed_seed FROM signing_keys WHERE signs_from <= now() ORDER BY signs_from DESC LIMIT 1"
_PUBLISHED = """
    SELECT kid, public_key FROM signing_keys
    WHERE replaced_at IS NULL OR replaced_at > now() - $1::interval ORDER BY signs_from DESC
"""
_NEWEST = "SELECT max(signs_from) FROM signing_keys"
_ADD = "INSERT INTO signing_keys (kid, public_key, sealed_seed, signs_from) VALUES ($1, $2, $3, now() + $4::interval)"
_REPLACE = """
    UPDATE signing_keys k SET replaced_at = later.signs_from
    FROM signing_keys later
    WHERE k.replaced_at IS NULL AND later.signs_from > k.signs_from AND later.signs_from <= now()
"""
_FORGET = "DELETE FROM signing_keys WHERE replaced_at < now() - $1::interval"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A published key."""

    kid: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The key that signs now, opened."""

    kid: str
    seed: bytes


async def current(tx: Tx, ring: KeyRing) -> SigningKey:
    """The key that signs now. `ensure` has made one."""
    row = await tx.fetchrow(_SIGNING)
    assert row is not None, "no signing key: ensure() runs before"
    return SigningKey(row["kid"], ring.open(row["sealed_seed"], purpose=_PURPOSE, record=row["kid"]))


async def published(tx: Tx) -> list[PublicKey]:
    """All keys that verify: the next one too, and the last ones until their tokens have expired."""
    rows = await tx.fetch(_PUBLISHED, VERIFIES_AFTER_SIGNING)
    return [PublicKey(row["kid"], row["public_key"]) for row in rows]


async def ensure(tx: Tx, ring: KeyRing) -> None:
    """Make the first key, and the next one when the current is old. Replicas starting together make one."""
    await tx.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
    newest: datetime | None = await tx.fetchval(_NEWEST)
    if newest is None:
        # Nobody has a key set yet, so nobody can miss this one.
        await _add(tx, ring, signs_after=timedelta(0))
    elif newest < await tx.fetchval("SELECT now()") - ROTATE_AFTER:
        await rotate(tx, ring)
    await tx.execute(_REPLACE)
    await tx.execute(_FORGET, VERIFIES_AFTER_SIGNING)


async def rotate(tx: Tx, ring: KeyRing) -> str:
    """Publish a new key that takes over signing later; gives its id."""
    return await _add(tx, ring, signs_after=PUBLISHED_BEFORE_SIGNING)


async def _add(tx: Tx, ring: KeyRing, *, signs_after: timedelta) -> str:
    kid, key = secrets.token_hex(8), Ed25519PrivateKey.generate()
    sealed = ring.seal(key.private_bytes_raw(), purpose=_PURPOSE, record=kid)
    await tx.execute(_ADD, kid, key.public_key().public_bytes_raw(), sealed, signs_after)
    return kid
