"""Arrival to browser: from the 200 that Meta gets to the event on the live stream, with 1,000 streams open."""

import asyncio
import contextlib
from typing import Any

from bench import children, meter, product
from bench.figures import Spread
from bench.inbound import CONNECTIONS, WORST_CASE_RATE, Webhooks
from bench.options import Options
from bench.results import Row, at_most, stated

STREAMS = 1000
WORKSPACES = 100
"""Ten people of each look at their inbox, and the traffic is theirs in equal parts."""
_CUSTOMERS = 50
_CUT_EVERY = 10
_SETTLE_SECONDS = 3


async def measure(options: Options) -> list[Row]:
    workspaces, streams = (20, 200) if options.quick else (WORKSPACES, STREAMS)
    seconds = options.seconds(60)
    async with product.started() as stack, contextlib.AsyncExitStack() as open_shops:
        shops = [await open_shops.enter_async_context(product.shop(stack)) for _ in range(workspaces)]
        async with product.database(stack) as db:
            webhooks = Webhooks(stack, db, shops, customers=_CUSTOMERS)
            await webhooks.add_customers()
            rate = WORST_CASE_RATE * streams / STREAMS if options.quick else WORST_CASE_RATE
            spec = await webhooks.prepare(int(rate * seconds), {"seconds": seconds, "rate": rate, "tellsNamed": True})
            looking: dict[str, Any] = {
                "port": product.port(stack, "gateway"),
                "streams": [[place % workspaces, shops[place % workspaces].token] for place in range(streams)],
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
    return _rows(answers["named"], seen, workspaces, rate, gateway)


def _rows(
    sent: dict[str, float], seen: list[dict[str, Any]], workspaces: int, rate: float, gateway: float
) -> list[Row]:
    by_place: dict[int, dict[str, float]] = {}
    for wamid, moment in sent.items():
        by_place.setdefault(int(wamid.rpartition(".")[2]) % workspaces, {})[wamid] = moment
    missed, delays = 0, []
    for browser in seen:
        expected = by_place.get(browser["place"], {})
        missed += len(expected.keys() - browser["at"].keys())
        if not browser["wasCut"]:
            delays += [max(0.0, browser["at"][w] - at) * 1000 for w, at in expected.items() if w in browser["at"]]
    spread = Spread.of(delays)
    where = f"{len(seen)} streams of {workspaces} workspaces, {rate:.0f} webhooks/s"
    return [
        at_most("browser", f"200 → event on the live stream, p50 ({where})", "ms", value=spread.p50, most=25),
        at_most("browser", "p99", "ms", value=spread.p99, most=100),
        at_most(
            "browser",
            "messages missed, a tenth of the streams having been cut and resumed",
            "",
            value=missed,
            most=0,
            of=sum(len(by_place.get(browser["place"], {})) for browser in seen),
        ),
        stated("browser", "gateway's share of a core", "", value=gateway),
    ]
