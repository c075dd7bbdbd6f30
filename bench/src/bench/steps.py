"""The way of an inbound message to the browser, step by step: committed by PostgreSQL, on disk in the stream EVENTS."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from nats.js.api import ConsumerConfig, DeliverPolicy

from bench.figures import Spread
from bench.inbound import Webhooks
from devstack.stack import Stack
from kit import events
from kit.bus import Bus
from kit.streams import EVENTS
from svc_messaging.events import RECEIVED

_SECONDS = 120


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
    bus = await Bus.connect(stack.settings["AEROSTIC_NATS_URL"], name="bench")
    try:
        start = datetime.fromtimestamp(since, UTC)
        config = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_TIME, opt_start_time=start)
        reading = await bus.js.subscribe("events.messaging.>", stream=EVENTS, ordered_consumer=True, config=config)
        while wamids - found.keys():
            message = await reading.next_msg(timeout=_SECONDS)
            moment = message.metadata.timestamp.timestamp()
            for event in events.decode(message.headers, message.data):
                if event.kind == RECEIVED:
                    found.setdefault(event.data["message"]["wamid"], moment)
    finally:
        # Not drained: more was read ahead than is wanted.
        await bus.client.close()
    return found
