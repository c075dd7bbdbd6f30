"""Fairness: how one workspace's incoming messages fare while another sends to half a million people."""

import asyncio
import statistics
from collections.abc import Sequence
from typing import Any

from bench import product, sending
from bench.figures import Spread
from bench.inbound import Webhooks
from bench.options import Options
from bench.results import Row, at_most, stated

RECIPIENTS = 500_000
SENDS_PER_SECOND = 1000
_RATE = 50
"""Messages a second to the workspace that sends nothing."""
_CUSTOMERS = 1000


async def measure(options: Options) -> list[Row]:
    recipients = RECIPIENTS // 20 if options.quick else RECIPIENTS
    seconds = options.seconds(60, least=6)
    async with (
        sending.sink(limit=SENDS_PER_SECOND) as (sink, port),
        product.started(overrides=sending.to_sink(port)) as stack,
        product.shop(stack, throughput=SENDS_PER_SECOND) as sending_shop,
        product.shop(stack) as other_shop,
        product.database(stack) as db,
    ):
        webhooks = Webhooks(stack, db, [other_shop], kind="inbound", customers=_CUSTOMERS)
        await webhooks.add_customers()
        await stack.take_down("messaging-sender")
        places = await sending.numbers(sending_shop, 1)
        await sending.queue_many(db, places, recipients)
        # The first transactions of a process find nothing prepared.
        await webhooks.at_rate(_RATE, 5)
        alone = [(await webhooks.at_rate(_RATE, seconds)).lags]
        await stack.bring_back("messaging-sender")
        await asyncio.sleep(5)
        first = await sink.ask(do="count")
        beside = [(await webhooks.at_rate(_RATE, seconds)).lags for _ in range(2)]
        last = await sink.ask(do="count")
        await stack.take_down("messaging-sender")
        alone.append((await webhooks.at_rate(_RATE, seconds)).lags)
    sent = (last["messages"] - first["messages"]) / (last["at"] - first["at"])
    # One late flush of the disk decides about the 99th of a hundred: two windows of each, alone before and after.
    alone_p99, beside_p99 = (statistics.mean(each.p99 for each in windows) for windows in (alone, beside))
    return [
        at_most(
            "fairness",
            f"receipt → committed, p99, while another workspace sends to {recipients:,} ÷ alone",
            "",
            value=beside_p99 / alone_p99,
            most=1.3,
        ),
        stated("fairness", "p99 alone", "ms", value=alone_p99, **_each(alone)),
        stated("fairness", "p99 beside the sending", "ms", value=beside_p99, **_each(beside)),
        stated("fairness", "messages sent per second meanwhile", "/s", value=sent),
    ]


def _each(windows: Sequence[Spread]) -> dict[str, Any]:
    return {"p50": [each.p50 for each in windows], "p99": [each.p99 for each in windows]}
