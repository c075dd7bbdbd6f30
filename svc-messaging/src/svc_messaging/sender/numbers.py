"""Sending for one number: two lanes, one limiter, order per contact.

The live lane goes first at every slot; the bulk lane takes what is left. Messages to one contact leave one after the
other, each after the outcome of the one before, since Meta keeps no order between calls in flight.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from random import random
from typing import Any

import structlog
from opentelemetry.trace import SpanKind

from kit import telemetry
from kit.db import Database, Row, as_app_error
from kit.http_pool import AnswerLost, NotReached
from kit.principal import Principal
from svc_messaging import placements
from svc_messaging.placements import HAND_OVER_SECONDS
from svc_messaging.send_commands import Command
from svc_messaging.sender import outcomes, payload, taking_over
from svc_messaging.sender.claimer import Claimer
from svc_messaging.sender.claims import Claimed, Wanted, command_of
from svc_messaging.sender.credentials import Credentials, CredentialsCache, CredentialsUnavailable, NotConnected
from svc_messaging.sender.graph import Answer, GraphClient
from svc_messaging.sender.lanes import Lanes, Queued
from svc_messaging.sender.limiter import Place, batch_size
from svc_messaging.sender.media_out import MediaUploads, UploadRefused
from svc_messaging.sender.outcomes import Outcome, Pause
from svc_messaging.sender.pace import Pace
from svc_messaging.sender.recorder import Record, Recorder

log = structlog.get_logger()

_IN_FLIGHT_MAX = 1000
_RECHECK_SECONDS = 5.0
_REFUSED_TOKEN_SECONDS = 60.0
# What left later might still be under way when a move stops waiting for it: placements.IN_FLIGHT_SECONDS_MAX.
_CLAIM_SECONDS = 45.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What all numbers of the process share."""

    db: Database
    worker: Principal
    graph: GraphClient
    credentials: CredentialsCache
    uploads: MediaUploads
    claimer: Claimer
    recorder: Recorder
    is_lease_lost: Callable[[], bool]
    """Whether another process may be sending for the same numbers already."""
    lease_held_at: Callable[[], float]
    """A moment, by time.monotonic(), at which the lease was held for certain."""


class _ClaimVoid(NotReached):
    """Its turn came too late, or after its token was refused: nothing was sent."""


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
        self._in_flight = asyncio.Semaphore(_IN_FLIGHT_MAX)
        self._claimed_ahead = 0
        self._room = asyncio.Event()
        self._refused: tuple[int, float] | None = None  # token version, and until when it is not tried again
        self._pace = Pace(80, first_at=owned_since + HAND_OVER_SECONDS)

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
                if self.lanes.hold(each.command.contact_id):
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
                outcome = await self._try(row, credentials, expires)
                traceparent = telemetry.traceparent()
        else:
            outcome, traceparent = await self._try(row, credentials, expires), ""
        now = self._loop.time()
        if outcome.token_refused:
            self._refused = (credentials.token_version, now + _REFUSED_TOKEN_SECONDS)
            self._parts.credentials.forget(self._number)
        elif outcome.pause is Pause.NUMBER:
            self._pace.pause(outcome.delay.total_seconds())

        def recorded() -> None:
            if outcome.status == "queued":
                # Later messages to the contact wait for it.
                self.lanes.finish(queued.command)
                self._loop.call_later(outcome.delay.total_seconds(), self.lanes.again, queued)
            else:
                self._finish(queued.command)

        self._parts.recorder.add(Record(row, outcome, recorded, traceparent))

    async def _try(self, row: Row, credentials: Credentials, expires: float) -> Outcome:
        """One try: upload the file where there is one, wait for the slot, post."""
        attempts, started = row["attempts"], False
        try:
            media_id = await self._parts.uploads.meta_id(row, credentials) if row["media_id"] else None
            body = payload.body_of(row, meta_media_id=media_id)
            async with self._in_flight:
                place = await self._pace.turn()
                started = self._begin()
                answer = await self._post(body, credentials, place, expires)
        except _ClaimVoid:
            return outcomes.of_void_claim()
        except NotReached as error:
            return outcomes.of_no_connection(str(error), attempts=attempts, jitter=random())
        except UploadRefused as error:
            return outcomes.of_answer(error.answer, attempts=attempts, jitter=random())
        except AnswerLost as error:
            # Losing the answer to an upload costs nothing: the message itself was not sent yet.
            if not started:
                return outcomes.of_no_connection(str(error), attempts=attempts, jitter=random())
            return outcomes.of_lost_answer(str(error))
        finally:
            if not started:
                self._begin()
        return outcomes.of_answer(answer, attempts=attempts, jitter=random())

    async def _post(self, body: dict[str, Any], credentials: Credentials, place: Place, expires: float) -> Answer:
        read_at = None
        try:
            if self._is_refused(credentials):
                raise _ClaimVoid
            path, token = f"{self._number}/messages", credentials.access_token

            def written(moment: float) -> None:
                # What waited for a connection meanwhile is the next owner's to send.
                if self._parts.is_lease_lost():
                    raise NotReached("the lease was lost")
                if moment > expires:
                    raise _ClaimVoid
                place.written(moment)

            answer = await self._parts.graph.post(path, body, token=token, written=written)
            read_at = answer.read_at
        finally:
            self._pace.answered(place, read_at)
        return answer

    def _begin(self) -> bool:
        self._claimed_ahead -= 1
        self._room.set()
        return True

    async def _usable_credentials(self, stop: asyncio.Event) -> Credentials | None:
        """Credentials to send with now; None after a wait, so that the caller looks again."""
        try:
            credentials = await self._parts.credentials.get(self._number)
        except CredentialsUnavailable as error:
            log.warning("credentials_unavailable", number=self._number, error=str(error))
            await _pause(stop, 1)
            return None
        except NotConnected:
            await self._fail_all(outcomes.not_connected())
            return None
        if credentials.tenant_suspended:
            self.look_anew(())
            await _pause(stop, _RECHECK_SECONDS)
            return None
        if self._is_refused(credentials):
            self.look_anew(())
            await _pause(stop, 1)
            return None
        self._refused = None
        return credentials

    def _is_refused(self, credentials: Credentials) -> bool:
        """Whether Meta has said just now that the token is no longer good."""
        if self._refused is None:
            return False
        version, until = self._refused
        return version == credentials.token_version and self._loop.time() < until

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
