"""What waits to be sent for one number: a live and a bulk lane, and one message per contact at a time."""

import asyncio
import contextlib
import heapq
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from svc_messaging.send_commands import Command


@dataclass(slots=True)
class Queued:
    """A command in memory, and how to acknowledge it once its outcome is recorded."""

    command: Command
    acknowledge: Callable[[], Awaitable[None]]
    lane: str
    traceparent: str = ""


class Lanes:
    """Hands out the next messages: live before bulk, never two of one contact at once, oldest first per contact."""

    def __init__(self) -> None:
        self._lanes: dict[str, deque[Queued]] = {"live": deque(), "bulk": deque()}
        self._held: dict[uuid.UUID, Queued] = {}
        self._busy: set[uuid.UUID] = set()
        self._behind: dict[uuid.UUID, list[tuple[uuid.UUID, Queued]]] = {}
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._held)

    def add(self, queued: Queued) -> None:
        """Queue a command. A repeated one, of a message still here, only renews how to acknowledge it."""
        if held := self._held.get(queued.command.message_id):
            held.acknowledge = queued.acknowledge
            return
        self._held[queued.command.message_id] = queued
        self._lanes[queued.lane].append(queued)
        self._some.set()

    @property
    def has_next(self) -> bool:
        """Whether a message may go."""
        return any(self._lanes.values())

    async def until_next(self, *, seconds: float) -> None:
        """Wait until a message may go, at most so many seconds."""
        if not self.has_next:
            self._some.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._some.wait(), seconds)

    def take(self, most: int) -> list[Queued]:
        """The next messages, `most` at most. Their contacts are busy until freed."""
        taken: list[Queued] = []
        for lane in self._lanes.values():
            while lane and len(taken) < most:
                queued = lane.popleft()
                contact = queued.command.contact_id
                if contact in self._busy:
                    # UUIDv7 ids grow with time: a message that comes back for a retry goes before younger ones.
                    heapq.heappush(self._behind.setdefault(contact, []), (queued.command.message_id, queued))
                else:
                    self._busy.add(contact)
                    taken.append(queued)
        return taken

    def put_back(self, taken: list[Queued]) -> None:
        """Undo a take that came to nothing."""
        for queued in reversed(taken):
            self._busy.discard(queued.command.contact_id)
            self._lanes[queued.lane].appendleft(queued)

    def hold(self, contact_id: uuid.UUID) -> bool:
        """Let nothing of a contact go until freed. False where one of its messages has been taken already."""
        if contact_id in self._busy:
            return False
        self._busy.add(contact_id)
        return True

    def sort(self) -> None:
        """Put what waits into the order in which it was written: UUIDv7 ids grow with time."""
        for contact in self._behind.keys() - self._busy:
            # Behind one that was put back, and perhaps older than that.
            for _, queued in self._behind.pop(contact):
                self._lanes[queued.lane].append(queued)
        for name, lane in self._lanes.items():
            self._lanes[name] = deque(sorted(lane, key=lambda queued: queued.command.message_id))

    def finish(self, command: Command) -> Callable[[], Awaitable[None]] | None:
        """Forget a message whose outcome is recorded; gives how to acknowledge its command."""
        queued = self._held.pop(command.message_id, None)
        return queued.acknowledge if queued else None

    def free_contact(self, contact_id: uuid.UUID) -> None:
        """Let the contact's next message go."""
        self._busy.discard(contact_id)
        behind = self._behind.get(contact_id)
        if behind:
            _, queued = heapq.heappop(behind)
            self._lanes[queued.lane].appendleft(queued)
            self._some.set()
        if not behind:
            self._behind.pop(contact_id, None)
