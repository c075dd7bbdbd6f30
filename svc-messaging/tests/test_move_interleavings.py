"""Any order of sending, moving, claiming, recording and dying: no message leaves twice, none is forgotten, and each
contact gets his in the order in which they were written.

Real statements on a real database; what is simple here is the process around them.
"""

import asyncio
import os
from collections import defaultdict
from dataclasses import replace

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from messaging_factories import make_contact, make_conversation, make_message

from kit import outbox
from kit.db import Database
from kit.ids import new_id
from kit.principal import Principal
from svc_messaging import placements, send_commands
from svc_messaging.abandoned import mark_unknown
from svc_messaging.placements import Move
from svc_messaging.send_commands import Command
from svc_messaging.sender import claims, lanes, taking_over
from svc_messaging.sender.claims import Wanted
from svc_messaging.sender.lanes import Lanes, Queued
from svc_messaging.sender.taking_over import Partition

WORKER = Principal.service("messaging-sender")
NUMBER = "5550100"
READ_MAX = 3
"""New messages that one look finds, so that lanes stay behind."""
EXAMPLES = int(os.environ.get("AEROSTIC_INTERLEAVINGS", "15"))


class Owner:
    """Who sends for the number in one scope; what it has in memory dies with it."""

    def __init__(self, world, scope: str) -> None:
        self.world, self.scope = world, scope
        self.lanes = Lanes()
        self.seen = {}
        self.in_flight: list[Command] = []

    async def take_over(self) -> None:
        async with self.world.db.begin(WORKER, first=placements.HOLD) as tx:
            partition = Partition(0, 1, self.scope)
            numbers = await taking_over.waiting_numbers(tx, partition)
            found = await taking_over.orphans(tx, partition, numbers)
            await mark_unknown(tx, [each for each in found if each[0] == self.world.tenant_id])
        self.lanes.forget()

    async def read(self) -> None:
        """The lanes that are behind."""
        for lane in self.lanes.to_read():
            asked = self.lanes.reading(lane)
            asked = replace(asked, most=asked.most - lanes.KEPT_MAX + READ_MAX)
            async with self.world.db.begin(WORKER, first=placements.HOLD) as tx:
                oldest = await taking_over.oldest(tx, [self.world.tenant_id], NUMBER, self.scope, lane, asked)
            self.lanes.found(lane, (Queued(each, lane) for each in oldest), is_all=len(oldest) < asked.most)

    async def claim(self, most: int) -> None:
        await self.read()
        batch = self.lanes.take(most)
        wanted = [Wanted(each.command, self.scope, self.seen.get(each.command.tenant_id)) for each in batch]
        async with self.world.db.begin(WORKER, first=placements.HOLD) as tx:
            claimed = await claims.claim(tx, wanted, partitions=1)
        ids = {row["id"] for row in claimed.rows}
        for queued in batch:
            if queued.command.message_id in ids:
                self.in_flight.append(queued.command)
                self.world.left[queued.command.contact_id].append(queued.command.message_id)
            elif queued.command.message_id not in claimed.unseen:
                self.finish(queued.command)
        if claimed.unseen:
            self.lanes.put_back([each for each in batch if each.command.message_id in claimed.unseen])
            async with self.world.db.begin(WORKER, first=placements.HOLD) as tx:
                settled_at = await taking_over.settled_at(tx, self.world.tenant_id)
            self.lanes.forget()
            self.seen[self.world.tenant_id] = settled_at

    async def record(self) -> None:
        for command in self.in_flight:
            await self.world.sql.execute(
                "UPDATE messages SET status = 'accepted', accepted_at = now() WHERE id = $1", command.message_id
            )
            self.finish(command)
        self.in_flight = []

    def finish(self, command: Command) -> None:
        self.lanes.finish(command)
        self.lanes.free_contact(command.contact_id)


