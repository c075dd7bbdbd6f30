"""What is to be sent for one number: a live and a bulk lane, and one message per contact at a time.

The table of messages is the queue. Memory holds its front. Once a lane is full, or was forgotten, it is **behind**:
what arrives for it is left to the table, and its oldest messages are read from there until memory has all of them
again. So is a contact of which much waits, by itself: it must not fill its lane, for Meta takes a message to one person
every few seconds only.
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
CONTACT_KEPT_MAX = 25
"""Of them, those of one contact."""


@dataclass(frozen=True, slots=True)
class Queued:
    """A command in memory."""

    command: Command
    lane: str
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """What of a lane is to be read: its oldest messages, but not those of some contacts."""

    most: int
    """However many of them are here already, there is something new among so many."""
    without: list[uuid.UUID]
    """Contacts of which there is enough here."""


@dataclass(slots=True)
class _Lane:
    waiting: deque[Queued] = field(default_factory=deque)
    here: dict[uuid.UUID, int] = field(default_factory=dict)
    """By contact, how many wait, those included that follow another one of their contact."""
    is_behind: bool = False
    """Whether the table may have what is not here, of any contact."""
    behind: set[uuid.UUID] = field(default_factory=set)
    """Contacts of which the table may have what is not here, and has nothing older than what is."""
    starving: set[uuid.UUID] = field(default_factory=set)
    """Those of them of which nothing is here any more."""
    aside: list[Queued] | None = None
    """While the lane is read: what arrives. The reading may not see it, and need not if it reaches the end."""
    has_missed: bool = False
    """Whether more arrived during the reading than is put aside."""

    @property
    def wants_more(self) -> bool:
        return bool(self.starving) or (self.is_behind and len(self.waiting) < READ_BELOW)

    def has_room(self, contact: uuid.UUID) -> bool:
        return contact not in self.behind and self.here.get(contact, 0) < CONTACT_KEPT_MAX

    def came(self, contact: uuid.UUID) -> None:
        self.here[contact] = self.here.get(contact, 0) + 1
        self.starving.discard(contact)

    def went(self, contact: uuid.UUID) -> None:
        self.here[contact] -= 1
        if not self.here[contact]:
            del self.here[contact]
            if contact in self.behind:
                self.starving.add(contact)


class Lanes:
    """Hands out the next messages: live before bulk, never two of one contact at once, oldest first per contact."""

    def __init__(self) -> None:
        self._lanes = {"live": _Lane(), "bulk": _Lane()}
        self._known: set[uuid.UUID] = set()
        """Messages that are here, under way, or wait for their next try."""
        self._busy: set[uuid.UUID] = set()
        self._following: dict[uuid.UUID, list[tuple[uuid.UUID, Queued]]] = {}
        self._some = asyncio.Event()

    def __len__(self) -> int:
        """Messages that are here and not under way."""
        return sum(sum(lane.here.values()) for lane in self._lanes.values())

    def add(self, queued: Queued) -> None:
        """Queue a command that arrived. A repeated one, of a message still here, changes nothing; one for which there
        is no room is found in the table later.
        """
        if queued.command.message_id in self._known:
            return
        lane = self._lanes[queued.lane]
        if not lane.is_behind and len(lane.waiting) < KEPT_MAX:
            self._keep(queued)
        elif lane.aside is not None and len(lane.aside) < KEPT_MAX:
            lane.aside.append(queued)
        else:
            lane.is_behind = lane.has_missed = True

    def forget(self) -> None:
        """Keep nothing of what waits: it is to be read from the table. What is under way, or waits for its next try,
        stays known.
        """
        for lane in self._lanes.values():
            self._known.difference_update(queued.command.message_id for queued in lane.waiting)
            lane.is_behind = lane.has_missed = True
            for of_contacts in (lane.waiting, lane.here, lane.behind, lane.starving):
                of_contacts.clear()
        for following in self._following.values():
            self._known.difference_update(message_id for message_id, _ in following)
        self._following.clear()
        self._some.set()

    def to_read(self) -> list[str]:
        """Lanes whose oldest messages are to be read from the table, before anything is taken."""
        return [name for name, lane in self._lanes.items() if lane.wants_more]

    def reading(self, name: str) -> Reading:
        """The lane is read from now on."""
        lane = self._lanes[name]
        lane.behind -= lane.starving
        lane.starving.clear()
        lane.is_behind, lane.aside, lane.has_missed = True, [], False
        return Reading(KEPT_MAX + sum(lane.here.values()), list(lane.behind))

    def found(self, name: str, oldest: Iterable[Queued], *, is_all: bool) -> None:
        """What the reading found: of the contacts that were to be read, the lane's oldest messages that wait for
        nothing but their turn, or all of them.
        """
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
                    lane.went(contact)
                    taken.append(queued)
        return taken

    def put_back(self, taken: list[Queued]) -> None:
        """Undo a take that came to nothing."""
        for queued in reversed(taken):
            self._busy.discard(queued.command.contact_id)
            self._lanes[queued.lane].waiting.appendleft(queued)
            self._lanes[queued.lane].came(queued.command.contact_id)

    def hold(self, command: Command) -> bool:
        """Let nothing of the message's contact go until `again` brings the message. False where one of the contact's
        messages has been taken already, or this one has come.
        """
        if command.contact_id in self._busy or command.message_id in self._known:
            return False
        self._busy.add(command.contact_id)
        self._known.add(command.message_id)
        return True

    def finish(self, command: Command) -> None:
        """Forget a message that nothing more is to be done with."""
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
        """A message that was taken or held is to be tried again: it goes before younger ones of its contact, and always
        finds room. Known all the time, it has changed nothing if its command came first.
        """
        self._lanes[queued.lane].came(queued.command.contact_id)
        self._follow(queued)
        self.free_contact(queued.command.contact_id)

    def _keep(self, queued: Queued) -> None:
        """Unless there is enough of its contact."""
        lane, contact = self._lanes[queued.lane], queued.command.contact_id
        if not lane.has_room(contact):
            lane.behind.add(contact)
            return
        self._known.add(queued.command.message_id)
        lane.waiting.append(queued)
        lane.came(contact)
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
