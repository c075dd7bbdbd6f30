"""Tenants as Kubernetes objects: observe, plan, act, tell."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import structlog

from aerostic_operator import metrics, objects
from aerostic_operator.controller import Outcome, Unsettled, is_told
from aerostic_operator.events import Note
from aerostic_operator.kube import Kube, KubeError, path_of
from aerostic_operator.objects import GROUP, VERSION, Body, Json, Key
from aerostic_operator.subject import Subject
from aerostic_operator.tenants import telling
from aerostic_operator.tenants.first_admins import FirstAdmins
from aerostic_operator.tenants.fleet import Fleet
from aerostic_operator.tenants.model import (
    Action,
    Apply,
    Desired,
    Dismiss,
    Erase,
    Forget,
    Invite,
    Known,
    Observed,
    Plan,
    Record,
    Staff,
    Workers,
)
from aerostic_operator.tenants.plan import asks_for_admin, may_go, plan
from aerostic_operator.tenants.platform import TenantPlatform

log = structlog.get_logger()

_ROUNDS_MAX = 6
_NO_POLICIES = ["Observe"]


class TenantKind:
    """The kind Tenant."""

    kind = "Tenant"
    plural = "tenants"

    def __init__(
        self, kube: Kube, platform: TenantPlatform, first_admins: FirstAdmins, fleet: Fleet, *, imports: bool
    ) -> None:
        """`imports`: whether workspaces that nobody described get an object."""
        self._kube = kube
        self._platform = platform
        self._first_admins = first_admins
        self._fleet = fleet
        self._imports = imports

    async def reconcile(self, subject: Subject) -> Outcome:
        body = subject.body
        desired, known = Desired.of(body), Known.of(body)
        if may_go(desired):
            return Outcome(plan(desired, Observed(), known).verdict, needs_finalizer=False)
        notes: list[Note] = []
        reverted: tuple[str, ...] = ()
        record = await self._platform.find(desired.slug)
        for _ in range(_ROUNDS_MAX):
            observed = await self._observe(body, desired, known, record)
            now = plan(desired, observed, known)
            if now.action is None:
                break
            if now.needs_finalizer:
                await subject.hold()
            record, note = await self._act(body, desired, now.action, record)
            notes += [note] if note else []
            if isinstance(now.action, Apply) and now.action.because == "drift":
                reverted = now.action.differences
        else:
            raise Unsettled(f"{now.action} again and again")
        notes += _changes_of_state(body, now)
        return self._outcome(body, desired, observed, now, notes=tuple(notes), reverted=reverted)

    async def survey(self, bodies: Mapping[Key, Body]) -> Iterable[Key]:
        records = await self._platform.all()
        managed = {key: Desired.of(body) for key, body in bodies.items()}
        found = {key: records.get(desired.slug) for key, desired in managed.items()}
        asking = [
            record.tenant_id
            for key, record in found.items()
            if record and asks_for_admin(managed[key], record, Known.of(bodies[key]))
        ]
        admins = await self._platform.first_admins(asking)
        secrets = await self._first_admins.having_secrets()
        self._fleet.read()
        workers = await self._fleet.all()
        if self._imports:
            await self._import(records, {desired.slug for desired in managed.values()})
        stale = []
        for key, desired in managed.items():
            body, record = bodies[key], found[key]
            if objects.is_annotated(body, objects.PAUSED) and not desired.is_deleting:
                continue
            if desired.is_deleting and record and record.is_being_erased:
                stale.append(key)
                continue
            admin = admins.get(record.tenant_id) if record else None
            compared = self._compared(body, record, workers.get(desired.slug, ()))
            observed = Observed(record, admin, desired.slug in secrets, workers=compared)
            now = plan(desired, observed, Known.of(body))
            if now.action is not None or not is_told(body, self._outcome(body, desired, observed, now)):
                stale.append(key)
        return stale

    async def _observe(self, body: Body, desired: Desired, known: Known, record: Record | None) -> Observed:
        """What there is beside the record, as far as the plan asks for it."""
        if record is None:
            return Observed()
        if record.is_being_erased and desired.is_deleting and known.owns(desired, record):
            return Observed(record, erasure=await self._platform.erase(record.tenant_id, desired.slug))
        found = await self._fleet.of(desired.slug, may_have_none=record.isolation == "shared")
        workers = self._compared(body, record, found)
        if not asks_for_admin(desired, record, known):
            return Observed(record, workers=workers)
        admin = await self._platform.first_admin(record.tenant_id)
        has_secret = await self._first_admins.has_secret(desired.slug)
        return Observed(record, admin, has_secret, workers=workers)

    def _compared(self, body: Body, record: Record | None, found: Sequence[Body]) -> Workers:
        if record is None or (record.isolation == "shared" and not found):
            return Workers()
        return self._fleet.compared(body, record.tenant_id, found)

    async def _act(
        self, body: Body, desired: Desired, action: Action, before: Record | None
    ) -> tuple[Record | None, Note | None]:
        """The record afterwards, and what people should know of it."""
        match action:
            case Apply():
                record = await self._platform.apply(desired.slug, action, before)
                if action.because == "drift":
                    metrics.drift.labels(self.kind, "Revert").inc()
                return record, telling.applied(action)
            case Invite():
                return before, await self._first_admins.invite(body, action)
            case Forget():
                return before, await self._first_admins.forget(desired.slug)
            case Erase():
                await self._platform.erase(action.tenant_id, desired.slug)
                return await self._platform.find(desired.slug), telling.ERASING
            case Staff():
                is_made = await self._fleet.make(body, action)
                return before, telling.staffed(action) if is_made else None
            case Dismiss():
                await self._fleet.remove(action.surplus)
                return before, telling.dismissed(action)

    def _outcome(
        self,
        body: Body,
        desired: Desired,
        observed: Observed,
        now: Plan,
        *,
        notes: tuple[Note, ...] = (),
        reverted: tuple[str, ...] = (),
    ) -> Outcome:
        time = datetime.now(UTC)
        status: Json = {
            **telling.status(body, desired, observed, now, time),
            "firstAdmin": self._first_admins.status(desired, observed),
        }
        if reverted:
            status["lastReverted"] = {"time": f"{time:%Y-%m-%dT%H:%M:%SZ}", "differences": list(reverted)}
        return Outcome(now.verdict, now.needs_finalizer, status, notes)

    async def _import(self, records: Mapping[str, Record], known: set[str]) -> None:
        """An object for each tenant that has none, so that all are seen; it only looks."""
        for slug in records.keys() - known:
            body = {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": self.kind,
                "metadata": {"name": slug, "labels": {objects.IMPORTED: "true"}},
                "spec": {"slug": slug, "managementPolicies": _NO_POLICIES},
            }
            try:
                await self._kube.create(path_of(self.plural), body)
            except KubeError as error:
                if not error.is_conflict:
                    raise
                continue  # made in between; the watch tells it
            metrics.writes.labels(self.kind, "import").inc()
            log.info("tenant_imported", slug=slug)


def _changes_of_state(body: Body, now: Plan) -> Iterable[Note]:
    """Events for what begins, not for what lasts."""
    verdict = now.verdict
    before = objects.condition(body, "Ready")
    is_new = before.get("reason") != verdict.reason or before.get("message") != verdict.message
    if not is_new:
        return
    if verdict.reason == "Drifted":
        metrics.drift.labels("Tenant", "Report").inc()
    is_stalled = "stalled" in {verdict.phase, verdict.pending}
    if verdict.differences or is_stalled:
        yield Note(verdict.reason, verdict.message, is_warning=is_stalled or verdict.reason == "Drifted")
