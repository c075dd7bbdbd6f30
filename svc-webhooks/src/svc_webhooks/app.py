"""What the ingest answers.

GET answers Meta's verification; POST checks the signature over the raw bytes before anything else looks at them, and
answers 200 when the body is on disk.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from urllib.parse import parse_qs

from prometheus_client import Counter

from kit import metrics, telemetry
from kit.routes import Routes
from svc_webhooks.exchange import Exchange, answer
from svc_webhooks.journal import Journal, NotDurable
from svc_webhooks.signatures import is_signed, is_token
from svc_webhooks.splitting import split

BODY_BYTES_MAX = 3 * 1024 * 1024 + 64 * 1024
"""Meta sends up to 3 MB (webhooks: overview); the rest is for whoever counts it otherwise."""

PATH = b"/webhooks/meta"
_SIGNATURE = b"x-hub-signature-256"
_PLAIN = "text/plain; charset=utf-8"

_METRICS_SECONDS = 1.0
"""For how long an exposition stands: it takes milliseconds, and anybody may ask for it as fast as he can."""

Ready = Callable[[], bool]

_requests = Counter("aerostic_webhooks_total", "Webhook requests, by answer", ["status"])
_count = {status: _requests.labels(status).inc for status in (200, 400, 401, 413, 431, 503)}

_TAKEN = answer(200)
_UNSIGNED = answer(401)
_NOT_TAKEN = answer(503, headers={"retry-after": "1"})


def count_refused(status: int) -> None:
    """A request that ended before it was complete."""
    _count[status]()


class Ingest:
    """The handler of all requests."""

    def __init__(
        self,
        journal: Journal,
        routes: Routes,
        *,
        secrets: Sequence[bytes],
        verify_token: bytes,
        partitions: int,
        ready: Ready,
    ) -> None:
        self._journal = journal
        self._routes = routes
        self._secrets = secrets
        self._verify_token = verify_token
        self._partitions = partitions
        self._ready = ready
        self._metrics = b""
        self._metrics_until = 0.0
        self._traced: set[asyncio.Task[None]] = set()

    def __call__(self, exchange: Exchange) -> None:
        path, method = exchange.path, exchange.method
        if path == PATH and method == b"POST":
            self._take(exchange)
        elif path == PATH and method == b"GET":
            self._verify(exchange)
        elif method == b"GET":
            self._report(path.decode("latin-1"), exchange)
        else:
            exchange.answer(answer(405 if path == PATH else 404))

    def _take(self, exchange: Exchange) -> None:
        headers = exchange.headers
        if not is_signed(exchange.body, headers.get(_SIGNATURE, b""), self._secrets):
            _count[401]()
            exchange.answer(_UNSIGNED)
            return
        parent = headers.get(b"traceparent", b"").decode("latin-1")
        if telemetry.wants(parent):
            tracing = asyncio.ensure_future(self._append_traced(exchange, parent))
            self._traced.add(tracing)
            tracing.add_done_callback(self._traced.discard)
        else:
            self._append(exchange, "", lambda error: _settle(exchange, error))

    def _append(self, exchange: Exchange, traceparent: str, settled: Callable[[NotDurable | None], None]) -> None:
        parts = split(exchange.body, self._partitions, self._routes.numbers)
        self._journal.append(parts, traceparent=traceparent, settled=settled)

    async def _append_traced(self, exchange: Exchange, parent: str) -> None:
        """As `_append`, within a span that lasts until the body is on disk."""
        outcome: asyncio.Future[NotDurable | None] = asyncio.get_running_loop().create_future()
        carried = {telemetry.HEADER: parent} if parent else None
        with telemetry.span("webhook received", parent=carried, wanted=True):
            self._append(exchange, telemetry.traceparent(), outcome.set_result)
            error = await outcome
        _settle(exchange, error)

    def _verify(self, exchange: Exchange) -> None:
        """Meta's challenge (webhooks: create-webhook-endpoint): echo it raw when the token is ours."""
        query = parse_qs(exchange.query.decode("latin-1"), keep_blank_values=True)
        first = {name: values[0].encode() for name, values in query.items()}
        is_ours = is_token(first.get("hub.verify_token", b""), self._verify_token)
        if first.get("hub.mode") == b"subscribe" and is_ours and "hub.challenge" in first:
            exchange.answer(_text(200, first["hub.challenge"]))
        else:
            exchange.answer(answer(403))

    def _report(self, path: str, exchange: Exchange) -> None:
        if path == "/healthz":
            exchange.answer(_text(200, b"ok\n"))
        elif path == "/readyz":
            is_ready = self._ready()
            exchange.answer(_text(200 if is_ready else 503, b"ok\n" if is_ready else b"NATS does not answer\n"))
        elif path == "/metrics":
            exchange.answer(self._exposition())
        else:
            exchange.answer(answer(404))

    def _exposition(self) -> bytes:
        if (now := time.monotonic()) >= self._metrics_until:
            body, content_type = metrics.exposition()
            self._metrics = _text(200, body, content_type)
            self._metrics_until = now + _METRICS_SECONDS
        return self._metrics


def _settle(exchange: Exchange, error: NotDurable | None) -> None:
    _count[200 if error is None else 503]()
    exchange.answer(_TAKEN if error is None else _NOT_TAKEN)


def _text(status: int, body: bytes, content_type: str = _PLAIN) -> bytes:
    return answer(status, body, {"content-type": content_type, "x-content-type-options": "nosniff"})
