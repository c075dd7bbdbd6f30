"""Sending for one number: two lanes, one limiter, order per contact.

The live lane goes first at every slot; the bulk lane takes what is left. Messages to one contact leave one after the
other, each after the outcome of the one before, since Meta keeps no order between calls in flight.
"""

import asyncio
import time
import uuid
from collections.abc import Iterable
from datetime import datetime
from functools import partial

import structlog
from opentelemetry.trace import SpanKind

from kit import telemetry
from kit.db import Row, as_app_error
from svc_messaging import placements
from svc_messaging.placements import HAND_OVER_SECONDS
from svc_messaging.send_commands import Command
from svc_messaging.sender import outcomes, taking_over
from svc_messaging.sender.claims import Claimed, Wanted, command_of
from svc_messaging.sender.credentials import Credentials, CredentialsUnavailable, NotConnected
from svc_messaging.sender.gate import Closed, Gate
from svc_messaging.sender.lanes import Lanes, Queued
from svc_messaging.sender.limiter import batch_size
from svc_messaging.sender.outcomes import Outcome, Pause
from svc_messaging.sender.pace import Pace
from svc_messaging.sender.parts import Parts
from svc_messaging.sender.recorder import Record
from svc_messaging.sender.tries import Tries

log = structlog.get_logger()

# What left later might still be under way when a move stops waiting for it: placements.IN_FLIGHT_SECONDS_MAX.
_CLAIM_SECONDS = 45.0


