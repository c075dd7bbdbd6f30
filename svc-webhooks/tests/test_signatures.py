"""The signature: over the raw bytes, by any of the secrets in force, and by nothing else."""

import json

import pytest
from webhook_factories import OLD_SECRET, SECRET, signature

from svc_webhooks.signatures import is_signed, is_token

KEYS = (SECRET.encode(), OLD_SECRET.encode())
# Body and digest under the key "test_app_secret", computed with openssl.
VECTORS = {
    rb'{"object":"whatsapp_business_account","entry":[]}': (
        "dec6a680679a968e7e0319355b23599cbfc54502c0784668e9618baa0c633756"
    ),
    rb'{"a":"h\u00e9llo \ud83d\ude00 / <"}': "22a71303484de288d05052b2e3effaeeffdc8a60389d452a782b9e13d0665ea9",
    '{"a":"héllo 😀 / <"}'.encode(): "3243df6df9d3da2ef7c2a681380f48ac733b6eb41f9534a0401b1c535339e109",
}
BODY, DIGEST = next(iter(VECTORS.items()))
ESCAPED, RAW = list(VECTORS)[1:]


@pytest.mark.parametrize(("body", "digest"), VECTORS.items())
def test_known_vectors_are_signed(body, digest):
    assert is_signed(body, f"sha256={digest}".encode(), KEYS)


def test_the_bytes_count_and_not_what_they_mean():
    assert json.loads(ESCAPED) == json.loads(RAW)
    assert not is_signed(RAW, f"sha256={VECTORS[ESCAPED]}".encode(), KEYS)
    assert not is_signed(ESCAPED, f"sha256={VECTORS[RAW]}".encode(), KEYS)


def test_a_re_serialised_body_is_not_signed():
    assert not is_signed(json.dumps(json.loads(BODY)).encode(), f"sha256={DIGEST}".encode(), KEYS)


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
def test_while_a_secret_is_replaced_both_sign(secret):
    assert is_signed(BODY, signature(BODY, secret).encode(), KEYS)


def test_a_secret_that_was_retired_signs_no_more():
    assert not is_signed(BODY, signature(BODY, OLD_SECRET).encode(), KEYS[:1])


def test_without_secrets_nothing_is_signed():
    assert not is_signed(BODY, f"sha256={DIGEST}".encode(), ())


def test_digits_may_be_upper_case():
    assert is_signed(BODY, f"sha256={DIGEST.upper()}".encode(), KEYS)


@pytest.mark.parametrize("place", range(0, len(BODY), 7))
def test_one_changed_byte_is_noticed(place):
    changed = BODY[:place] + bytes([BODY[place] ^ 1]) + BODY[place + 1 :]
    assert not is_signed(changed, f"sha256={DIGEST}".encode(), KEYS)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"sha256=",
        DIGEST.encode(),
        f"sha1={DIGEST}".encode(),
        f"SHA256={DIGEST}".encode(),
        f"sha256={DIGEST[:-1]}".encode(),
        f"sha256={DIGEST}0".encode(),
        f"sha256={DIGEST[:-2]}".encode(),
        f"sha256= {DIGEST[1:]}".encode(),
        f"sha256={DIGEST[:-1]}g".encode(),
        f"sha256={DIGEST[:-2]}".encode() + b"\xc3\xa9",
        b"sha256=" + b"\x00" * 64,
        f"sha256={DIGEST}, sha256={DIGEST}".encode(),
        signature(BODY, "another app's secret").encode(),
    ],
)
def test_anything_else_in_the_header_is_no_signature(header):
    assert not is_signed(BODY, header, KEYS)


def test_a_token_is_compared_whole():
    assert is_token(b"a token", b"a token")
    assert not is_token(b"", b"a token")
    assert not is_token(b"a toke", b"a token")
    assert not is_token(b"a token ", b"a token")
