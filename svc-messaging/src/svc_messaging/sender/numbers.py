"""Sending for one number: two lanes, one limiter, order per contact.

The live lane goes first at every slot; the bulk lane takes what is left. Messages to one contact leave one after the
other, each after the outcome of the one before, since Meta keeps no order between calls in flight.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import random
from typing import Any

import structlog
from opentelemetry.trace import SpanKind

from kit import telemetry
from kit.db import Database, Row, as_app_error
from kit.principal import Principal
from svc_messaging.send_commands import Command
from svc_messaging.sender import outcomes, payload
from svc_messaging.sender.claimer import Claimer
from svc_messaging.sender.credentials import Credentials, CredentialsCache, CredentialsUnavailable, NotConnected
from svc_messaging.sender.graph import Answer, GraphClient
from svc_messaging.sender.lanes import Lanes
from svc_messaging.sender.limiter import HAND_OVER_SECONDS, Place, batch_size
from svc_messaging.sender.media_out import MediaUploads, UploadRefused
from svc_messaging.sender.outcomes import Outcome, Pause
from svc_messaging.sender.pace import Pace
from svc_messaging.sender.posts import AnswerLost, NotReached
from svc_messaging.sender.recorder import Record, Recorder

log = structlog.get_logger()

_IN_FLIGHT_MAX = 1000
_RECHECK_SECONDS = 5.0
_REFUSED_TOKEN_SECONDS = 60.0


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


class NumberSender:
    """Sends the messages of one number until told to stop, then finishes what it has claimed."""

    def __init__(self, phone_number_id: str, parts: Parts, *, owned_since: float) -> None:
        """`owned_since`, by time.monotonic(): nobody else sends for the number from then on."""
        self._number = phone_number_id
        self._parts = parts
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

    async def _send_some(self, credentials: Credentials, tasks: asyncio.TaskGroup) -> None:
        """Claim the next few and start a delivery for each; returns when there is room to claim more."""
        most = batch_size(credentials.messages_per_second)
        batch = self.lanes.take(most)
        try:
            rows = await self._parts.claimer.claim([queued.command for queued in batch])
        except Exception as error:
            if as_app_error(error) is None:
                raise
            log.warning("claiming_waits_for_database", number=self._number, error=repr(error))
            self.lanes.put_back(batch)
            await asyncio.sleep(0.5)
            return
        traces = {queued.command.message_id: queued.traceparent for queued in batch}
        claimed = {row["id"] for row in rows}
        for queued in batch:
            if queued.command.message_id not in claimed:
                await self._finish(queued.command)
        self._claimed_ahead += len(rows)
        for row in rows:
            tasks.create_task(self._deliver(row, credentials, traces[row["id"]]))
        while self._claimed_ahead >= most:
            self._room.clear()
            await self._room.wait()

    async def _deliver(self, row: Row, credentials: Credentials, traceparent: str) -> None:
        if telemetry.wants(traceparent):
            parent = {telemetry.HEADER: traceparent} if traceparent else None
            with telemetry.span("sender deliver", parent=parent, kind=SpanKind.CONSUMER, wanted=True):
                outcome = await self._try(row, credentials)
                traceparent = telemetry.traceparent()
        else:
            outcome, traceparent = await self._try(row, credentials), ""
        now = self._loop.time()
        if outcome.token_refused:
            self._refused = (credentials.token_version, now + _REFUSED_TOKEN_SECONDS)
            self._parts.credentials.forget(self._number)
        elif outcome.pause is Pause.NUMBER:
            self._pace.pause(outcome.delay.total_seconds())
        command = Command(row["id"], row["tenant_id"], row["phone_number_id"], row["contact_id"])

        async def recorded() -> None:
            # A retry comes back as a new command when it is due; later messages to the contact wait for it.
            wait = outcome.delay.total_seconds() + 1 if outcome.status == "queued" else 0
            await self._finish(command, contact_waits_seconds=wait)

        self._parts.recorder.add(Record(row, outcome, recorded, traceparent))

    async def _try(self, row: Row, credentials: Credentials) -> Outcome:
        """One try: upload the file where there is one, wait for the slot, post."""
        attempts, started = row["attempts"], False
        try:
            media_id = await self._parts.uploads.meta_id(row, credentials) if row["media_id"] else None
            body = payload.body_of(row, meta_media_id=media_id)
            async with self._in_flight:
                place = await self._pace.turn()
                started = self._begin()
                answer = await self._post(body, credentials, place)
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

    async def _post(self, body: dict[str, Any], credentials: Credentials, place: Place) -> Answer:
        read_at = None
        try:
            path, token = f"{self._number}/messages", credentials.access_token

            def written(moment: float) -> None:
                # What waited for a connection meanwhile is the next owner's to send.
                if self._parts.is_lease_lost():
                    raise NotReached("the lease was lost")
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
            await _pause(stop, _RECHECK_SECONDS)
            return None
        if self._refused and self._refused[0] == credentials.token_version and self._loop.time() < self._refused[1]:
            await _pause(stop, 1)
            return None
        self._refused = None
        return credentials

    async def _fail_all(self, outcome: Outcome) -> None:
        """The number was disconnected: its messages fail, each with the reason."""
        batch = self.lanes.take(100)
        rows = await self._parts.claimer.claim([queued.command for queued in batch])
        claimed = {row["id"]: row for row in rows}
        for queued in batch:
            row, command = claimed.get(queued.command.message_id), queued.command
            if row is None:
                await self._finish(command)
            else:
                self._parts.recorder.add(Record(row, outcome, self._finisher(command)))

    def _finisher(self, command: Command) -> Callable[[], Awaitable[None]]:
        return lambda: self._finish(command)

    async def _finish(self, command: Command, *, contact_waits_seconds: float = 0) -> None:
        """Acknowledge a command and let the contact's next message go, now or later."""
        acknowledge = self.lanes.finish(command)
        if contact_waits_seconds:
            self._loop.call_later(contact_waits_seconds, self.lanes.free_contact, command.contact_id)
        else:
            self.lanes.free_contact(command.contact_id)
        if acknowledge is not None:
            await acknowledge()


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    """Sleep, but no longer than until `stop`."""
    waiting = asyncio.ensure_future(stop.wait())
    await asyncio.wait([waiting], timeout=seconds)
    waiting.cancel()
