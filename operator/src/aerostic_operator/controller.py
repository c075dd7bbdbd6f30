"""The life of a kind's objects: seen, looked at, written down. What to do is each kind's own."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Protocol

import structlog

from aerostic_operator import metrics, objects
from aerostic_operator.conditions import Condition, Verdict, conditions_of, merged, paused
from aerostic_operator.events import Events, Note
from aerostic_operator.kube import Kube, KubeError, NotFound, path_of
from aerostic_operator.objects import GROUP, VERSION, Body, Json, Key
from aerostic_operator.queue import Queue
from aerostic_operator.subject import Subject
from kit.errors import RemoteError

log = structlog.get_logger()

_WORKERS = 24
# Every so many surveys all objects are listed: a watch that has died silently must not blind us for good.
_RELIST = 10


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an object was left."""

    verdict: Verdict
    needs_finalizer: bool
    status: Json = field(default_factory=dict)
    """Beside conditions and observedGeneration; None removes a field."""
    notes: tuple[Note, ...] = ()


class Unsettled(Exception):
    """There was always something left to do: somebody else undoes it at the same time. Tried again later."""


class Kind(Protocol):
    """What a kind brings. `reconcile` is asked about one object and acts; `survey` compares all of them at once."""

    kind: str
    plural: str

    async def reconcile(self, subject: Subject) -> Outcome:
        """Holds the object before acting, where the plan needs the finalizer.

        Raises RemoteError, KubeError and Unsettled where it must be tried again.
        """

    async def survey(self, bodies: Mapping[Key, Body]) -> Iterable[Key]:
        """Those that must be looked at. Raises as `reconcile`."""


class Controller:
    """Objects of one kind. `seen` takes what the watch tells; `run` does the rest until cancelled."""

    def __init__(self, kind: Kind, kube: Kube, events: Events) -> None:
        self.kind = kind
        self._kube = kube
        self._events = events
        self._bodies: dict[Key, Body] = {}
        self._queue: Queue[Key] = Queue(self._look, workers=_WORKERS)
        # What of each object was last put into the queue.
        self._causes: dict[Key, tuple[Any, ...]] = {}
        self._reasons: set[str] = set()
        self._surveys = 0

    @property
    def is_busy(self) -> bool:
        """Whether objects wait to be looked at."""
        return len(self._queue) > 0

    def seen(self, event: str | None, body: Body) -> None:
        key = objects.key_of(body)
        if event == "DELETED":
            self._drop(key)
            return
        self._keep(key, body)
        cause = _cause(self._bodies[key])
        if self._causes.get(key) != cause:
            self._causes[key] = cause
            self._queue.add(key)
        metrics.waiting.labels(self.kind.kind).set(len(self._queue))

    async def run(self) -> None:
        await self._queue.run()

    async def survey(self) -> None:
        """Look at those that may not be as described any more. Raises RemoteError and KubeError."""
        if self._surveys % _RELIST == _RELIST - 1:
            await self._relist()
        self._surveys += 1
        for key in await self.kind.survey(self._bodies):
            self._queue.add(key)
        reasons = Counter(objects.condition(body, "Ready").get("reason", "New") for body in self._bodies.values())
        for reason in self._reasons | reasons.keys():
            metrics.objects.labels(self.kind.kind, reason).set(reasons[reason])
        self._reasons |= reasons.keys()
        metrics.surveyed.labels(self.kind.kind).set(time.time())

    async def _look(self, key: Key) -> bool:
        body = self._bodies.get(key)
        if body is None:
            return True
        with metrics.seconds.labels(self.kind.kind).time():
            try:
                outcome = await self._reconcile(body)
            except NotFound:
                self._drop(key)
                outcome = "gone"
            except (RemoteError, KubeError, Unsettled) as error:
                log.warning("reconcile_waits", kind=self.kind.kind, name=key.name, error=str(error))
                outcome = "waits"
        metrics.reconciled.labels(self.kind.kind, outcome).inc()
        metrics.waiting.labels(self.kind.kind).set(len(self._queue))
        return outcome != "waits"

    async def _reconcile(self, body: Body) -> str:
        subject = Subject(
            body, self._kube, plural=self.kind.plural, written=self._note_written, peers=MappingProxyType(self._bodies)
        )
        if objects.is_being_deleted(body) and not objects.has_finalizer(body):
            return "gone"
        if objects.is_annotated(body, objects.PAUSED) and not objects.is_being_deleted(body):
            await _tell_status(subject, paused(), {})
            return "paused"
        try:
            outcome = await self.kind.reconcile(subject)
        except RemoteError as error:
            # An answer, unlike an outage, is about this spec.
            answered = {} if error.is_outage else {"observedGeneration": body["metadata"]["generation"]}
            await _tell_status(subject, conditions_of(_failure(error)), answered)
            if error.is_outage:
                raise
            return "refused"
        except KubeError as error:
            if error.is_forbidden:
                await _tell_status(subject, conditions_of(_forbidden(error)), {})
            raise
        if outcome.needs_finalizer != objects.has_finalizer(subject.body):
            await subject.write_finalizer(present=outcome.needs_finalizer)
        if objects.is_being_deleted(body) and not outcome.needs_finalizer:
            return "released"
        for note in outcome.notes:
            self._events.tell(body, note)
        await _tell_status(subject, conditions_of(outcome.verdict), _status(body, outcome))
        return outcome.verdict.phase

    def _note_written(self, key: Key, body: Body) -> None:
        """What we wrote is known at once; the watch tells it later. An object that is gone stays gone."""
        if key not in self._bodies:
            return
        self._keep(key, body)
        # Our own finalizer is nothing to look at once more; what others changed meanwhile is.
        if (before := self._causes.get(key)) is not None and before[:-1] == _cause(body)[:-1]:
            self._causes[key] = _cause(body)

    def _keep(self, key: Key, body: Body) -> None:
        """The watch and the answers to our own writes come by two ways: the newer one counts, not the later one."""
        known = self._bodies.get(key)
        if known is None or _version(known) < _version(body):
            self._bodies[key] = _slim(body)

    def _drop(self, key: Key) -> None:
        self._bodies.pop(key, None)
        self._causes.pop(key, None)
        self._queue.forget(key)

    async def _relist(self) -> None:
        began = dict(self._bodies)
        listed = {objects.key_of(body): body for body in await self._kube.items(path_of(self.kind.plural))}
        for body in listed.values():
            self.seen(None, {"apiVersion": f"{GROUP}/{VERSION}", "kind": self.kind.kind, **body})
        for key in began.keys() - listed.keys():
            self._drop(key)


