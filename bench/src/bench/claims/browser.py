"""Arrival to browser: from the 200 that Meta gets to the event on the live stream, with 1,000 streams open.

Each webhook is told to all streams of its workspace. The target is meant for 1,000 workspaces with a stream each, which
is 3,300 events a second written and read. With ten streams each it would be 33,000; how much of that a machine holds is
stated beside it.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from bench import children, meter, product, steps
from bench.children import Json
from bench.figures import Spread
from bench.inbound import CONNECTIONS, WORST_CASE_RATE, Webhooks
from bench.options import Options
from bench.results import Row, at_most, stated
from bench.steps import Steps
from devstack.stack import Stack
from devstack.workspace import Workspace

STREAMS = 1000
_STREAMS_EACH = 10
"""Of a workspace in which many people look at their inbox."""
_P50_MS_MAX, _P99_MS_MAX = 25, 100
_SECONDS, _LADDER_SECONDS = 60, 20
_QUICK_SHARE = 10
_RUNGS, _QUICK_RUNGS = 5, 3
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
    steps: Steps
    cores: dict[str, float]
    """By process, its share of a core."""

    @property
    def is_held(self) -> bool:
        return self.spread.p50 <= _P50_MS_MAX and self.spread.p99 <= _P99_MS_MAX and not self.missed


async def measure(options: Options) -> list[Row]:
    share = _QUICK_SHARE if options.quick else 1
    streams, rate = STREAMS // share, WORST_CASE_RATE / share
    async with product.started() as stack, product.database(stack) as db:
        shops = await product.shops(stack, streams + streams // _STREAMS_EACH)
        alone = Looked(stack, db, shops[:streams])
        together = Looked(stack, db, shops[streams:], each=_STREAMS_EACH)
        await alone.prepare()
        await together.prepare()
        seen = await alone.run(rate, options.seconds(_SECONDS))
        return [*_target(seen, streams), *await _many(together, rate, options)]


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
        stated("browser", "200 → committed, p50", "ms", value=seen.steps.committed.p50, p99=seen.steps.committed.p99),
        stated("browser", "200 → on EVENTS, p50", "ms", value=seen.steps.published.p50, p99=seen.steps.published.p99),
        stated("browser", "cores taken", "", value=sum(seen.cores.values()), byProcess=seen.cores),
    ]


async def _many(together: "Looked", rate: float, options: Options) -> list[Row]:
    """The rate is halved until all is in time again."""
    tried: dict[str, float] = {}
    for rung in range(_QUICK_RUNGS if options.quick else _RUNGS):
        seen = await together.run(rate / 2**rung, options.seconds(_LADDER_SECONDS))
        tried[f"{seen.rate:.0f}/s"] = seen.spread.p99
        if seen.is_held:
            break
    return [
        stated(
            "browser",
            f"webhooks/s that are in time on {together.where}, each told {together.each} times",
            "/s",
            value=seen.rate if seen.is_held else 0.0,
            p99ByRate=tried,
        ),
        stated("browser", "p50 there", "ms", value=seen.spread.p50),
        stated("browser", "p99 there", "ms", value=seen.spread.p99),
        stated("browser", "cores taken there", "", value=sum(seen.cores.values()), byProcess=seen.cores),
    ]


class Looked:
    """Workspaces with so many streams each."""

    def __init__(
        self, stack: Stack, db: "asyncpg.Connection[asyncpg.Record]", shops: Sequence[Workspace], *, each: int = 1
    ) -> None:
        self.each = each
        self._stack = stack
        self._shops = shops
        self._webhooks = Webhooks(stack, db, shops, customers=_CUSTOMERS)

    @property
    def where(self) -> str:
        return f"{len(self._shops) * self.each:,} streams of {len(self._shops):,} workspaces"

    async def prepare(self) -> None:
        await self._webhooks.add_customers()

    async def run(self, rate: float, seconds: float) -> Seen:
        webhooks = self._webhooks
        spec = await webhooks.prepare(int(rate * seconds), {"seconds": seconds, "rate": rate, "tellsNamed": True})
        looking: Json = {
            "port": product.port(self._stack, "gateway"),
            "streams": [[place, shop.token] for place, shop in enumerate(self._shops)] * self.each,
            "cutAfter": seconds / 2,
            "cutEvery": _CUT_EVERY,
        }
        async with children.started("loads.streams", looking) as browsers:
            await browsers.told()
            before, began = meter.cpu(self._stack), time.time()
            answers = await children.run("loads.webhooks", {**spec, "connections": CONNECTIONS})
            used = meter.cpu(self._stack).since(before)
            await webhooks.stored(spec["run"], answers["statuses"]["200"])
            await asyncio.sleep(_SETTLE_SECONDS)
            browsers.command(do="end")
            seen = (await browsers.result())["seen"]
        way = await steps.of_run(self._stack, webhooks, spec["run"], answers["named"], since=began)
        cores = {name: cpu / seconds for name, cpu in used.items()}
        return _compared(answers["named"], seen, len(self._shops), rate, way, cores)


def _compared(
    sent: dict[str, float], seen: list[Json], workspaces: int, rate: float, way: Steps, cores: dict[str, float]
) -> Seen:
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
    return Seen(rate, Spread.of(delays), expected, missed, way, cores)