class World:
    """A tenant, two scopes, and the stream between the outbox and the owners."""

    def __init__(self, db, sql) -> None:
        self.db, self.sql = db, sql
        self.tenant_id = new_id()
        self.stream: dict[str, list[Command]] = {"": [], str(self.tenant_id): []}
        self.left: dict[object, list[object]] = defaultdict(list)
        self.died = 0

    async def open(self) -> None:
        # Orphans and waiting messages are looked for by number: those of the examples before are not ours.
        await self.sql.execute("DELETE FROM messages")
        self.conversations = []
        for _ in range(2):
            contact = await make_contact(self.sql, self.tenant_id)
            self.conversations.append(
                await make_conversation(self.sql, self.tenant_id, contact_id=contact["id"], phone_number_id=NUMBER)
            )
        self.owners = {scope: Owner(self, scope) for scope in self.stream}

    async def placed(self):
        return await self.sql.fetchrow("SELECT * FROM placements WHERE tenant_id = $1", self.tenant_id)

    async def send(self, which: int) -> None:
        conversation, row = self.conversations[which], await self.placed()
        message = await make_message(self.sql, self.tenant_id, conversation=conversation, direction="outbound")
        command = Command(message["id"], self.tenant_id, NUMBER, message["contact_id"])
        scope = placements.scope_of(self.tenant_id, row and row["isolation"])
        async with self.db.begin(WORKER) as tx:
            await outbox.add(tx, [send_commands.outgoing(command, lane="live", partitions=1, scope=scope)])

    async def relay(self) -> None:
        for row in await self.sql.fetch("DELETE FROM outbox RETURNING id, subject, data"):
            if row["subject"].startswith("send."):
                scope = row["subject"].rpartition(".")[2].removesuffix("0").removesuffix("-")
                if scope in self.stream:
                    found = send_commands.decode(row["data"])
                    self.stream[scope] += [each for each in found if each.tenant_id == self.tenant_id]

    def deliver(self, scope: str, at: int) -> None:
        """A command may come out of order, and stays in the stream until somebody is done with it."""
        waiting = self.stream[scope]
        if waiting:
            self.owners[scope].lanes.add(Queued(waiting[at % len(waiting)], "live"))

    async def move(self, isolation: str) -> None:
        async with self.db.begin(WORKER, first=placements.CHANGE) as tx:
            await placements.move(tx, self.tenant_id, isolation)

    async def settle(self) -> None:
        row = await self.placed()
        if row is None or row["settled_at"] is not None:
            return
        move = Move(self.tenant_id, row["moved_at"])
        async with self.db.begin(WORKER, first=placements.CHANGE) as tx:
            seen = await placements.look(tx, move)
            if seen["is_drained"]:
                await placements.settle(tx, move, partitions=1)

    async def die(self, scope: str) -> None:
        self.died += 1
        self.owners[scope] = Owner(self, scope)
        await self.owners[scope].take_over()

    async def check(self) -> None:
        for left in self.left.values():
            assert len(left) == len(set(left)), "a message left twice"
            assert left == sorted(left), "a younger message overtook an older one"

    async def come_to_rest(self) -> None:
        """With everybody alive all that waits leaves."""
        for _ in range(40):
            for owner in self.owners.values():
                await owner.record()
            await self.settle()
            await self.relay()
            for scope, owner in self.owners.items():
                for command in self.stream[scope]:
                    owner.lanes.add(Queued(command, "live"))
                self.stream[scope] = []
                await owner.claim(10)
            if not await self.sql.fetchval(
                "SELECT count(*) FROM messages WHERE tenant_id = $1 AND status IN ('queued', 'sending')", self.tenant_id
            ):
                break
        await self.check()
        rows = await self.sql.fetch(
            "SELECT status, count(*) FROM messages WHERE tenant_id = $1 GROUP BY 1", self.tenant_id
        )
        statuses = {row["status"]: row["count"] for row in rows}
        assert statuses.keys() <= {"accepted", "unknown"}, f"forgotten: {statuses}"
        assert self.died or "unknown" not in statuses, "nobody died"


class Interleavings(RuleBasedStateMachine):
    """Subclasses bring the engines."""

    loop: asyncio.AbstractEventLoop
    db: Database
    sql: asyncpg.Connection

    def run_now(self, step):
        return self.loop.run_until_complete(step)

    @initialize()
    def begin(self):
        self.world = World(self.db, self.sql)
        self.run_now(self.world.open())

    @rule(which=st.sampled_from([0, 1]))
    def send(self, which):
        self.run_now(self.world.send(which))

    @rule()
    def relay(self):
        self.run_now(self.world.relay())

    @rule(own=st.booleans(), at=st.integers(0, 3))
    def deliver(self, own, at):
        self.world.deliver(self.scope(own), at)

    @rule(own=st.booleans(), most=st.integers(1, 3))
    def claim(self, own, most):
        self.run_now(self.world.owners[self.scope(own)].claim(most))

    @rule(own=st.booleans())
    def record(self, own):
        self.run_now(self.world.owners[self.scope(own)].record())

    @rule(isolation=st.sampled_from(["shared", "dedicated"]))
    def move(self, isolation):
        self.run_now(self.world.move(isolation))

    @rule()
    def settle(self):
        self.run_now(self.world.settle())

    @rule(own=st.booleans())
    def die(self, own):
        self.run_now(self.world.die(self.scope(own)))

    @precondition(lambda self: hasattr(self, "world"))
    @rule(own=st.booleans())
    def lose_commands(self, own):
        """As when NATS comes back empty, after which owners look for themselves."""
        scope = self.scope(own)
        self.world.stream[scope] = []
        self.run_now(self.world.die(scope))

    def scope(self, own):
        return str(self.world.tenant_id) if own else ""

    def teardown(self):
        if hasattr(self, "world"):
            self.run_now(self.world.come_to_rest())


@pytest.fixture
def database(postgres):
    """Of its own: whatever waits there is this test's."""
    fresh = postgres.fresh_database("messaging")
    yield fresh
    fresh.drop()


@pytest.mark.timeout(600)
def test_no_order_of_steps_doubles_forgets_or_reorders(database, monkeypatch):
    # So that much waits of each customer.
    monkeypatch.setattr(lanes, "CONTACT_KEPT_MAX", 2)
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        db = loop.run_until_complete(Database.connect(database.worker_url, name="test moves", connections=2))
        sql = loop.run_until_complete(asyncpg.connect(database.superuser_url))
        try:
            run_state_machine_as_test(
                type("Placed", (Interleavings,), {"loop": loop, "db": db, "sql": sql}),
                settings=settings(
                    max_examples=EXAMPLES,
                    stateful_step_count=30,
                    phases=[Phase.explicit, Phase.reuse, Phase.generate],
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            loop.run_until_complete(sql.close())
            loop.run_until_complete(db.close())
