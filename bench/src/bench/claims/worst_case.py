"""Meta's worst case for one number: 3,300 webhooks a second, open loop, while 1,000 messages a second go out."""

import asyncio
import os
import time

from bench import meter, product, sending
from bench.children import Running
from bench.inbound import WORST_CASE_RATE, AtRate, Webhooks
from bench.options import Options
from bench.results import Row, at_least, at_most, stated

SENDS_PER_SECOND = 1000
_BEFORE_SECONDS = 5


async def measure(options: Options) -> list[Row]:
    seconds = 10 if options.quick else 180
    async with (
        sending.sink(limit=SENDS_PER_SECOND) as (sink, port),
        product.started(overrides=sending.to_sink(port)) as stack,
        product.shop(stack, throughput=SENDS_PER_SECOND) as shop,
        product.database(stack) as db,
    ):
        webhooks = Webhooks(stack, db, [shop])
        await webhooks.add_customers()
        spec = await webhooks.prepare(WORST_CASE_RATE * seconds, {"seconds": seconds, "rate": WORST_CASE_RATE})
        places = await sending.numbers(shop, 1)
        await stack.take_down("messaging-sender")
        await sending.queue_many(db, places, SENDS_PER_SECOND * (seconds + 2 * _BEFORE_SECONDS))
        await stack.bring_back("messaging-sender")
        await asyncio.sleep(_BEFORE_SECONDS)
        before, began = meter.cpu(stack), time.monotonic()
        counting = asyncio.create_task(_sent(sink, seconds))
        told = await webhooks.send(spec)
        took = time.monotonic() - began
        cpu = sum(meter.cpu(stack).since(before).values())
        sent_per_second = await counting
        report = await sink.ask(do="report")
    most = max(number["most"] for number in report["numbers"].values())
    return [
        *_answers(told),
        at_least("worst-case", "messages sent per second meanwhile", "/s", value=sent_per_second, least=990),
        at_most(
            "worst-case",
            "most messages in any second, as Meta counts",
            "",
            value=most,
            most=SENDS_PER_SECOND,
            refused=sum(number["refused"] for number in report["numbers"].values()),
        ),
        at_most("worst-case", "receipt → committed meanwhile, p99", "ms", value=told.lags.p99, most=150),
        stated("worst-case", "share of all cores", "", value=cpu / took / (os.cpu_count() or 1)),
    ]


def _answers(told: AtRate) -> list[Row]:
    answers = told.answers
    return [
        at_most("worst-case", f"time to 200 at {WORST_CASE_RATE}/s, p50", "ms", value=answers["p50"], most=5),
        at_most("worst-case", "p99", "ms", value=answers["p99"], most=25),
        at_most("worst-case", "p99.9", "ms", value=answers["p999"], most=100),
        at_most("worst-case", "webhooks not answered 200", "", value=told.not_ok, most=0, of=answers["answered"]),
    ]


async def _sent(sink: Running, seconds: float) -> float:
    """Messages per second over the middle of the run."""
    await asyncio.sleep(seconds * 0.1)
    first = await sink.ask(do="count")
    await asyncio.sleep(seconds * 0.8)
    last = await sink.ask(do="count")
    return float((last["messages"] - first["messages"]) / (last["at"] - first["at"]))
