"""Placing: moves tenants to where svc-tenants says that their work shall wait, and tells the ingest (ADR 0025).

One process of all does it. Every step is a transaction whose repetition changes nothing, so a crash at any moment, or
two that place at once, do no harm; what is remembered here only says how long something has been so.
"""

import asyncio
import time
import uuid
from dataclasses import dataclass, field

import asyncpg
import nats.errors
import structlog
from aerostic.tenants.v1.placement_service_pb2 import ListDedicatedTenantsRequest
from aerostic.tenants.v1.placement_service_pb2_grpc import PlacementServiceStub
from nats.js.errors import Error as JetStreamError
from prometheus_client import Counter, Gauge, Histogram

from kit import routes
from kit.bus import Bus, Msg
from kit.db import Database, Row, as_app_error
from kit.errors import RemoteError
from kit.grpc_client import Channel
from kit.leases import LeasePool
from kit.principal import Principal
from svc_messaging import erasures, placements
from svc_messaging.abandoned import mark_unknown
from svc_messaging.inbox.leaving import Leaving
from svc_messaging.placements import HAND_OVER_SECONDS, Move

log = structlog.get_logger()

_ASK_SECONDS = 5.0
_MOVING_SECONDS = 0.25
_AGAIN_SECONDS = 1.0
_AWAY = (nats.errors.Error, JetStreamError, TimeoutError, ConnectionError)

_moves = Counter("aerostic_placement_moves_total", "Moves of tenants that have settled, by where to", ["isolation"])
_move_seconds = Histogram(
    "aerostic_placement_move_seconds",
    "Time for which a move paused a tenant's sending",
    buckets=(1.5, 2, 3, 5, 10, 30, 60, 75, 120),
)
_unsettled = Gauge("aerostic_placement_unsettled_oldest_seconds", "Age of the oldest move that has not settled")


@dataclass(slots=True)
class _Drain:
    """What was seen of a move."""

    first_transaction: int
    """All that began before the move was seen have lower numbers."""
    drained_at: float | None = None
    """Since when nothing of the tenant is on its way, by time.monotonic()."""


@dataclass(slots=True)
class _Told:
    """What svc-tenants said last."""

    numbers: dict[uuid.UUID, list[str]] | None = None
    """Numbers of the dedicated tenants; None before the first word."""
    asked_at: float = field(default=float("-inf"))


