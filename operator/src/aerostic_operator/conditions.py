"""Conditions: the same five on every object, so that kubectl, Helm, Flux and people read all kinds alike; a kind may
tell more beside them.

Ready: what is described exists and works. Reconciling: work is going on, or waits to be tried again. Stalled: nothing
will change until somebody changes something. Synced: the platform is as the spec says. Drifted: it is not, because of
a change that was made elsewhere, or because the operator may only look.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

PAUSED = "Paused"

State = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an object stands, in a word for programs and a sentence for people."""

    phase: Literal["ready", "working", "stalled"]
    reason: str
    message: str
    is_synced: bool = True
    extra: tuple["Condition", ...] = ()
    """What this kind tells beside the five."""
    differences: tuple[str, ...] = ()
    """Where the platform differs from the spec, and stays so."""
    pending: Literal["working", "stalled"] | None = None
    """Of what is ready: whether something beside it still comes to be, or does not."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition without its history."""

    type: str
    status: State
    reason: str
    message: str


def conditions_of(verdict: Verdict) -> list[Condition]:
    ready: State = {"ready": "True", "working": "Unknown", "stalled": "False"}[verdict.phase]  # type: ignore[assignment]
    told = (verdict.reason, verdict.message)
    drift = "; ".join(verdict.differences)
    phases = {verdict.phase, verdict.pending}
    return [
        Condition("Ready", ready, *told),
        _when("working" in phases, "Reconciling", told, "Settled"),
        _when("stalled" in phases, "Stalled", told, "Settled"),
        Condition("Synced", "True", "Synced", "The platform is as described.")
        if verdict.is_synced
        else Condition("Synced", "False", *told),
        _when(drift, "Drifted", ("PlatformDiffers", drift), "NoDrift"),
        *verdict.extra,
    ]


def paused() -> list[Condition]:
    """What is known of an object that the operator leaves alone: nothing new."""
    return [Condition("Synced", "Unknown", PAUSED, "The annotation aerostic.io/paused stops the operator.")]


def merged(
    before: Sequence[Mapping[str, Any]], wanted: Iterable[Condition], *, generation: int, now: str
) -> list[dict[str, Any]]:
    """The conditions as they are stored. A time changes with its status alone; what is not wanted anew stays."""
    known = {each["type"]: dict(each) for each in before}
    for condition in wanted:
        old = known.get(condition.type, {})
        since = old.get("lastTransitionTime", now) if old.get("status") == condition.status else now
        known[condition.type] = {
            "type": condition.type,
            "status": condition.status,
            "reason": condition.reason,
            "message": condition.message,
            "observedGeneration": generation,
            "lastTransitionTime": since,
        }
    return list(known.values())


def _when(holds: object, kind: str, told: tuple[str, str], otherwise: str) -> Condition:
    return Condition(kind, "True", *told) if holds else Condition(kind, "False", otherwise, "")