class NumberSender:
    """Sends the messages of one number until told to stop, then finishes what it has claimed."""

    def __init__(self, phone_number_id: str, parts: Parts, *, scope: str, owned_since: float) -> None:
        """`owned_since`, by time.monotonic(): nobody else sends for the number in this scope from then on."""
        self._number = phone_number_id
        self._parts = parts
        self._scope = scope
        self._seen: dict[uuid.UUID, datetime | None] = {}
        """When the latest move of each tenant had settled that this one has looked at. (A number may change hands.)"""
        self._tenants: set[uuid.UUID] = set()
        """Whose messages have come."""
        self._knows_retries = True
        self._loop = asyncio.get_running_loop()
        self.lanes = Lanes()
        self._claimed_ahead = 0
        self._room = asyncio.Event()
        self._pace = Pace(80, first_at=owned_since + HAND_OVER_SECONDS)
        self._gate = Gate(phone_number_id, parts.credentials)
        self._tries = Tries(phone_number_id, parts, gate=self._gate, pace=self._pace)

    async def run(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            while not stop.is_set():
                if not self.lanes.has_next:
                    await self.lanes.until_next(seconds=0.5)
                    self._pace.rest()
                    continue
                credentials = await self._usable_credentials(stop)
                if credentials is not None:
                    self._pace.set_rate(credentials.messages_per_second)
                    await self._send_some(credentials, tasks)

    def add(self, queued: Queued) -> None:
        """A command arrived."""
        self._tenants.add(queued.command.tenant_id)
        self.lanes.add(queued)

    def look_anew(self, tenants: Iterable[uuid.UUID]) -> None:
        """What waits is to be read from the table before anything more goes; also what waits of these tenants."""
        self._tenants.update(tenants)
        self._knows_retries = False
        self.lanes.forget()

    async def _send_some(self, credentials: Credentials, tasks: asyncio.TaskGroup) -> None:
        """Claim the next few and start a delivery for each; returns when there is room to claim more."""
        most = batch_size(credentials.messages_per_second)
        batch, began = await self._take(most), time.monotonic()
        try:
            claimed = await self._claim(batch)
        except Exception as error:
            if as_app_error(error) is None:
                raise
            log.warning("claiming_waits_for_database", number=self._number, error=repr(error))
            self.lanes.put_back(batch)
            await asyncio.sleep(0.5)
            return
        by_id = {queued.command.message_id: queued for queued in batch}
        self._claimed_ahead += len(claimed.rows)
        for row in claimed.rows:
            tasks.create_task(self._deliver(row, by_id[row["id"]], credentials, expires=began + _CLAIM_SECONDS))
        if claimed.unseen:
            await self._look_at_moved([each for each in batch if each.command.message_id in claimed.unseen])
        while self._claimed_ahead >= most:
            self._room.clear()
            await self._room.wait()

    async def _take(self, most: int) -> list[Queued]:
        """The next messages, after a look into the table where these may stand there alone. None without the look."""
        lanes = self.lanes.to_read()
        if lanes or not self._knows_retries:
            try:
                await self._read(lanes)
            except Exception as error:
                if as_app_error(error) is None:
                    raise
                log.warning("reading_waits_for_database", number=self._number, error=repr(error))
                await asyncio.sleep(0.5)
                return []
        return self.lanes.take(most)

    async def _read(self, lanes: list[str]) -> None:
        db, worker = self._parts.db, self._parts.worker
        if not self._knows_retries:
            self._knows_retries = True
            try:
                async with db.begin(worker, first=placements.HOLD) as tx:
                    waiting = await taking_over.retries(tx, self._tenants, self._number, self._scope)
            except BaseException:
                self._knows_retries = False
                raise
            for each in waiting:
                if self.lanes.hold(each.command):
                    self._loop.call_later(max(0.0, each.due_seconds), self.lanes.again, Queued(each.command, each.lane))
        for lane in lanes:
            asked = self.lanes.reading(lane)
            try:
                async with db.begin(worker, first=placements.HOLD) as tx:
                    oldest = await taking_over.oldest(tx, self._tenants, self._number, self._scope, lane, asked)
            except BaseException:
                self.lanes.gave_up_reading(lane)
                raise
            self.lanes.found(lane, (Queued(each, lane) for each in oldest), is_all=len(oldest) < asked.most)

    async def _claim(self, batch: list[Queued]) -> Claimed:
        """Claim what was taken, and be done with what needs nothing more from here."""
        if not batch:
            return Claimed()
        wanted = [Wanted(each.command, self._scope, self._seen.get(each.command.tenant_id)) for each in batch]
        claimed = await self._parts.claimer.claim(wanted)
        left = {row["id"] for row in claimed.rows} | claimed.unseen
        for queued in batch:
            if queued.command.message_id not in left:
                self._finish(queued.command)
        return claimed

    async def _look_at_moved(self, taken: list[Queued]) -> None:
        """The tenants of these have moved here: all that waits of them is to be read, so that nothing goes before what
        is older and whose command is still on its way.
        """
        self.lanes.put_back(taken)
        for tenant_id in {queued.command.tenant_id for queued in taken}:
            try:
                async with self._parts.db.begin(self._parts.worker, first=placements.HOLD) as tx:
                    settled_at = await taking_over.settled_at(tx, tenant_id)
            except Exception as error:
                if as_app_error(error) is None:
                    raise
                log.warning("looking_waits_for_database", number=self._number, error=repr(error))
                await asyncio.sleep(0.5)
                return
            log.info("number_taken_over", number=self._number, tenant=str(tenant_id))
            self.look_anew((tenant_id,))
            self._seen[tenant_id] = settled_at

    async def _deliver(self, row: Row, queued: Queued, credentials: Credentials, *, expires: float) -> None:
        traceparent = queued.traceparent
        if telemetry.wants(traceparent):
            parent = {telemetry.HEADER: traceparent} if traceparent else None
            with telemetry.span("sender deliver", parent=parent, kind=SpanKind.CONSUMER, wanted=True):
                outcome = await self._tries.make(row, credentials, expires=expires, begun=self._begin)
                traceparent = telemetry.traceparent()
        else:
            outcome = await self._tries.make(row, credentials, expires=expires, begun=self._begin)
            traceparent = ""
        if outcome.token_refused:
            self._gate.refuse(credentials)
        elif outcome.pause is Pause.NUMBER:
            self._pace.pause(outcome.delay.total_seconds())

        def recorded() -> None:
            if outcome.status == "queued":
                # Later messages to the contact wait for it.
                self._loop.call_later(outcome.delay.total_seconds(), self.lanes.again, queued)
            else:
                self._finish(queued.command)

        self._parts.recorder.add(Record(row, outcome, recorded, traceparent))

    def _begin(self) -> None:
        self._claimed_ahead -= 1
        self._room.set()

    async def _usable_credentials(self, stop: asyncio.Event) -> Credentials | None:
        """Credentials to send with now; None after a wait, so that the caller looks again."""
        try:
            return await self._gate.credentials()
        except CredentialsUnavailable as error:
            log.warning("credentials_unavailable", number=self._number, error=str(error))
            await _pause(stop, 1)
        except NotConnected:
            await self._fail_all(outcomes.not_connected())
        except Closed as closed:
            self.look_anew(())
            await _pause(stop, closed.seconds)
        return None

    async def _fail_all(self, outcome: Outcome) -> None:
        """The number was disconnected: its messages fail, each with the reason."""
        batch = await self._take(100)
        claimed = await self._claim(batch)
        for row in claimed.rows:
            self._parts.recorder.add(Record(row, outcome, partial(self._finish, command_of(row))))
        if claimed.unseen:
            await self._look_at_moved([each for each in batch if each.command.message_id in claimed.unseen])

    def _finish(self, command: Command) -> None:
        """Let the contact's next message go."""
        self.lanes.finish(command)
        self.lanes.free_contact(command.contact_id)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    """Sleep, but no longer than until `stop`."""
    waiting = asyncio.ensure_future(stop.wait())
    await asyncio.wait([waiting], timeout=seconds)
    waiting.cancel()
