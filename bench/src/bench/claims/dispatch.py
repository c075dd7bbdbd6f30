"""Dispatch: from the durable queue through the limiter to Meta and the record, beside raw POSTs of aiohttp."""

import asyncio
import time
from typing import Any

import asyncpg

from bench import children, meter, product, sending
from bench.children import Running
from bench.figures import Spread, paired
from bench.options import Options
from bench.results import Row, at_most, by_ratio, stated
from bench.seed import Place
from devstack.stack import Stack
from devstack.workspace import Workspace

NUMBERS = 12
"""At 1,000 messages a second each: the numbers' limits are above what the machine can do."""
_CONNECTIONS = 64
_MESSAGES_PER_SECOND = 6000
"""For how long a run is about as long as its reference."""
_UNHURRIED_PER_SECOND = 5


async def measure(options: Options) -> list[Row]:
    async with (
        sending.sink() as (sink, port),
        product.started(overrides=sending.to_sink(port)) as stack,
        product.shop(stack) as shop,
        product.database(stack) as db,
    ):
        places = await sending.numbers(shop, NUMBERS)
        seconds = options.seconds(10)
        runs = Runs(stack, db, sink, places, int(_MESSAGES_PER_SECOND * seconds / NUMBERS))
        figures = await paired(runs.once, lambda: runs.raw(port, seconds), rounds=options.rounds)
        latencies = await accept_to_post(shop, db, sink, int(_UNHURRIED_PER_SECOND * options.seconds(40)))
    spread = Spread.of(latencies)
    return [
        by_ratio(
            "dispatch",
            f"messages/s, queue → limiter → POST → recorded, {NUMBERS} numbers",
            "/s",
            value=figures.subject,
            reference=figures.reference,
            ratio=figures.ratio,
            least=0.45,
        ),
        stated(
            "dispatch",
            "CPU per message, all processes",
            "µs",
            value=sum(runs.microseconds.values()),
            byProcess=runs.microseconds,
            judge=runs.judge_microseconds,
        ),
        stated("dispatch", "CPU per raw POST, its own process", "µs", value=runs.raw_microseconds),
        at_most("dispatch", "REST accepts → POST at Meta, not limited, p99", "ms", value=spread.p99, most=60),
        stated("dispatch", "the same, p50", "ms", value=spread.p50),
    ]


class Runs:
    """Each fills the queue while the sender is away, then lets it work."""

    def __init__(
        self, stack: Stack, db: "asyncpg.Connection[asyncpg.Record]", sink: Running, places: list[Place], each: int
    ) -> None:
        self._stack = stack
        self._db = db
        self._sink = sink
        self._places = places
        self._each = each
        self._first = 0
        self.microseconds: dict[str, float] = {}
        self.judge_microseconds = 0.0
        self.raw_microseconds = 0.0

    async def raw(self, port: int, seconds: float) -> float:
        """POSTs per second."""
        numbers = [f"1{number:05}" for number in range(NUMBERS * 4)]
        spec = {"port": port, "connections": _CONNECTIONS, "seconds": seconds, "numbers": numbers}
        result = await children.run("loads.posts", spec)
        await self._sink.ask(do="reset")
        self.raw_microseconds = float(result["microseconds"])
        return float(result["perSecond"])

    async def once(self) -> float:
        """Messages per second, from the first one that Meta got to the last one recorded."""
        await self._stack.take_down("messaging-sender")
        total = await sending.queue_many(self._db, self._places, self._each, first=self._first)
        self._first += self._each
        await self._sink.ask(do="reset")
        await self._stack.bring_back("messaging-sender")
        # What starting a process takes is no cost of a message.
        while not (already := (await self._sink.ask(do="count"))["messages"]):  # noqa: ASYNC110 (another process)
            await asyncio.sleep(0.01)
        before, sink_before = meter.cpu(self._stack), meter.cpu_seconds(self._sink.pid)
        await sending.until_recorded(self._db)
        ended = time.monotonic()
        used = meter.cpu(self._stack).since(before)
        self.judge_microseconds = (meter.cpu_seconds(self._sink.pid) - sink_before) / (total - already) * 1e6
        self.microseconds = {name: seconds / (total - already) * 1e6 for name, seconds in used.items()}
        report: dict[str, Any] = await self._sink.ask(do="report")
        if report["messages"] != total or report["repeated"]:
            raise children.LoadFailed(f"{report['messages']} of {total} messages arrived, {report['repeated']} again")
        began: float = min(each["moments"][0] for each in report["numbers"].values() if each["moments"])
        return total / (ended - began)


async def accept_to_post(
    shop: Workspace, db: "asyncpg.Connection[asyncpg.Record]", sink: Running, count: int
) -> list[float]:
    """Milliseconds from REST's answer to the arrival at Meta, each message to another customer."""
    conversations = await db.fetch(
        "SELECT id FROM conversations WHERE phone_number_id = $1 LIMIT $2", shop.phone_number_id, count
    )
    accepted: dict[str, float] = {}
    for conversation in conversations:
        message = await shop.answer(str(conversation["id"]), "Yes, it is.")
        accepted[message["id"]] = time.time()
        await asyncio.sleep(1 / _UNHURRIED_PER_SECOND)
    await asyncio.sleep(2)
    arrivals: dict[str, float] = (await sink.ask(do="arrivals"))["arrivals"]
    return [max(0.0, arrivals[message] - moment) * 1000 for message, moment in accepted.items()]