class Placing:
    """While svc-tenants is away nobody moves; moves that have begun are carried to their end."""

    def __init__(self, db: Database, worker: Principal, tenants: Channel, bus: Bus, leaving: Leaving) -> None:
        self._db = db
        self._worker = worker
        self._channel = tenants
        self._stub = tenants.stub(PlacementServiceStub)
        self._bus = bus
        self._leaving = leaving
        self._told = _Told()
        self._drains: dict[Move, _Drain] = {}
        self._published: tuple[dict[str, str], float] | None = None

    async def run(self, dsn: str, stop: asyncio.Event) -> None:
        await LeasePool(dsn, "placing", 1).run(self._work, stop)

    async def _work(self, _lease: int, stop: asyncio.Event) -> None:
        self._told, self._drains, self._published = _Told(), {}, None
        changed = asyncio.Event()

        async def heard(_message: Msg) -> None:
            self.ask_anew()
            changed.set()

        def missed() -> None:
            self.ask_anew()
            changed.set()

        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._bus.follow("events.tenants.*.*.*", heard, missed=missed, stop=stop))
                while not stop.is_set():
                    changed.clear()
                    seconds = await self._step_or_wait()
                    waits = [asyncio.ensure_future(event.wait()) for event in (changed, stop)]
                    await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                    for wait in waits:
                        wait.cancel()
        finally:
            _unsettled.set(0)

    async def _step_or_wait(self) -> float:
        """Gives the seconds until the next step."""
        try:
            return _MOVING_SECONDS if await self.step() else _ASK_SECONDS
        except Exception as error:
            if not _is_passing(error):
                raise
            log.warning("placing_waits", error=repr(error))
            return _AGAIN_SECONDS

    def ask_anew(self) -> None:
        """svc-tenants has changed something."""
        self._told.asked_at = float("-inf")

    async def step(self) -> bool:
        """Do what can be done now. Tells whether a move is under way."""
        await self._ask()
        placed = await self._placed()
        for tenant_id, isolation in self._wanted(placed):
            async with self._db.begin(self._worker, first=placements.CHANGE) as tx:
                if await placements.move(tx, tenant_id, isolation):
                    log.info("tenant_moves", tenant=str(tenant_id), isolation=isolation)
        placed = await self._placed()
        await self._publish(placed)
        moving = [Move(row["tenant_id"], row["moved_at"]) for row in placed if row["settled_at"] is None]
        self._drains = {each: drain for each, drain in self._drains.items() if each in moving}
        left = [each for each in moving if not await self._carry_on(each)]
        _unsettled.set(await self._age(left))
        await self._leaving.forget_empty(placed)
        return bool(left)

    async def _placed(self) -> list[Row]:
        async with self._db.begin(self._worker) as tx:
            return await placements.every(tx)

    async def _ask(self) -> None:
        now = time.monotonic()
        if now - self._told.asked_at < _ASK_SECONDS:
            return
        # Before the answer: what is told meanwhile asks once more.
        self._told.asked_at = now
        try:
            answer = await self._channel.call(self._stub.ListDedicatedTenants, ListDedicatedTenantsRequest(), timeout=5)
        except RemoteError as error:
            log.warning("placing_without_tenants", error=error.reason)
            return
        self._told.numbers = {uuid.UUID(each.tenant_id): list(each.phone_number_ids) for each in answer.tenants}

    def _wanted(self, placed: list[Row]) -> list[tuple[uuid.UUID, str]]:
        """The moves to begin: of tenants whose last one has settled."""
        if self._told.numbers is None:
            return []
        known = {row["tenant_id"]: row for row in placed}
        dedicated = [each for each in self._told.numbers if each not in known or known[each]["isolation"] == "shared"]
        shared = [each for each, row in known.items() if row["isolation"] == "dedicated"]
        moves = [(each, "dedicated") for each in dedicated]
        moves += [(each, "shared") for each in shared if each not in self._told.numbers]
        return [(each, where) for each, where in moves if each not in known or known[each]["settled_at"] is not None]

    async def _carry_on(self, move: Move) -> bool:
        """Bring a move nearer to its end. True where it has settled."""
        async with self._db.begin(self._worker) as tx:
            seen = await placements.look(tx, move)
        if seen is None:
            return True
        drain = self._drains.setdefault(move, _Drain(first_transaction=seen["next_transaction"]))
        is_drained = seen["is_drained"] and seen["oldest_transaction"] >= drain.first_transaction
        if not is_drained and not seen["is_overdue"]:
            return False
        if not seen["is_drained"]:
            await self._give_up(move)
        now = time.monotonic()
        if drain.drained_at is None:
            drain.drained_at = now
        # What arrived at Meta just now counts in its last second.
        if now - drain.drained_at < HAND_OVER_SECONDS:
            return False
        return await self._settle(move)

    async def _give_up(self, move: Move) -> None:
        async with self._db.begin(self._worker, first=placements.CHANGE) as tx:
            sending = await placements.still_sending(tx, move)
            await mark_unknown(tx, sending)
        log.warning("move_gave_up_on_messages", tenant=str(move.tenant_id), unknown=len(sending))

    async def _settle(self, move: Move) -> bool:
        async with self._db.begin(self._worker, first=placements.CHANGE) as tx:
            settled = await placements.settle(tx, move, partitions=self._leaving.send_partitions)
        if settled is not None:
            _moves.labels(settled["isolation"]).inc()
            _move_seconds.observe(settled["seconds"])
            log.info(
                "tenant_moved",
                tenant=str(move.tenant_id),
                isolation=settled["isolation"],
                seconds=round(settled["seconds"], 3),
            )
        return True

    async def _age(self, left: list[Move]) -> float:
        if not left:
            return 0.0
        oldest = min(each.moved_at for each in left)
        async with self._db.begin(self._worker) as tx:
            age: float = await tx.fetchval("SELECT extract(epoch FROM clock_timestamp() - $1)::float", oldest)
        return age

    async def _publish(self, placed: list[Row]) -> None:
        """Tell the ingest which numbers are whose, when that changes and to confirm it. What svc-tenants said last
        stands while it is away.
        """
        if self._told.numbers is None:
            return
        dedicated = {row["tenant_id"] for row in placed if row["isolation"] == "dedicated"}
        now = time.monotonic()
        numbers = {
            number: str(tenant_id)
            for tenant_id, each in self._told.numbers.items()
            if tenant_id in dedicated
            for number in each
        }
        if (
            self._published is None
            or self._published[0] != numbers
            or now - self._published[1] > routes.CONFIRM_SECONDS
        ):
            try:
                await routes.publish(self._bus, numbers)
            except _AWAY as error:
                log.warning("routes_not_published", error=repr(error))
            else:
                self._published = (numbers, now)


def _is_passing(error: Exception) -> bool:
    """An outage, claims that took longer than a move waits for them, or a workspace erased in this very moment."""
    known = as_app_error(error) or erasures.as_app_error(error)
    return known is not None or isinstance(error, asyncpg.LockNotAvailableError | nats.errors.Error | JetStreamError)
