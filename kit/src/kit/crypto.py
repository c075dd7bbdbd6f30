"""Envelope encryption of secrets at rest: a key ring wraps one data key per tenant, which encrypts its secrets.

AES-256-GCM with a random 96-bit nonce throughout. What a ciphertext belongs to is bound into it as associated data, so
that one moved to another tenant, record or purpose does not decrypt. Pure functions; storing is up to the caller.

    ring = KeyRing.parse(settings.key_encryption_keys)
    wrapped = ring.new_data_key(tenant_id)                    # stored once per tenant
    key = ring.unwrap(wrapped, tenant_id)
    sealed = key.seal(b"secret", purpose="meta-token", record=account_id)
    key.open(sealed, purpose="meta-token", record=account_id)

Layout of both: version byte (1), length of the key id, key id, nonce, ciphertext with its tag.
"""

import os
import uuid
from dataclasses import dataclass, field
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kit.keys import decode_key

_VERSION = 1
_NONCE_BYTES = 12
_KEY_BYTES = 32


class DecryptionFailed(Exception):
    """The bytes were not sealed by this key for this tenant, record and purpose, or were changed since."""


class KeyUnknown(Exception):
    """The ring lacks the key that wrapped this: an old key was removed before everything was wrapped anew."""


@dataclass(frozen=True, slots=True)
class DataKey:
    """One tenant's key, unwrapped. Lives in memory only."""

    tenant_id: uuid.UUID
    _cipher: AESGCM = field(repr=False)

    def seal(self, plain: bytes, *, purpose: str, record: uuid.UUID) -> bytes:
        return _seal(self._cipher, plain, key_id="", bound_to=_bound(purpose, self.tenant_id, record))

    def open(self, sealed: bytes, *, purpose: str, record: uuid.UUID) -> bytes:
        """Raises DecryptionFailed."""
        return _open(self._cipher, sealed, bound_to=_bound(purpose, self.tenant_id, record))


class KeyRing:
    """The installation's keys. The first one wraps, all of them unwrap."""

    def __init__(self, keys: dict[str, bytes]) -> None:
        """`keys`: id to 32 bytes, the current one first."""
        assert keys, "a key ring holds at least one key"
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self.current = next(iter(keys))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `id:base64url[,id:base64url]`. Raises ValueError with the broken rule, never the key."""
        keys: dict[str, bytes] = {}
        for item in text.split(","):
            key_id, colon, encoded = item.strip().partition(":")
            if not colon or not key_id.isascii() or not 1 <= len(key_id) <= 32:
                raise ValueError("each key must be written id:base64url, with an id of 1 to 32 ASCII characters")
            if key_id in keys:
                raise ValueError(f"the key id {key_id} stands twice")
            keys[key_id] = decode_key(encoded)
            if len(keys[key_id]) != _KEY_BYTES:
                raise ValueError(f"the key {key_id} must be {_KEY_BYTES} bytes in base64url")
        return cls(keys)

    def new_data_key(self, tenant_id: uuid.UUID) -> bytes:
        """A fresh data key, wrapped by the current key."""
        return self._wrap(os.urandom(_KEY_BYTES), tenant_id)

    def unwrap(self, wrapped: bytes, tenant_id: uuid.UUID) -> DataKey:
        """Raises KeyUnknown or DecryptionFailed."""
        return DataKey(tenant_id, AESGCM(self._unwrapped(wrapped, tenant_id)))

    def rewrap(self, wrapped: bytes, tenant_id: uuid.UUID) -> bytes:
        """The same data key under the current key: after it, the older key may leave the ring."""
        return self._wrap(self._unwrapped(wrapped, tenant_id), tenant_id)

    def seal(self, plain: bytes, *, purpose: str, record: str) -> bytes:
        """Seal a secret of the installation, which has no tenant, such as a signing key."""
        bound_to = f"{purpose}|{record}".encode()
        return _seal(self._ciphers[self.current], plain, key_id=self.current, bound_to=bound_to)

    def open(self, sealed: bytes, *, purpose: str, record: str) -> bytes:
        """Raises KeyUnknown or DecryptionFailed."""
        return _open(self._cipher(sealed), sealed, bound_to=f"{purpose}|{record}".encode())

    def is_current(self, wrapped: bytes) -> bool:
        return _key_id(wrapped) == self.current

    def _wrap(self, key: bytes, tenant_id: uuid.UUID) -> bytes:
        bound_to = f"data-key|{tenant_id}".encode()
        return _seal(self._ciphers[self.current], key, key_id=self.current, bound_to=bound_to)

    def _unwrapped(self, wrapped: bytes, tenant_id: uuid.UUID) -> bytes:
        return _open(self._cipher(wrapped), wrapped, bound_to=f"data-key|{tenant_id}".encode())

    def _cipher(self, sealed: bytes) -> AESGCM:
        key_id = _key_id(sealed)
        if key_id not in self._ciphers:
            raise KeyUnknown(key_id)
        return self._ciphers[key_id]


def _bound(purpose: str, tenant_id: uuid.UUID, record: uuid.UUID) -> bytes:
    return f"{purpose}|{tenant_id}|{record}|{_VERSION}".encode()


def _seal(cipher: AESGCM, plain: bytes, *, key_id: str, bound_to: bytes) -> bytes:
    name, nonce = key_id.encode(), os.urandom(_NONCE_BYTES)
    return bytes([_VERSION, len(name)]) + name + nonce + cipher.encrypt(nonce, plain, bound_to)


def _open(cipher: AESGCM, sealed: bytes, *, bound_to: bytes) -> bytes:
    start = 2 + len(_key_id(sealed).encode())
    nonce, ciphertext = sealed[start : start + _NONCE_BYTES], sealed[start + _NONCE_BYTES :]
    try:
        return cipher.decrypt(nonce, ciphertext, bound_to)
    except (InvalidTag, ValueError) as error:
        raise DecryptionFailed("not sealed by this key for this place") from error


def _key_id(sealed: bytes) -> str:
    if len(sealed) < 2 or sealed[0] != _VERSION or len(sealed) < 2 + sealed[1]:
        raise DecryptionFailed("not in the format of sealed bytes")
    try:
        return sealed[2 : 2 + sealed[1]].decode("ascii")
    except UnicodeDecodeError as error:
        raise DecryptionFailed("not in the format of sealed bytes") from error
