"""API: a page of 50 conversations, and sending a message, beside a bare FastAPI that answers the same bytes."""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from bench import children, meter, product
from bench.children import Json
from bench.figures import paired
from bench.options import Options
from bench.results import Row, at_most, by_ratio, stated
from bench.seed import Place, Seeding
from devstack.ports import PortClaims
from devstack.stack import Stack
from devstack.workspace import Workspace

CONNECTIONS = 8
_CUSTOMERS = 1000
_LIST = "/v1/conversations?pageSize={size}"
_EXECUTE = "execute "


async def measure(options: Options) -> list[Row]:
    claims = PortClaims()
    try:
        # Sends wait in the queue here.
        room = {"AEROSTIC_MESSAGING_NUMBER_QUEUE_MAX": "1000000"}
        async with product.started(overrides=room) as stack, product.shop(stack) as shop:
            async with product.database(stack) as db:
                seeding = Seeding(db, Place.of(shop))
                await seeding.customers(_CUSTOMERS)
                await seeding.sent(3, run="api")
                await db.execute("ANALYZE")
                conversations = await db.fetch("SELECT id FROM conversations")
            page = await shop.get(_LIST.format(size=50))
            message = await shop.answer(str(conversations[0]["id"]), "Yes.")
            bare: Json = {"port": claims.claim(), "page": page, "message": message}
            async with children.started("references.api", bare) as running:
                await running.told()
                calls = Calls(stack, shop, running.pid, bare["port"], options)
                rows = await calls.rows(
                    "a page of 50 conversations", [{"method": "GET", "path": _LIST.format(size=50)}]
                )
                sends = [_send(str(each["id"])) for each in conversations]
                # What becomes of a message is the claim "dispatch": here it must not take the API's cores.
                for name in ("messaging-sender", meter.META):
                    await stack.take_down(name)
                rows += await calls.rows("sending a text", sends)
            rows.append(await _statements(stack, shop))
    finally:
        claims.release()
    return rows


class Calls:
    """Pairs the gateway with the bare server."""

    def __init__(self, stack: Stack, shop: Workspace, bare_pid: int, bare_port: int, options: Options) -> None:
        self._stack = stack
        self._shop = shop
        self._bare_pid = bare_pid
        self._ports = {"product": product.port(stack, "gateway"), "bare": bare_port}
        self._options = options
        self._told: list[dict[str, Any]] = []
        self._spent: dict[str, Spent] = {}

    async def rows(self, what: str, calls: list[Json]) -> list[Row]:
        self._told = []
        self._spent = {name: Spent() for name in self._ports}
        figures = await paired(
            lambda: self._at("product", calls), lambda: self._at("bare", calls), rounds=self._options.rounds
        )
        return [
            by_ratio(
                "api",
                f"{what}: requests/s, {CONNECTIONS} connections; reference: bare FastAPI with the same answer",
                "/s",
                value=figures.subject,
                reference=figures.reference,
                ratio=figures.ratio,
                least=0.25,
            ),
            stated("api", f"{what}: p99", "ms", value=max(each["p99"] for each in self._told)),
            stated("api", f"{what}: p50", "ms", value=max(each["p50"] for each in self._told)),
            stated(
                "api",
                f"{what}: CPU of a request, all processes",
                "µs",
                value=self._spent["product"].micros,
                reference=self._spent["bare"].micros,
                byProcess=self._spent["product"].by_process,
            ),
        ]

    async def _at(self, name: str, calls: list[Json]) -> float:
        spec = {"port": self._ports[name], "token": self._shop.token, "calls": calls, "connections": CONNECTIONS}
        before = self._cpu(name)
        result = await children.run("loads.api", {**spec, "seconds": self._options.seconds(10)})
        self._spent[name].add(self._cpu(name).since(before), sum(result["statuses"].values()))
        if set(result["statuses"]) != {"200"}:
            raise children.LoadFailed(f"not only 200: {result['statuses']}")
        if name == "product":
            self._told.append(result)
        return float(result["perSecond"])

    def _cpu(self, name: str) -> meter.Reading:
        return meter.cpu(self._stack) if name == "product" else meter.cpu_of(self._bare_pid)


@dataclass(slots=True)
class Spent:
    """CPU seconds by process, and for how many requests."""

    seconds: Counter[str] = field(default_factory=Counter)
    requests: int = 0

    def add(self, seconds: dict[str, float], requests: int) -> None:
        self.seconds.update(seconds)
        self.requests += requests

    @property
    def by_process(self) -> dict[str, float]:
        return {name: spent / self.requests * 1e6 for name, spent in self.seconds.items()}

    @property
    def micros(self) -> float:
        return sum(self.by_process.values())


def _send(conversation: str) -> Json:
    body = json.dumps({"text": {"body": "Yes, it is in stock, and we send it to Lisbon for 12 euros."}})
    return {"method": "POST", "path": f"/v1/conversations/{conversation}/messages", "body": body}


async def _statements(stack: Stack, shop: Workspace) -> Row:
    """SQL statements more for a page of 50 than for a page of 5, by PostgreSQL's own log."""
    await asyncio.to_thread(stack.postgres.run, "ALTER SYSTEM SET log_min_duration_statement = 0")
    await asyncio.to_thread(stack.postgres.run, "SELECT pg_reload_conf()")
    await asyncio.sleep(1)
    counts = {}
    for size in (5, 50):
        before = _executed(stack)
        await shop.get(_LIST.format(size=size))
        await asyncio.sleep(0.5)
        counts[size] = _executed(stack) - before
    more = counts[50] - counts[5]
    return at_most("api", "SQL statements more for 50 conversations than for 5", "", value=more, most=0, of=counts[50])


def _executed(stack: Stack) -> int:
    lines = stack.log("postgres").read_text(errors="replace").splitlines()
    return sum("messaging_app@messaging" in line and _EXECUTE in line for line in lines)