async def _tell_status(subject: Subject, wanted: Sequence[Condition], status: Json) -> None:
    """Nothing is written where nothing is new."""
    if changed := _news(subject.body, wanted, status):
        await subject.write_status(changed)


def is_told(body: Body, outcome: Outcome) -> bool:
    """Whether the object says already how it stands."""
    if outcome.needs_finalizer != objects.has_finalizer(body):
        return False
    return not _news(body, conditions_of(outcome.verdict), _status(body, outcome))


def _status(body: Body, outcome: Outcome) -> Json:
    return {"observedGeneration": body["metadata"]["generation"], **outcome.status}


def _news(body: Body, wanted: Sequence[Condition], status: Json) -> Json:
    """The fields of the status that are not as they should be."""
    before = objects.status_of(body)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    generation = body["metadata"]["generation"]
    conditions = merged(before.get("conditions") or (), wanted, generation=generation, now=now)
    new = {**status, "conditions": conditions}
    return {name: _replacing(before.get(name), value) for name, value in new.items() if before.get(name) != value}


def _replacing(old: Any, new: Any) -> Any:
    """The value as a merge patch, which keeps what it does not name, must have it."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return {**dict.fromkeys(old.keys() - new.keys()), **new}
    return new


def _failure(error: RemoteError) -> Verdict:
    reason = _camel(error.reason)
    return Verdict("working" if error.is_outage else "stalled", reason, error.message, is_synced=False)


def _forbidden(error: KubeError) -> Verdict:
    return Verdict("working", "Forbidden", error.message, is_synced=False)


def _camel(reason: str) -> str:
    """SLUG_TAKEN as Kubernetes writes reasons: SlugTaken."""
    return "".join(word.capitalize() for word in reason.split("_"))


def _cause(body: Body) -> tuple[Any, ...]:
    """What of an object makes it worth a look: not its status, which is ours."""
    meta = body["metadata"]
    return (
        meta["uid"],
        meta["generation"],
        meta.get("annotations"),
        meta.get("deletionTimestamp"),
        meta.get("finalizers"),  # the last: see _note_written
    )


def _version(body: Body) -> int:
    return int(body["metadata"]["resourceVersion"])


def _slim(body: Body) -> Body:
    """Without what only the API server needs: thousands of these are kept."""
    meta = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
    return {**body, "metadata": meta}
