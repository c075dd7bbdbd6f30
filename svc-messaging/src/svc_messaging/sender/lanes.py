"""What is to be sent for one number: a live and a bulk lane, and one message per contact at a time.

The table of messages is the queue. Memory holds its front. Once a lane is full, or was forgotten, it is **behind**:
what arrives for it is left to the table, and its oldest messages are read from there until memory has all of them
again.
"""

import asyncio
import contextlib
import heapq
import uuid
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from svc_messaging.send_commands import Command

KEPT_MAX = 1000
"""Commands of a lane that are kept in memory as they arrive."""
READ_BELOW = KEPT_MAX // 2
"""With fewer of them left, a lane that is behind is to be read."""


@dataclass(frozen=True, slots=True)
class Queued:
    """A command in memory."""

    command: Command
    lane: str
    traceparent: str = ""


@dataclass(slots=True)
class _Lane:
    waiting: deque[Queued] = field(default_factory=deque)
    count: int = 0
    """Of those here, and of those that follow another one of their contact."""
    is_behind: bool = False
    """Whether the table may have what is not here."""
    aside: list[Queued] | None = None
    """While the lane is read: what arrives. The reading may not see it, and need not if it reaches the end."""
    has_missed: bool = False
    """Whether more arrived during the reading than is put aside."""

    @property
    def wants_more(self) -> bool:
        return self.is_behind and self.count < READ_BELOW


class Lanes:
    """Hands out the next messages: live before bulk, never two of one contact at once, oldest first per contact."""

    def __init__(self) -> None:
        self._lanes = {"live": _Lane(), "bulk": _Lane()}
        self._known: set[uuid.UUID] = set()
        """Messages that are here or under way."""
        self._busy: set[uuid.UUID] = set()
        self._following: dict[uuid.UUID, list[tuple[uuid.UUID, Queued]]] = {}
        self._some = asyncio.Event()

    def __len__(self) -> int:
        """Messages that are here and not under way."""
        return sum(lane.count for lane in self._lanes.values())

    def add(self, queued: Queued) -> None:
        """Queue a command that arrived. A repeated one, of a message still here, changes nothing; one for which there
        is no room is found in the table later.
        """
        if queued.command.message_id in self._known:
            return
        lane = self._lanes[queued.lane]
        if not lane.is_behind and lane.count < KEPT_MAX:
            self._keep(queued)
        elif lane.aside is not None and len(lane.aside) < KEPT_MAX:
            lane.aside.append(queued)
        else:
            lane.is_behind = lane.has_missed = True

    def forget(self) -> None:
        """Keep nothing of what waits: it is to be read from the table. What is under way stays known."""
        for lane in self._lanes.values():
            self._known.difference_update(queued.command.message_id for queued in lane.waiting)
            lane.waiting.clear()
            lane.count, lane.is_behind, lane.has_missed = 0, True, True
        for following in self._following.values():
            self._known.difference_update(message_id for message_id, _ in following)
        self._following.clear()
        self._some.set()

    def to_read(self) -> list[str]:
        """Lanes whose oldest messages are to be read from the table, before anything is taken."""
        return [name for name, lane in self._lanes.items() if lane.wants_more]

    def reading(self, name: str) -> None:
        """The lane is read from now on."""
        self._lanes[name].aside, self._lanes[name].has_missed = [], False

    def found(self, name: str, oldest: Iterable[Queued], *, is_all: bool) -> None:
        """What the reading found: the lane's oldest messages that wait for nothing but their turn, or all of them."""
        lane = self._lanes[name]
        aside, lane.aside = lane.aside or [], None
        lane.is_behind = lane.has_missed or not is_all
        for queued in [*oldest, *([] if lane.is_behind else aside)]:
            if queued.command.message_id not in self._known:
                self._keep(queued)
        self._sort()

    def gave_up_reading(self, name: str) -> None:
        """The reading failed."""
        self._lanes[name].aside = None

    @property
    def has_next(self) -> bool:
        """Whether a message may go, or there may be one in the table."""
        return any(lane.waiting or lane.wants_more for lane in self._lanes.values())

    def oldest(self) -> uuid.UUID | None:
        """The oldest message here that waits for no other one of its contact."""
        return min((lane.waiting[0].command.message_id for lane in self._lanes.values() if lane.waiting), default=None)

    async def until_next(self, *, seconds: float) -> None:
        """Wait until a message may go, at most so many seconds."""
        if not self.has_next:
            self._some.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._some.wait(), seconds)

    def wake(self) -> None:
        """Let nobody wait any longer for a message."""
        self._some.set()

    def take(self, most: int) -> list[Queued]:
        """The next messages, `most` at most. Their contacts are busy until freed."""
        taken: list[Queued] = []
        for lane in self._lanes.values():
            while lane.waiting and len(taken) < most:
                queued = lane.waiting.popleft()
                contact = queued.command.contact_id
                if contact in self._busy:
                    self._follow(queued)
                else:
                    self._busy.add(contact)
                    lane.count -= 1
                    taken.append(queued)
        return taken

    def put_back(self, taken: list[Queued]) -> None:
        """Undo a take that came to nothing."""
        for queued in reversed(taken):
            self._busy.discard(queued.command.contact_id)
            self._lanes[queued.lane].waiting.appendleft(queued)
            self._lanes[queued.lane].count += 1

    def hold(self, contact_id: uuid.UUID) -> bool:
        """Let nothing of a contact go until freed. False where one of its messages has been taken already."""
        if contact_id in self._busy:
            return False
        self._busy.add(contact_id)
        return True

    def finish(self, command: Command) -> None:
        """Forget a message whose outcome is recorded."""
        self._known.discard(command.message_id)

    def free_contact(self, contact_id: uuid.UUID) -> None:
        """Let the contact's next message go."""
        self._busy.discard(contact_id)
        following = self._following.get(contact_id)
        if following:
            _, queued = heapq.heappop(following)
            self._lanes[queued.lane].waiting.appendleft(queued)
            self._some.set()
        if not following:
            self._following.pop(contact_id, None)

    def again(self, queued: Queued) -> None:
        """A message for which its contact was held is to be tried again: it goes before younger ones, and always finds
        room.
        """
        if queued.command.message_id not in self._known:
            self._known.add(queued.command.message_id)
            self._lanes[queued.lane].count += 1
            self._follow(queued)
        self.free_contact(queued.command.contact_id)

    def _keep(self, queued: Queued) -> None:
        self._known.add(queued.command.message_id)
        self._lanes[queued.lane].waiting.append(queued)
        self._lanes[queued.lane].count += 1
        self._some.set()

    def _follow(self, queued: Queued) -> None:
        # UUIDv7 ids grow with time: a message that comes back for a retry goes before younger ones.
        following = self._following.setdefault(queued.command.contact_id, [])
        heapq.heappush(following, (queued.command.message_id, queued))

    def _sort(self) -> None:
        """Put what waits into the order in which it was written: UUIDv7 ids grow with time."""
        for contact in self._following.keys() - self._busy:
            # They followed one that was put back, and may be older than that.
            for _, queued in self._following.pop(contact):
                self._lanes[queued.lane].waiting.append(queued)
        for lane in self._lanes.values():
            lane.waiting = deque(sorted(lane.waiting, key=lambda queued: queued.command.message_id))
