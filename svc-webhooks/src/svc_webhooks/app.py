"""The ingest's HTTP side: a bare ASGI callable, since a framework would cost more than all the rest of its work.

GET answers Meta's verification; POST checks the signature over the raw bytes before anything else looks at them, and
answers 200 when the body is on disk.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import parse_qs

from prometheus_client import Counter

from kit import metrics, telemetry
from svc_webhooks.journal import Journal, NotDurable
from svc_webhooks.signatures import is_signed, is_token
from svc_webhooks.splitting import split

BODY_BYTES_MAX = 3 * 1024 * 1024 + 64 * 1024
"""Meta sends up to 3 MB (webhooks: overview); the rest is for whoever counts it otherwise."""

PATH = "/webhooks/meta"
_SIGNATURE = b"x-hub-signature-256"
_PLAIN = b"text/plain; charset=utf-8"

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Ready = Callable[[], bool]

_requests = Counter("aerostic_webhooks_total", "Webhook requests, by answer", ["status"])
_count = {status: _requests.labels(status).inc for status in (200, 400, 401, 413, 503)}
_TAKEN: tuple[dict[str, Any], dict[str, Any]] = (
    {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]},
    {"type": "http.response.body", "body": b""},
)
"""The answer to nearly all webhooks."""


class _CutOff(Exception):
    """The client went away before its body was complete; nobody reads the answer, and metrics count it."""


class Ingest:
    """The ASGI application."""

    def __init__(
        self, journal: Journal, *, secrets: Sequence[bytes], verify_token: bytes, partitions: int, ready: Ready
    ) -> None:
        self._journal = journal
        self._secrets = secrets
        self._verify_token = verify_token
        self._partitions = partitions
        self._ready = ready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path, method = scope["path"], scope["method"]
        if path == PATH and method == "POST":
            status = await self._take(scope, receive)
            _count[status]()
            if status == 200:
                for message in _TAKEN:
                    await send(message)
            else:
                await _answer(send, status, retry=status == 503)
        elif path == PATH and method == "GET":
            await self._verify(scope, send)
        elif method == "GET":
            await self._report(path, send)
        else:
            await _answer(send, 405 if path == PATH else 404)

    async def _take(self, scope: Scope, receive: Receive) -> int:
        """The status that answers a webhook."""
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > BODY_BYTES_MAX:
            return 413
        try:
            body = await _read(receive)
        except _CutOff:
            return 400
        if body is None:
            return 413
        if not is_signed(body, headers.get(_SIGNATURE, b""), self._secrets):
            return 401
        parent = headers.get(b"traceparent", b"").decode("latin-1")
        try:
            if telemetry.wants(parent):
                carried = {telemetry.HEADER: parent} if parent else None
                with telemetry.span("webhook received", parent=carried, wanted=True):
                    await self._journal.append(split(body, self._partitions), traceparent=telemetry.traceparent())
            else:
                await self._journal.append(split(body, self._partitions), traceparent="")
        except NotDurable:
            return 503
        return 200

    async def _verify(self, scope: Scope, send: Send) -> None:
        """Meta's challenge (webhooks: create-webhook-endpoint): echo it raw when the token is ours."""
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        first = {name: values[0].encode() for name, values in query.items()}
        is_ours = is_token(first.get("hub.verify_token", b""), self._verify_token)
        if first.get("hub.mode") == b"subscribe" and is_ours and "hub.challenge" in first:
            await _answer(send, 200, first["hub.challenge"])
        else:
            await _answer(send, 403)

    async def _report(self, path: str, send: Send) -> None:
        if path == "/healthz":
            await _answer(send, 200, b"ok\n")
        elif path == "/readyz":
            is_ready = self._ready()
            await _answer(send, 200 if is_ready else 503, b"ok\n" if is_ready else b"NATS does not answer\n")
        elif path == "/metrics":
            body, content_type = metrics.exposition()
            await _answer(send, 200, body, content_type=content_type.encode())
        else:
            await _answer(send, 404)


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None when it is larger than Meta's may be, without reading on. Raises _CutOff."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")
        return body if len(body) <= BODY_BYTES_MAX else None
    parts: list[bytes] = []
    size, is_whole = 0, False
    while not is_whole:
        if parts:
            message = await receive()
        if message["type"] == "http.disconnect":
            raise _CutOff
        size += len(message.get("body", b""))
        if size > BODY_BYTES_MAX:
            return None
        parts.append(message.get("body", b""))
        is_whole = not message.get("more_body", False)
    return b"".join(parts)


async def _answer(
    send: Send,
    status: int,
    body: bytes = b"",
    *,
    content_type: bytes = _PLAIN,
    retry: bool = False,
) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    if body:
        headers += [(b"content-type", content_type), (b"x-content-type-options", b"nosniff")]
    if retry:
        headers.append((b"retry-after", b"1"))
    if status == 413:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
