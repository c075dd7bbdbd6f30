"""Cost: CPU of all processes per webhook, and resident memory. Whether that grows is `soak`."""

import asyncio

from bench import meter, product
from bench.inbound import SATURATED_RATE_MAX, WORST_CASE_RATE, Webhooks
from bench.options import Options
from bench.results import Row, at_most, stated
from devstack.stack import Stack

CPU_MICROS_MAX = 120
MEMORY_MIB_MAX = 1024


async def measure(options: Options) -> list[Row]:
    async with product.started() as stack, product.shop(stack) as shop, product.database(stack) as db:
        webhooks = Webhooks(stack, db, [shop])
        await webhooks.add_customers()
        seconds = options.seconds(60)
        spec = await webhooks.prepare(int(WORST_CASE_RATE * seconds), {"seconds": seconds, "rate": WORST_CASE_RATE})
        before = meter.cpu(stack)
        told = await webhooks.send(spec)
        used = meter.cpu(stack).since(before)
        idle = await _idle_cores(stack, 5)
        full = await _saturated(stack, webhooks, options.seconds(10))
        memory = meter.memory_mib(stack)
    count = told.answers["answered"]
    by_process = {name: seconds / count * 1e6 for name, seconds in used.items()}
    return [
        at_most(
            "cost",
            "CPU per webhook at saturation, all processes",
            "µs",
            value=sum(full.values()),
            most=CPU_MICROS_MAX,
            byProcess=full,
        ),
        stated("cost", f"the same at {WORST_CASE_RATE}/s", "µs", value=sum(by_process.values()), byProcess=by_process),
        stated("cost", "CPU of the idle stack", "cores", value=idle),
        at_most(
            "cost",
            "resident memory of the whole stack",
            "MiB",
            value=sum(memory.values()),
            most=MEMORY_MIB_MAX,
            byProcess=memory,
        ),
    ]


async def _idle_cores(stack: Stack, seconds: float) -> float:
    await asyncio.sleep(2)
    before = meter.cpu(stack)
    await asyncio.sleep(seconds)
    return sum(meter.cpu(stack).since(before).values()) / seconds


async def _saturated(stack: Stack, webhooks: Webhooks, seconds: float) -> dict[str, float]:
    """Microseconds per webhook, by process, when as many come as are answered."""
    most = int(SATURATED_RATE_MAX * seconds)
    spec = await webhooks.prepare(most, {"seconds": seconds, "most": most})
    before = meter.cpu(stack)
    told = await webhooks.send(spec)
    used = meter.cpu(stack).since(before)
    return {name: spent / told.answers["answered"] * 1e6 for name, spent in used.items()}
