"""Sealed secrets open for their own place only."""

import base64
import os
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.crypto import DecryptionFailed, KeyRing, KeyUnknown

TENANT, OTHER, RECORD = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()


def key() -> bytes:
    return os.urandom(32)


@given(st.binary(max_size=3000))
def test_what_was_sealed_opens_in_its_place(secret: bytes) -> None:
    ring = KeyRing({"a": key()})
    data_key = ring.unwrap(ring.new_data_key(TENANT), TENANT)
    sealed = data_key.seal(secret, purpose="token", record=RECORD)
    assert data_key.open(sealed, purpose="token", record=RECORD) == secret
    assert secret not in sealed or len(secret) < 4


@given(st.data())
def test_any_changed_byte_is_noticed(data: st.DataObject) -> None:
    ring = KeyRing({"a": b"k" * 32})
    data_key = ring.unwrap(ring.new_data_key(TENANT), TENANT)
    sealed = bytearray(data_key.seal(b"secret", purpose="token", record=RECORD))
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DecryptionFailed):
        data_key.open(bytes(sealed), purpose="token", record=RECORD)


def test_a_ciphertext_moved_elsewhere_does_not_open() -> None:
    ring = KeyRing({"a": key()})
    wrapped = ring.new_data_key(TENANT)
    mine = ring.unwrap(wrapped, TENANT)
    sealed = mine.seal(b"secret", purpose="token", record=RECORD)
    with pytest.raises(DecryptionFailed):
        mine.open(sealed, purpose="token", record=uuid.uuid4())
    with pytest.raises(DecryptionFailed):
        mine.open(sealed, purpose="pin", record=RECORD)
    with pytest.raises(DecryptionFailed):
        ring.unwrap(wrapped, OTHER)
    with pytest.raises(DecryptionFailed):
        ring.unwrap(ring.new_data_key(OTHER), OTHER).open(sealed, purpose="token", record=RECORD)


def test_keys_rotate_without_touching_the_secrets() -> None:
    old, new = key(), key()
    before = KeyRing({"old": old})
    wrapped = before.new_data_key(TENANT)
    sealed = before.unwrap(wrapped, TENANT).seal(b"secret", purpose="token", record=RECORD)
    during = KeyRing({"new": new, "old": old})
    assert not during.is_current(wrapped)
    rewrapped = during.rewrap(wrapped, TENANT)
    after = KeyRing({"new": new})
    assert after.is_current(rewrapped)
    assert after.unwrap(rewrapped, TENANT).open(sealed, purpose="token", record=RECORD) == b"secret"
    with pytest.raises(KeyUnknown):
        after.unwrap(wrapped, TENANT)


@pytest.mark.parametrize("text", ["", "a", "a:", "a:c2hvcnQ", f":{'A' * 43}", f"{'x' * 33}:{'A' * 43}"])
def test_a_malformed_ring_is_refused_without_showing_a_key(text: str) -> None:
    with pytest.raises(ValueError, match="key"):
        KeyRing.parse(text)


def test_a_ring_is_read_from_its_setting() -> None:
    encoded = base64.urlsafe_b64encode(key()).decode().rstrip("=")
    other = base64.urlsafe_b64encode(key()).decode().rstrip("=")
    ring = KeyRing.parse(f"b:{encoded}, a:{other}")
    assert ring.current == "b"
    with pytest.raises(ValueError, match="twice"):
        KeyRing.parse(f"b:{encoded},b:{other}")


def test_installation_secrets_are_bound_to_purpose_and_record() -> None:
    ring = KeyRing({"a": key()})
    sealed = ring.seal(b"private", purpose="signing-key", record="k1")
    assert ring.open(sealed, purpose="signing-key", record="k1") == b"private"
    with pytest.raises(DecryptionFailed):
        ring.open(sealed, purpose="signing-key", record="k2")
