"""`python -m svc_webhooks ingest`."""

import asyncio

from kit import streams
from kit.bus import Bus
from kit.process import dispatch, run
from kit.routes import Routes
from svc_webhooks.app import BODY_BYTES_MAX, Ingest, count_refused
from svc_webhooks.http_server import Server
from svc_webhooks.journal import Journal
from svc_webhooks.settings import IngestSettings

NAME = "webhooks-ingest"
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
        ),
        streams.routes(replicas=settings.stream_replicas),
    )
    routes = Routes()
    app = Ingest(
        Journal(bus, waiting_max=settings.waiting_max),
        routes,
        secrets=[secret.get_secret_value().encode() for secret in settings.app_secrets],
        verify_token=settings.verify_token.get_secret_value().encode(),
        partitions=settings.meta_partitions,
        ready=lambda: bus.client.is_connected,
    )
    server = Server(app, body_bytes_max=BODY_BYTES_MAX, refused=count_refused)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(routes.follow(bus, stop))
            tasks.create_task(server.run(settings.host, settings.port, stop))
    finally:
        await bus.close()


if __name__ == "__main__":
    dispatch({"ingest": ingest}, program="svc_webhooks")
