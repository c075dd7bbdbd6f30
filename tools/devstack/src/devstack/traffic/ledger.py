"""What was sent, what of it was acknowledged, and what has come out at the other end; times are monotonic seconds."""

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Written:
    """A customer's message, from its first webhook on."""

    customer: str
    text: str
    created: float = field(default_factory=time.monotonic)
    tries: int = 0
    acknowledged: float | None = None
    """When a webhook with it was first answered 200."""
    seen: float | None = None
    """When it was told on the live stream."""


@dataclass(slots=True)
class Answered:
    """A message of the team, from the first try to hand it to the platform on."""

    conversation: str
    text: str
    created: float = field(default_factory=time.monotonic)
    tries: int = 0
    id: str = ""
    """The platform's, once it has accepted the message."""
    acknowledged: float | None = None
    seen: float | None = None
    """When the live stream told that Meta has it, or that it failed or is unknown."""


@dataclass(slots=True)
class Ledger:
    """All of one run."""

    written: dict[str, Written] = field(default_factory=dict)
    """By wamid."""
    answered: dict[str, Answered] = field(default_factory=dict)
    """By text, which the run uses once."""
    webhook_oks: list[tuple[float, float]] = field(default_factory=list)
    """Begin and end of every webhook request that was answered 200."""
    api_oks: list[tuple[float, float]] = field(default_factory=list)
    """Begin and end of every send request that was accepted."""
    refusals: dict[str, int] = field(default_factory=dict)
    """How often what else came back, such as "api 503" or "webhook ClientConnectorError"."""
    under_way: dict[str, Written | Answered] = field(default_factory=dict)
    """What has not come out yet, by text, the oldest first."""

    def write(self, wamid: str, written: Written) -> Written:
        self.written[wamid] = self.under_way[written.text] = written
        return written

    def answer(self, answered: Answered) -> Answered:
        self.answered[answered.text] = self.under_way[answered.text] = answered
        return answered

    def see(self, each: Written | Answered) -> None:
        """It has come out."""
        if each.seen is None:
            each.seen = time.monotonic()
            self.under_way.pop(each.text)

    def refuse(self, what: str) -> None:
        self.refusals[what] = self.refusals.get(what, 0) + 1

    def late(self, *, after: float) -> Written | Answered | None:
        """The oldest that was first tried more than `after` seconds ago and has not come out yet."""
        oldest = next(iter(self.under_way.values()), None)
        return oldest if oldest and time.monotonic() - oldest.created > after else None
