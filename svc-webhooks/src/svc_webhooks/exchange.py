"""A request and its answer, as the handler has them (ADR 0017)."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from svc_webhooks.http import Connection

_REQUEST_BYTES = 1024
"""What a waiting request weighs beside its body."""


def answer(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """An answer's bytes."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


class Exchange:
    """A request that has arrived, and the answer that is owed for it."""

    __slots__ = ("_connection", "_parts", "body", "headers", "is_last", "method", "path", "query", "reply")

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._parts = bytearray()
        self.method = b""
        self.path = b""
        """As it was written: nothing is decoded in it."""
        self.query = b""
        self.headers: dict[bytes, bytes] = {}
        """Names in lower case; of several with one name the last."""
        self.body = b""
        self.is_last = False
        self.reply: bytes | None = None

    def answer(self, reply: bytes) -> None:
        """Send `answer(…)`, once. A client that has gone away is no error."""
        self.reply = reply
        self._connection.send_answers()

    def take(self, part: bytes) -> int:
        """More of the body; gives how much that is by now."""
        if not self.body:
            self.body = part
            return len(part)
        # Put together at once: a list of tiny chunks would weigh many times what they hold.
        if not self._parts:
            self._parts += self.body
        self._parts += part
        return len(self._parts)

    def complete(self) -> None:
        if self._parts:
            self.body = bytes(self._parts)
            self._parts = bytearray()

    @property
    def weight(self) -> int:
        return len(self.body) + _REQUEST_BYTES
