"""Meta's signature: HMAC-SHA256 over the raw bytes with the app's secret (webhooks: create-webhook-endpoint)."""

import binascii
import hmac
from collections.abc import Sequence

_PREFIX = b"sha256="
_HEX_DIGITS = 64


def is_signed(body: bytes, header: bytes, secrets: Sequence[bytes]) -> bool:
    """Whether one of the secrets signed these bytes. Every secret is tried, in constant time.

    Meta writes lower-case digits; a proxy on the way may write them otherwise, which says nothing about who signed.
    """
    if not header.startswith(_PREFIX) or len(header) != len(_PREFIX) + _HEX_DIGITS:
        return False
    try:
        given = binascii.unhexlify(header[len(_PREFIX) :])
    except binascii.Error:
        return False
    matches = False
    for secret in secrets:
        matches |= hmac.compare_digest(hmac.digest(secret, body, "sha256"), given)
    return matches


def is_token(given: bytes, expected: bytes) -> bool:
    return hmac.compare_digest(given, expected)
