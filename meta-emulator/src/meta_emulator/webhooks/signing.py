r"""The bytes of a webhook and its signatures.

The signature covers the exact bytes on the wire. They are ASCII: non-ASCII characters as lower-case `\\uXXXX`, `/` as
`\\/`. A consumer that parses and re-serialises before hashing gets another signature, as with the real platform.
"""

import hashlib
import hmac
import io
import json

from meta_emulator.model import Json

_WRITTEN_AT_ONCE = 256 * 1024


def encode(payload: Json) -> str:
    # A "/" can only stand inside a string in JSON, so the replacement cannot touch structure.
    return json.dumps(payload, ensure_ascii=True, separators=(",", ":")).replace("/", "\\/")


def wire(body: bytes) -> bytes | io.BytesIO:
    """What to hand to the HTTP client: large bodies as a file, so that they are written in turns."""
    return body if len(body) <= _WRITTEN_AT_ONCE else io.BytesIO(body)


def signature(body: bytes, app_secret: str) -> str:
    """The value of X-Hub-Signature-256."""
    return "sha256=" + hmac.new(app_secret.encode(), body, hashlib.sha256).hexdigest()


def headers(body: bytes, app_secret: str) -> dict[str, str]:
    legacy = hmac.new(app_secret.encode(), body, hashlib.sha1).hexdigest()
    return {
        "Content-Type": "application/json",
        "User-Agent": "facebookexternalua",
        "X-Hub-Signature": f"sha1={legacy}",
        "X-Hub-Signature-256": signature(body, app_secret),
    }
