"""Arrival to browser: from the 200 that Meta gets to the event on the live stream, with 1,000 streams open.

Each webhook is told to all streams of its workspace. The target is meant for 1,000 workspaces with a stream each, which
is 3,300 events a second written and read. With ten streams each it would be 33,000; how much of that a machine holds is
stated beside it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench import children, meter, product
from bench.children import Json
from bench.figures import Spread
from bench.inbound import CONNECTIONS, WORST_CASE_RATE, Webhooks
from bench.options import Options
from bench.results import Row, at_most, stated
from devstack.stack import Stack
from devstack.workspace import Workspace

STREAMS = 1000
_STREAMS_EACH = 10
"""Of a workspace in which many people look at their inbox."""
_P50_MS_MAX, _P99_MS_MAX = 25, 100
_SECONDS, _LADDER_SECONDS = 60, 20
_QUICK_SHARE = 5
_CUSTOMERS = 50
_CUT_EVERY = 10
_SETTLE_SECONDS = 3


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of a run's inbound messages, of which each stream of their workspace is told."""

    rate: float
    spread: Spread
    """Milliseconds, on the streams that were not cut."""
    expected: int
    missed: int
    gateway: float
    """Its share of a core."""

    @property
    def is_held(self) -> bool:
        return self.spread.p50 <= _P50_MS_MAX and self.spread.p99 <= _P99_MS_MAX and not self.missed


async def measure(options: Options) -> list[Row]:
    share = _QUICK_SHARE if options.quick else 1
    async with product.started() as stack:
        shops = await product.shops(stack, STREAMS // share)
        return [
            *_target(await _run(stack, shops, 1, WORST_CASE_RATE / share, options.seconds(_SECONDS)), len(shops)),
            *await _many(stack, shops[::_STREAMS_EACH], WORST_CASE_RATE / share, options.seconds(_LADDER_SECONDS)),
        ]


def _target(seen: Seen, streams: int) -> list[Row]:
    where = f"{streams:,} streams of {streams:,} workspaces, {seen.rate:.0f} webhooks/s"
    p50, p99 = seen.spread.p50, seen.spread.p99
    return [
        at_most("browser", f"200 → event on the live stream, p50 ({where})", "ms", value=p50, most=_P50_MS_MAX),
        at_most("browser", "p99", "ms", value=p99, most=_P99_MS_MAX),
        at_most(
            "browser",
            "messages missed, a tenth of the streams having been cut and resumed",
            "",
            value=seen.missed,
            most=0,
            of=seen.expected,
        ),
        stated("browser", "gateway's share of a core", "", value=seen.gateway),
    ]


async def _many(stack: Stack, shops: Sequence[Workspace], rate: float, seconds: float) -> list[Row]:
    """Ten streams of each workspace: the rate is halved until all is in time again."""
    tried: dict[str, float] = {}
    while True:
        seen = await _run(stack, shops, _STREAMS_EACH, rate, seconds)
        tried[f"{rate:.0f}/s"] = seen.spread.p99
        if seen.is_held or rate < 1:
            break
        rate /= 2
    where = f"{len(shops) * _STREAMS_EACH:,} streams of {len(shops):,} workspaces"
    return [
        stated(
            "browser",
            f"webhooks/s that are in time on {where}, each told {_STREAMS_EACH} times",
            "/s",
            value=rate if seen.is_held else 0.0,
            p99ByRate=tried,
        ),
        stated("browser", "p50 there", "ms", value=seen.spread.p50),
        stated("browser", "p99 there", "ms", value=seen.spread.p99),
        stated("browser", "gateway's share of a core there", "", value=seen.gateway),
    ]


async def _run(stack: Stack, shops: Sequence[Workspace], each: int, rate: float, seconds: float) -> Seen:
    """`each`: streams of a workspace."""
    async with product.database(stack) as db:
        webhooks = Webhooks(stack, db, shops, customers=_CUSTOMERS)
        await webhooks.add_customers()
        spec = await webhooks.prepare(int(rate * seconds), {"seconds": seconds, "rate": rate, "tellsNamed": True})
        looking: Json = {
            "port": product.port(stack, "gateway"),
            "streams": [[place, shop.token] for place, shop in enumerate(shops)] * each,
            "cutAfter": seconds / 2,
            "cutEvery": _CUT_EVERY,
        }
        async with children.started("loads.streams", looking) as browsers:
            await browsers.told()
            before = meter.cpu(stack)
            answers = await children.run("loads.webhooks", {**spec, "connections": CONNECTIONS})
            gateway = meter.cpu(stack).since(before)["gateway"] / seconds
            await webhooks.stored(spec["run"], answers["statuses"]["200"])
            await asyncio.sleep(_SETTLE_SECONDS)
            browsers.command(do="end")
            seen = (await browsers.result())["seen"]
    return _compared(answers["named"], seen, len(shops), rate, gateway)


def _compared(sent: dict[str, float], seen: list[Json], workspaces: int, rate: float, gateway: float) -> Seen:
    by_place: dict[int, dict[str, float]] = {}
    for wamid, moment in sent.items():
        by_place.setdefault(int(wamid.rpartition(".")[2]) % workspaces, {})[wamid] = moment
    expected, missed, delays = 0, 0, []
    for browser in seen:
        written: dict[str, float] = by_place.get(browser["place"], {})
        at: dict[str, Any] = browser["at"]
        expected += len(written)
        missed += len(written.keys() - at.keys())
        if not browser["wasCut"]:
            delays += [max(0.0, at[wamid] - moment) * 1000 for wamid, moment in written.items() if wamid in at]
    return Seen(rate, Spread.of(delays), expected, missed, gateway)
