"""The way of an inbound message to the browser, step by step: committed by PostgreSQL, on disk in the stream EVENTS."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import nats
from nats.js.api import ConsumerConfig, DeliverPolicy

from bench.figures import Spread
from bench.inbound import Webhooks
from devstack.stack import Stack

_SECONDS = 120
_WAMID = re.compile(rb'"wamid":"(wamid\.in\.[^"]+)"')


@dataclass(frozen=True, slots=True)
class Steps:
    """Milliseconds after the 200, of all inbound messages of a run."""

    committed: Spread
    published: Spread


async def of_run(stack: Stack, webhooks: Webhooks, run: str, answered: Mapping[str, float], *, since: float) -> Steps:
    """`answered`: when each message's webhook had its 200. `since`: before the first of them."""
    committed = await webhooks.commit_times(run)
    async with asyncio.timeout(_SECONDS):
        published = await _publish_times(stack, set(committed), since)
    return Steps(_delays(answered, committed), _delays(answered, published))


def _delays(answered: Mapping[str, float], moments: Mapping[str, float]) -> Spread:
    """A message may be committed before its 200 is read."""
    return Spread.of([max(0.0, moments[wamid] - moment) * 1000 for wamid, moment in answered.items()])


async def _publish_times(stack: Stack, wamids: set[str], since: float) -> dict[str, float]:
    """When the stream had each message's event."""
    found: dict[str, float] = {}
    client = await nats.connect(stack.settings["AEROSTIC_NATS_URL"], name="bench")
    try:
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_TIME, opt_start_time=datetime.fromtimestamp(since, UTC)
        )
        reading = await client.jetstream().subscribe(
            "events.messaging.>", stream="EVENTS", ordered_consumer=True, config=config
        )
        while wamids - found.keys():
            message = await reading.next_msg(timeout=_SECONDS)
            moment = message.metadata.timestamp.timestamp()
            for wamid in _WAMID.findall(message.data):
                found.setdefault(wamid.decode(), moment)
    finally:
        # Not drained: more was read ahead than is wanted.
        await client.close()
    return found
