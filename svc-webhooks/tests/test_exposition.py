"""What anybody may ask for as fast as he can."""

from types import SimpleNamespace

from kit.routes import Routes
from svc_webhooks import app
from svc_webhooks.app import Ingest
from svc_webhooks.exchange import Exchange


def test_metrics_are_written_once_a_second_however_often_they_are_asked_for(monkeypatch):
    clock, written = [100.0], []

    def write() -> tuple[bytes, str]:
        written.append(clock[0])
        return b"%d\n" % len(written), "text/plain"

    monkeypatch.setattr(app, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(app.metrics, "exposition", write)
    ingest = Ingest(None, Routes(), secrets=[b"s"], verify_token=b"t", partitions=1, ready=lambda: True)

    def ask() -> bytes:
        exchange = Exchange(SimpleNamespace(send_answers=lambda: None))
        exchange.method, exchange.path = b"GET", b"/metrics"
        ingest(exchange)
        return exchange.reply[-2:]

    assert [ask() for _ in range(100)] == [b"1\n"] * 100
    clock[0] += 1.1
    assert ask() == b"2\n"
    assert written == [100.0, 101.1]
