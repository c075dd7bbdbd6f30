"""Cost: CPU of all processes per webhook at Meta's worst rate, resident memory, and whether it grows."""

import asyncio
import time

from bench import inbound, meter, product
from bench.inbound import SATURATED_RATE_MAX, WORST_CASE_RATE, Webhooks
from bench.options import Options
from bench.results import Row, at_most, stated
from devstack.stack import Stack

_MINUTE = 60


async def measure(options: Options) -> list[Row]:
    minutes = 0.5 if options.quick else 10
    async with product.started() as stack, product.shop(stack) as shop:
        await inbound.note_commit_times(stack)
        async with product.database(stack) as db:
            webhooks = Webhooks(stack, db, [shop])
            await webhooks.add_customers()
            seconds = options.seconds(60)
            spec = await webhooks.prepare(int(WORST_CASE_RATE * seconds), {"seconds": seconds, "rate": WORST_CASE_RATE})
            before = meter.cpu(stack)
            told = await webhooks.send(spec)
            used = meter.cpu(stack).since(before)
            idle = await _idle_cores(stack, 5)
            full = await _saturated(stack, webhooks, options.seconds(10))
            first = meter.memory_mib(stack)
            began = time.monotonic()
            await webhooks.at_rate(WORST_CASE_RATE / 3, minutes * _MINUTE)
            last, hours = meter.memory_mib(stack), (time.monotonic() - began) / 3600
    count = told.answers["answered"]
    by_process = {name: seconds / count * 1e6 for name, seconds in used.items()}
    # PostgreSQL fills the buffers that it was given once, and NATS its caches; what may not grow is ours.
    ours = {name for name in last if name not in {"postgres", "nats"}}
    grown = sum(last[name] - first[name] for name in ours)
    return [
        at_most(
            "cost",
            f"CPU per webhook at {WORST_CASE_RATE}/s, all processes",
            "µs",
            value=sum(by_process.values()),
            most=120,
            byProcess=by_process,
        ),
        stated("cost", "the same at saturation", "µs", value=sum(full.values()), byProcess=full),
        stated("cost", "CPU of the idle stack", "cores", value=idle),
        at_most(
            "cost", "resident memory of the whole stack", "MiB", value=sum(last.values()), most=1024, byProcess=last
        ),
        stated(
            "cost",
            f"growth of our processes over {hours * 60:.0f} minutes of 1,100/s",
            "MiB",
            value=grown,
            byProcess={name: last[name] - first[name] for name in ours},
        ),
    ]


async def _idle_cores(stack: Stack, seconds: float) -> float:
    await asyncio.sleep(2)
    before = meter.cpu(stack)
    await asyncio.sleep(seconds)
    return sum(meter.cpu(stack).since(before).values()) / seconds


async def _saturated(stack: Stack, webhooks: Webhooks, seconds: float) -> dict[str, float]:
    """Microseconds per webhook, by process, when as many come as are answered."""
    spec = await webhooks.prepare(int(SATURATED_RATE_MAX * seconds), {"seconds": seconds})
    spec["most"] = SATURATED_RATE_MAX * seconds
    before = meter.cpu(stack)
    told = await webhooks.send(spec)
    used = meter.cpu(stack).since(before)
    return {name: spent / told.answers["answered"] * 1e6 for name, spent in used.items()}
