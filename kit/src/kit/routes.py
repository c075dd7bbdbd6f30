"""Which numbers belong to tenants whose webhooks wait in partitions of their own (ADR 0025).

svc-messaging publishes the whole table whenever it changes, and again and again to confirm it. The ingest reads it from
NATS, on which it depends anyway. A table that nobody confirms counts as none: wherever a webhook waits, it is stored.
"""

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import Mapping

import nats.errors
import structlog
from nats.js.errors import Error as JetStreamError
from nats.js.errors import NotFoundError
from prometheus_client import Gauge

from kit.bus import Bus
from kit.streams import ROUTES, ROUTES_META

log = structlog.get_logger()

CONFIRM_SECONDS = 30.0
"""How often whoever publishes says the same again."""
STALE_SECONDS = 300.0
_LOOK_SECONDS = 2.0

_routed = Gauge("aerostic_routed_numbers", "Numbers whose webhooks go to partitions of their tenants' own")


class RoutesMalformed(ValueError):
    """No table of routes."""


def encode(numbers: Mapping[str, str]) -> bytes:
    """A table as it is published: tenant id by number."""
    return json.dumps({"numbers": dict(sorted(numbers.items()))}, separators=(",", ":")).encode()


def decode(data: bytes) -> dict[str, str]:
    """What `encode` took. Raises RoutesMalformed, also where a tenant's id is no UUID as we write it: it becomes part
    of a subject.
    """
    try:
        numbers = json.loads(data)["numbers"]
        for number, tenant_id in numbers.items():
            if not number or str(uuid.UUID(tenant_id)) != tenant_id:
                raise RoutesMalformed(f"{tenant_id!r:.80} is no tenant of number {number!r:.80}")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RoutesMalformed(str(error)) from error
    return dict(numbers)


async def publish(bus: Bus, numbers: Mapping[str, str]) -> None:
    """Replace, or confirm, the table. Raises what Bus.publish raises."""
    await bus.publish(ROUTES_META, encode(numbers))


class Routes:
    """The table as its reader knows it."""

    def __init__(self) -> None:
        self.numbers: dict[str, str] = {}
        """Tenant id by number; empty where nothing is known, or nothing was confirmed for STALE_SECONDS."""
        self._seen = 0
        self._confirmed_at = time.monotonic()

    async def follow(self, bus: Bus, stop: asyncio.Event) -> None:
        """Keep it until told to stop, whatever happens to NATS and its streams meanwhile."""
        while not stop.is_set():
            try:
                await self._look(bus)
            except (nats.errors.Error, JetStreamError, TimeoutError, ConnectionError) as error:
                log.warning("routes_not_read", error=repr(error))
            self._forget_stale()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _LOOK_SECONDS)

    async def _look(self, bus: Bus) -> None:
        """Every message is new word from whoever publishes; the last one read again is none."""
        try:
            message = await bus.js.get_last_msg(ROUTES, ROUTES_META)
        except NotFoundError:
            return
        assert message.seq is not None
        if message.seq == self._seen:
            return
        self._seen = message.seq
        try:
            numbers = decode(message.data or b"")
        except RoutesMalformed as error:
            log.error("routes_malformed", sequence=message.seq, error=str(error))
            return
        self._confirmed_at = time.monotonic()
        if numbers != self.numbers:
            log.info("routes_changed", numbers=len(numbers), tenants=len(set(numbers.values())))
            self.numbers = numbers
            _routed.set(len(numbers))

    def _forget_stale(self) -> None:
        if self.numbers and time.monotonic() - self._confirmed_at > STALE_SECONDS:
            log.warning("routes_stale", numbers=len(self.numbers))
            self.numbers = {}
            _routed.set(0)
