"""Rate-limit accuracy: how much of a number's limit is used, and whether any second at Meta holds more than it."""

import asyncio
import itertools
from typing import Any

from bench import product, sending
from bench.children import Running
from bench.figures import percentile
from bench.options import Options
from bench.results import Row, at_least, at_most, stated

LIMITS = (80, 1000)


async def measure(options: Options) -> list[Row]:
    rows: list[Row] = []
    for limit in LIMITS:
        rows += await _measure(limit, options.seconds(40))
    return rows


async def _measure(limit: int, seconds: float) -> list[Row]:
    """Steady for a while, then the sender dies, is steady again, hands over in order, and goes on."""
    async with (
        sending.sink(limit=limit) as (sink, port),
        product.started(overrides=sending.to_sink(port)) as stack,
        product.shop(stack, throughput=limit) as shop,
        product.database(stack) as db,
    ):
        await stack.take_down("messaging-sender")
        places = await sending.numbers(shop, 1)
        await sending.queue_many(db, places, int(limit * (3 * seconds + 30)))
        await stack.bring_back("messaging-sender")
        await asyncio.sleep(3)
        steady = [await _steady(sink, seconds)]
        await stack.kill("messaging-sender")
        await stack.until_ready("messaging-sender")
        await asyncio.sleep(3)
        steady.append(await _steady(sink, seconds))
        await stack.restart("messaging-sender")
        await asyncio.sleep(3)
        steady.append(await _steady(sink, seconds))
        report = await sink.ask(do="report")
        unknown = await db.fetchval("SELECT count(*) FROM messages WHERE status = 'unknown'")
    (number,) = report["numbers"].values()
    return [
        at_least(
            "rate-limit",
            f"share of {limit}/s used while steady: before a kill, after it, after a hand-over (least)",
            "",
            value=min(steady) / limit,
            least=0.99,
            each=[each / limit for each in steady],
        ),
        at_most(
            "rate-limit",
            f"sends beyond {limit} in any sliding second, through kill and hand-over",
            "",
            value=number["refused"],
            most=0,
            mostInASecond=number["most"],
        ),
        stated("rate-limit", f"silence after the kill at {limit}/s", "s", value=_longest_gap(number["moments"])),
        stated("rate-limit", f"messages of unknown outcome after the kill at {limit}/s", "", value=unknown),
        stated("rate-limit", f"messages sent twice at {limit}/s", "", value=report["repeated"]),
    ]


async def _steady(sink: Running, seconds: float) -> float:
    """Messages per second, between two that Meta has just got."""
    first: dict[str, Any] = await sink.ask(do="count")
    await asyncio.sleep(seconds)
    last: dict[str, Any] = await sink.ask(do="count")
    return float((last["messages"] - first["messages"]) / (last["lastAt"] - first["lastAt"]))


def _longest_gap(moments: list[float]) -> float:
    return percentile([later - earlier for earlier, later in itertools.pairwise(moments)], 1.0)
