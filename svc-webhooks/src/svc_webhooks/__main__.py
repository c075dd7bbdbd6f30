"""`python -m svc_webhooks ingest`."""

import asyncio

import uvicorn

from kit import streams
from kit.bus import Bus
from kit.process import dispatch, run
from svc_webhooks.app import BODY_BYTES_MAX, Ingest
from svc_webhooks.journal import Journal
from svc_webhooks.settings import IngestSettings

NAME = "webhooks-ingest"
_DRAIN_SECONDS = 8
_PAYLOAD_BYTES_MIN = BODY_BYTES_MAX + 64 * 1024


class PayloadLimitTooLow(Exception):
    """NATS would refuse Meta's largest webhooks for ever."""


def ingest(_arguments: list[str]) -> None:
    settings = IngestSettings.load()
    run(lambda stop: _ingest(settings, stop), name=NAME, settings=settings)


async def _ingest(settings: IngestSettings, stop: asyncio.Event) -> None:
    # A publish while disconnected must fail at once, so that Meta gets an honest 503 and sends again.
    bus = await Bus.connect(settings.nats_url.get_secret_value(), name=NAME, fail_fast=True)
    if (most := bus.client.max_payload) < _PAYLOAD_BYTES_MIN:
        raise PayloadLimitTooLow(f"NATS takes messages of {most} bytes; its max_payload must be {_PAYLOAD_BYTES_MIN}.")
    await bus.ensure(
        streams.meta(
            keep_days=settings.meta_keep_days, bytes_max=settings.meta_bytes_max, replicas=settings.stream_replicas
        )
    )
    app = Ingest(
        Journal(bus, settings.meta_partitions, waiting_max=settings.waiting_max),
        secrets=[secret.get_secret_value().encode() for secret in settings.app_secrets],
        verify_token=settings.verify_token.get_secret_value().encode(),
        partitions=settings.meta_partitions,
        ready=lambda: bus.client.is_connected,
    )
    server = uvicorn.Server(server_config(app, settings.host, settings.port))
    serving = asyncio.create_task(server._serve())  # noqa: SLF001 (serve() would take the signals from kit.process)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    await serving
    stopping.cancel()
    await bus.close()


def server_config(app: Ingest, host: str, port: int) -> uvicorn.Config:
    """Uvicorn for a bare callable: C parser, no access log, no headers of its own, a bounded drain."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=2048,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )


if __name__ == "__main__":
    dispatch({"ingest": ingest}, program="svc_webhooks")
