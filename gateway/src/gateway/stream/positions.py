"""Where a reader of the live stream is: the ids of its events, and the header that browsers send to go on."""

import re
from typing import NamedTuple

from starlette.requests import Request

from kit.errors import InvalidRequest, Violation

HEADER = "Last-Event-ID"
PARAMETER = "lastEventId"

_TEXT = re.compile(r"([0-9]{1,19})(?:-([0-9]{1,9}))?")
_WHOLE = 2**31
_SEQUENCE_MAX = 2**63 - 1


class Position(NamedTuple):
    """What has been seen: all messages of EVENTS before `sequence`, and of that one the events up to `offset`."""

    sequence: int
    offset: int = _WHOLE

    def __str__(self) -> str:
        return str(self.sequence) if self.is_whole else f"{self.sequence}-{self.offset}"

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the message is left to see."""
        return self.offset == _WHOLE

    @property
    def next_sequence(self) -> int:
        """The first message of which something may be unseen."""
        return self.sequence + 1 if self.is_whole else self.sequence


def asked(request: Request) -> Position | None:
    """Where the reader wants to go on, None for one that begins now. The header, which browsers keep up to date, wins
    over the parameter. Raises InvalidRequest.
    """
    unknown = [name for name in request.query_params if name != PARAMETER]
    if unknown:
        raise InvalidRequest.of(*(Violation(name, "query.unknown", "is no parameter of this call") for name in unknown))
    if (text := request.headers.get(HEADER)) is not None:
        return _parse(text, HEADER, "header")
    if (text := request.query_params.get(PARAMETER)) is not None:
        return _parse(text, PARAMETER, "query")
    return None


def _parse(text: str, name: str, place: str) -> Position:
    found = _TEXT.fullmatch(text)
    if found is None or int(found[1]) > _SEQUENCE_MAX:
        raise InvalidRequest.of(
            Violation(name, f"{place}.last_event_id", "must be the id of an event of this stream, such as 1234-0")
        )
    return Position(int(found[1]), int(found[2])) if found[2] else Position(int(found[1]))
