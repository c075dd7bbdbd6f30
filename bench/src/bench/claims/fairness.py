"""Fairness: how one workspace's incoming messages fare while another sends to half a million people."""

import asyncio

from bench import inbound, product, sending
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
    seconds = 8 if options.quick else 60
    async with (
        sending.sink(limit=SENDS_PER_SECOND) as (sink, port),
        product.started(overrides=sending.to_sink(port)) as stack,
        product.shop(stack, throughput=SENDS_PER_SECOND) as sending_shop,
        product.shop(stack) as other_shop,
    ):
        await inbound.note_commit_times(stack)
        async with product.database(stack) as db:
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
            beside = (await webhooks.at_rate(_RATE, seconds)).lags
            last = await sink.ask(do="count")
            await stack.take_down("messaging-sender")
            alone.append((await webhooks.at_rate(_RATE, seconds)).lags)
    sent = (last["messages"] - first["messages"]) / (last["at"] - first["at"])
    alone_p99 = sum(each.p99 for each in alone) / len(alone)
    return [
        at_most(
            "fairness",
            f"receipt → committed, p99, while another workspace sends to {recipients:,} ÷ alone",
            "",
            value=beside.p99 / alone_p99,
            most=1.3,
        ),
        stated("fairness", "p99 alone", "ms", value=alone_p99, p50=[each.p50 for each in alone]),
        stated("fairness", "p99 beside the sending", "ms", value=beside.p99, p50=beside.p50),
        stated("fairness", "messages sent per second meanwhile", "/s", value=sent),
    ]
