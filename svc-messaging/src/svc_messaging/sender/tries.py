"""One try of a claimed message: its file to Meta, its turn, the POST, and what that came to."""

import asyncio
from collections.abc import Callable
from random import random
from typing import Any

from kit.db import Row
from kit.http_pool import AnswerLost, NotReached
from svc_messaging.sender import outcomes, payload
from svc_messaging.sender.credentials import Credentials
from svc_messaging.sender.gate import Gate
from svc_messaging.sender.graph import Answer
from svc_messaging.sender.limiter import Place
from svc_messaging.sender.media_out import UploadRefused
from svc_messaging.sender.outcomes import Outcome
from svc_messaging.sender.pace import Pace
from svc_messaging.sender.parts import Parts

_IN_FLIGHT_MAX = 1000


class ClaimVoid(NotReached):
    """Its turn came too late, or after its token was refused: nothing was sent."""


class Tries:
    """Those of one number."""

    def __init__(self, phone_number_id: str, parts: Parts, *, gate: Gate, pace: Pace) -> None:
        self._number = phone_number_id
        self._parts = parts
        self._gate = gate
        self._pace = pace
        self._in_flight = asyncio.Semaphore(_IN_FLIGHT_MAX)

    async def make(self, row: Row, credentials: Credentials, *, expires: float, begun: Callable[[], None]) -> Outcome:
        """Upload the file where there is one, wait for the slot, post. `begun` hears, once, that it waits no longer.
        Nothing is sent after `expires`, by time.monotonic().
        """
        attempts, started = row["attempts"], False
        try:
            media_id = await self._parts.uploads.meta_id(row, credentials) if row["media_id"] else None
            body = payload.body_of(row, meta_media_id=media_id)
            async with self._in_flight:
                place = await self._pace.turn()
                started = True
                begun()
                answer = await self._post(body, credentials, place, expires)
        except ClaimVoid:
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
                begun()
        return outcomes.of_answer(answer, attempts=attempts, jitter=random())

    async def _post(self, body: dict[str, Any], credentials: Credentials, place: Place, expires: float) -> Answer:
        read_at = None
        try:
            if self._gate.is_refused(credentials):
                raise ClaimVoid
            path, token = f"{self._number}/messages", credentials.access_token

            def written(moment: float) -> None:
                # What waited for a connection meanwhile is the next owner's to send.
                if self._parts.is_lease_lost():
                    raise NotReached("the lease was lost")
                if moment > expires:
                    raise ClaimVoid
                place.written(moment)

            answer = await self._parts.graph.post(path, body, token=token, written=written)
            read_at = answer.read_at
        finally:
            self._pace.answered(place, read_at)
        return answer
