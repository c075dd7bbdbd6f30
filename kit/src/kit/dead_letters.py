"""Dead letters: what consumers gave up, as `Bus.bury` left it on the stream DEAD, and the way back."""

from dataclasses import dataclass
from datetime import UTC, datetime

import nats.errors
from nats.js.api import RawStreamMsg
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError, ServerError

from kit import bus as buses
from kit import partitions
from kit.bus import Bus
from kit.errors import AppError, Unavailable
from kit.streams import DEAD

# The stream is away or full, or NATS is: the caller may try again.
_AWAY = (
    nats.errors.TimeoutError,
    nats.errors.NoRespondersError,
    nats.errors.ConnectionClosedError,
    nats.errors.ConnectionReconnectingError,
    nats.errors.OutboundBufferLimitError,
    NoStreamResponseError,
    ServerError,
    ConnectionError,
)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that a consumer gave up."""

    id: int
    """Its place in the stream DEAD."""
    stream: str
    consumer: str
    subject: str
    sequence: int
    reason: str
    detail: str
    data: bytes
    headers: dict[str, str]
    """Those that it came with."""
    created_at: datetime


def as_app_error(error: BaseException) -> AppError | None:
    """What a failure of NATS means to a caller; None where it is a bug of ours."""
    if isinstance(error, _AWAY) or (isinstance(error, APIError) and (error.code or 0) >= 500):
        return Unavailable("The message streams do not answer or have no room; try again shortly.")
    return None


async def find(bus: Bus, letter_id: int) -> DeadLetter | None:
    """None where there is none: it never was, its time is over, or it went back."""
    try:
        return _read(await bus.js.get_msg(DEAD, letter_id))
    except NotFoundError:
        return None


async def after(bus: Bus, letter_id: int, *, most: int, stream: str = "", consumer: str = "") -> list[DeadLetter]:
    """Letters beyond one, the oldest first; 0 begins with the first of all."""
    subject = f"dead.{stream or '*'}.{consumer or '*'}"
    found: list[DeadLetter] = []
    place = letter_id
    while len(found) < most:
        try:
            message = await bus.js.get_msg(DEAD, place + 1, subject=subject, next=True)
        except NotFoundError:
            break
        found.append(_read(message))
        place = found[-1].id
    return found


async def retry(bus: Bus, letter: DeadLetter) -> None:
    """Publish it where it came from, or in the shared partition of that number, then remove it here. Two who do so at
    once publish it once; a crash between the two steps leaves it here, and its repetition meets consumers that repeat
    nothing.
    """
    key = f"retry-{letter.stream}-{letter.sequence}-{letter.id}"
    await bus.publish(partitions.in_shared(letter.subject), letter.data, headers=letter.headers, key=key)
    try:
        await bus.js.delete_msg(DEAD, letter.id)
    except APIError as error:
        # Somebody else removed it in the meantime.
        if await find(bus, letter.id) is not None:
            raise error from None


async def newest(bus: Bus) -> int:
    """The id of the last letter that was ever written."""
    return (await bus.js.stream_info(DEAD)).state.last_seq


async def retry_all(
    bus: Bus, *, stream: str, consumer: str = "", most: int, up_to: int | None = None
) -> list[DeadLetter]:
    """Send back what is here now, the oldest first; gives it. What is given up anew meanwhile stays, and so does what
    is newer than `up_to`.
    """
    last = await newest(bus) if up_to is None else up_to
    letters = [each for each in await after(bus, 0, most=most, stream=stream, consumer=consumer) if each.id <= last]
    for letter in letters:
        await retry(bus, letter)
    return letters


def _read(message: RawStreamMsg) -> DeadLetter:
    headers: dict[str, str] = dict(message.headers or {})
    _, stream, consumer = (message.subject or "..").split(".", 2)
    return DeadLetter(
        id=message.seq or 0,
        stream=stream,
        consumer=consumer,
        subject=headers.get(buses.DEAD_SUBJECT, ""),
        sequence=int(headers.get(buses.DEAD_SEQUENCE, "0")),
        reason=headers.get(buses.DEAD_REASON, ""),
        detail=headers.get(buses.DEAD_DETAIL, ""),
        data=message.data or b"",
        headers=buses.own_headers(headers),
        created_at=message.time or datetime.fromtimestamp(0, UTC),
    )
