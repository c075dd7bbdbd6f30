"""Pages of lists, both ways: sizes, and opaque tokens that carry the keyset position.

A token belongs to the list it came from: to the method's request with its filter, and to the tenant. It is not secret
and not signed; row-level security decides what its holder sees. Whatever a caller sends instead of one is refused as
PAGE_TOKEN_INVALID.
"""

import base64
import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import Message

from kit.errors import InvalidRequest, PageTokenInvalid, Violation

SIZE_DEFAULT = 50
SIZE_MAX = 200

_TOKEN_CHARACTERS_MAX = 1024
_TEXT_CHARACTERS_MAX = 200
_INT64 = range(-(2**63), 2**63)

Value = datetime | uuid.UUID | int | str
Cursor = Mapping[str, Value]
"""Position in a list: the sort columns of the page's last row, by name."""


@dataclass(frozen=True, slots=True)
class Page:
    """The page that a request asks for."""

    size: int
    cursor: dict[str, Any] | None
    """Begin after this row; None on the first page."""
    is_backward: bool
    """Whether to walk against the list's order from there."""
    scope: str

    def token(self, cursor: Cursor, *, backward: bool = False) -> str:
        """The token of the page beyond this row."""
        return encode(cursor, scope=self.scope, backward=backward)


def read(request: Message, tenant_id: uuid.UUID | None, *, keys: Mapping[str, type[Value]]) -> Page:
    """Read page_size and page_token. `keys` are the sort columns with their types. Raises PageTokenInvalid or
    InvalidRequest.
    """
    fields: Any = request
    scope = scope_of(request, tenant_id)
    size = size_of(fields.page_size)
    if not fields.page_token:
        return Page(size, None, is_backward=False, scope=scope)
    cursor, is_backward = decode(fields.page_token, scope=scope, keys=keys)
    return Page(size, cursor, is_backward=is_backward, scope=scope)


def size_of(page_size: int) -> int:
    """50 where none is asked for, 200 at most (AIP-158). Raises InvalidRequest below 0."""
    if page_size < 0:
        raise InvalidRequest.of(Violation("pageSize", "int32.gte", "must be greater than or equal to 0"))
    return min(page_size or SIZE_DEFAULT, SIZE_MAX)


def scope_of(request: Message, tenant_id: uuid.UUID | None) -> str:
    """Names the list: a hash of the request without its page fields, and of the tenant."""
    rest = type(request)()
    rest.CopyFrom(request)
    rest.ClearField("page_size")
    rest.ClearField("page_token")
    text = f"{request.DESCRIPTOR.full_name}\n{tenant_id}\n".encode()
    digest = hashlib.sha256(text + rest.SerializeToString(deterministic=True)).digest()
    return base64.urlsafe_b64encode(digest[:12]).decode()


def encode(cursor: Cursor, *, scope: str, backward: bool = False) -> str:
    values = {name: _plain(value) for name, value in cursor.items()}
    text = json.dumps([scope, int(backward), values], separators=(",", ":"), ensure_ascii=False)
    token = base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
    assert len(token) <= _TOKEN_CHARACTERS_MAX, "the sort columns are too long for a page token"
    return token


def decode(token: str, *, scope: str, keys: Mapping[str, type[Value]]) -> tuple[dict[str, Any], bool]:
    """The position, and whether to walk backward. Raises PageTokenInvalid for anything but a token of this scope."""
    try:
        given, backward, values = _parse(token)
        if given != scope or backward not in (0, 1) or values.keys() != keys.keys():
            raise PageTokenInvalid
        return {name: _typed(values[name], kind) for name, kind in keys.items()}, bool(backward)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise PageTokenInvalid from error


def _parse(token: str) -> tuple[Any, Any, Any]:
    if len(token) > _TOKEN_CHARACTERS_MAX:
        raise ValueError("too long")
    raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    scope, backward, values = json.loads(raw)
    return scope, backward, values


def _plain(value: Value) -> str | int:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return str(value) if isinstance(value, uuid.UUID) else value


def _typed(value: Any, kind: type[Value]) -> Value:
    """The value as its column has it, so that no forged one reaches a statement. Raises ValueError or TypeError."""
    if kind is datetime:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError("a moment without a zone")
        return moment.astimezone(UTC)
    if kind is uuid.UUID:
        return uuid.UUID(value)
    if type(value) is not kind:
        raise TypeError("another kind of value")
    if isinstance(value, int) and value not in _INT64:
        raise ValueError("beyond 64 bits")
    if isinstance(value, str) and (len(value) > _TEXT_CHARACTERS_MAX or not _is_storable(value)):
        raise ValueError("text that no row has")
    known: Value = value
    return known


def _is_storable(text: str) -> bool:
    """PostgreSQL keeps no NUL, and lone surrogates are no text."""
    return "\0" not in text and text == text.encode(errors="replace").decode()
