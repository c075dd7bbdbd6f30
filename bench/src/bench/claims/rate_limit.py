"""Rate-limit accuracy: how much of a number's limit is used, and whether any second at Meta holds more than it.

Two numbers send at once, one at Meta's lower throughput and one at its higher, so that each has to keep its pace beside
the other.
"""

import asyncio
import itertools
from typing import Any

import asyncpg

from bench import product, sending
from bench.children import Json, Running
from bench.figures import percentile
from bench.options import Options
from bench.results import Row, at_least, at_most, stated
from bench.seed import Place
from devstack.workspace import Workspace, until

LIMITS = (80, 1000)
_SETTLE_SECONDS = 3
_PATIENCE_SECONDS = 60
_UNSTEADY_SECONDS = 30
"""For which messages are queued, too: the sender starts, settles, dies and hands over."""


async def measure(options: Options) -> list[Row]:
    """Steady for a while, then the sender dies, is steady again, hands over in order, and goes on."""
    seconds = options.seconds(40)
    async with (
        sending.sink() as (sink, port),
        product.started(overrides=sending.to_sink(port)) as stack,
        product.shop(stack, throughput=LIMITS[0]) as shop,
        product.database(stack) as db,
    ):
        places = await _places(shop, sink)
        await stack.take_down("messaging-sender")
        for turn, (limit, place) in enumerate(zip(LIMITS, places, strict=True)):
            count = int(limit * (3 * seconds + _UNSTEADY_SECONDS))
            await sending.queue_many(db, [place], count, first=turn * 1_000_000)
        await stack.bring_back("messaging-sender")
        steady = [await _steady(sink, seconds)]
        await stack.kill("messaging-sender")
        await stack.until_ready("messaging-sender")
        steady.append(await _steady(sink, seconds))
        await stack.restart("messaging-sender")
        steady.append(await _steady(sink, seconds))
        report = await sink.ask(do="report")
        unknown = await _unknown(db)
    rows: list[Row] = []
    for limit, place in zip(LIMITS, places, strict=True):
        rates = [phase[place.number] for phase in steady]
        rows += _rows(limit, rates, report["numbers"][place.number], unknown.get(place.number, 0))
    return rows


async def _places(shop: Workspace, sink: Running) -> list[Place]:
    """A number for each limit."""
    places = [Place.of(shop)]
    for limit in LIMITS[1:]:
        await shop.connect(throughput=limit)
        places.append(Place.of(shop))
    for limit, place in zip(LIMITS, places, strict=True):
        await sink.ask(do="limit", number=place.number, limit=limit)
    return places


async def _steady(sink: Running, seconds: float) -> dict[str, float]:
    """Messages per second of each number, between two that Meta has just got; once all numbers send again."""
    before = await _count(sink)

    async def flows() -> bool | None:
        now = await _count(sink)
        return all(now[number]["messages"] > was["messages"] for number, was in before.items()) or None

    await until(flows, "all numbers sending", seconds=_PATIENCE_SECONDS)
    await asyncio.sleep(_SETTLE_SECONDS)
    first = await _count(sink)
    await asyncio.sleep(seconds)
    last = await _count(sink)
    return {
        number: (last[number]["messages"] - was["messages"]) / (last[number]["lastAt"] - was["lastAt"])
        for number, was in first.items()
    }


async def _count(sink: Running) -> dict[str, Json]:
    """By number."""
    return dict((await sink.ask(do="count"))["numbers"])


async def _unknown(db: "asyncpg.Connection[asyncpg.Record]") -> dict[str, int]:
    """By number."""
    statement = "SELECT phone_number_id, count(*) FROM messages WHERE status = 'unknown' GROUP BY phone_number_id"
    return {row["phone_number_id"]: row["count"] for row in await db.fetch(statement)}


def _rows(limit: int, rates: list[float], judged: dict[str, Any], unknown: int) -> list[Row]:
    gaps = [later - earlier for earlier, later in itertools.pairwise(judged["moments"])]
    return [
        at_least(
            "rate-limit",
            f"share of {limit}/s used while steady: before a kill, after it, after a hand-over (least)",
            "",
            value=min(rates) / limit,
            least=0.99,
            each=[rate / limit for rate in rates],
        ),
        at_most(
            "rate-limit",
            f"sends beyond {limit} in any sliding second, through kill and hand-over",
            "",
            value=judged["refused"],
            most=0,
            mostInASecond=judged["most"],
        ),
        stated("rate-limit", f"silence after the kill at {limit}/s", "s", value=percentile(gaps, 1.0)),
        stated("rate-limit", f"messages of unknown outcome after the kill at {limit}/s", "", value=unknown),
        stated("rate-limit", f"messages sent twice at {limit}/s", "", value=judged["repeated"]),
    ]
