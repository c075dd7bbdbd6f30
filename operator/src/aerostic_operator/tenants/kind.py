"""Tenants as Kubernetes objects: observe, plan, act, tell."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from urllib.parse import quote

import structlog

from aerostic_operator import metrics, objects
from aerostic_operator.controller import Note, Outcome, Unsettled, is_told
from aerostic_operator.kube import Kube, KubeError, path_of, secret_path
from aerostic_operator.objects import GROUP, VERSION, Body, Json, Key
from aerostic_operator.subject import Subject
from aerostic_operator.tenants.model import (
    Action,
    Apply,
    Desired,
    Erase,
    Forget,
    Invite,
    Known,
    Observed,
    Plan,
    Record,
)
from aerostic_operator.tenants.plan import asks_for_admin, may_go, plan
from aerostic_operator.tenants.platform import TenantPlatform

log = structlog.get_logger()

_ROUNDS_MAX = 6
_SECRET_LABEL = f"{GROUP}/first-admin-of"
_NO_POLICIES = ["Observe"]


class TenantKind:
    """The kind Tenant."""

    kind = "Tenant"
    plural = "tenants"

    def __init__(self, kube: Kube, platform: TenantPlatform, *, namespace: str, app_url: str, imports: bool) -> None:
        """`namespace`: where Secrets for first admins go. `app_url`: the dashboard, for links; empty: no links."""
        self._kube = kube
        self._platform = platform
        self._namespace = namespace
        self._app_url = app_url
        self._imports = imports

    async def reconcile(self, subject: Subject) -> Outcome:
        body = subject.body
        desired, known = Desired.of(body), Known.of(body)
        if may_go(desired):
            return Outcome(plan(desired, Observed(), known).verdict, needs_finalizer=False)
        notes: list[Note] = []
        reverted: tuple[str, ...] = ()
        for _ in range(_ROUNDS_MAX):
            observed = await self._observe(desired, known)
            now = plan(desired, observed, known)
            if now.action is None:
                break
            if now.needs_finalizer:
                await subject.hold()
            notes.append(await self._act(body, desired, now.action))
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
        secrets = await self._secrets()
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
            observed = Observed(record, admin, desired.slug in secrets)
            now = plan(desired, observed, Known.of(body))
            if now.action is not None or not is_told(body, self._outcome(body, desired, observed, now)):
                stale.append(key)
        return stale

    async def _observe(self, desired: Desired, known: Known) -> Observed:
        record = await self._platform.find(desired.slug)
        if record and record.is_being_erased and desired.is_deleting and known.owns(desired, record):
            return Observed(record, erasure=await self._platform.erase(record.tenant_id, desired.slug))
        if record is None or not asks_for_admin(desired, record, known):
            return Observed(record)
        admins = await self._platform.first_admins([record.tenant_id])
        secret = await self._kube.find(secret_path(self._secret_key(desired.slug)))
        return Observed(record, admins.get(record.tenant_id), secret is not None)

    async def _act(self, body: Body, desired: Desired, action: Action) -> Note:
        match action:
            case Apply():
                await self._platform.apply(desired.slug, action)
                if action.because == "drift":
                    metrics.drift.labels(self.kind, "Revert").inc()
                return _note_of(action)
            case Invite():
                admin, token = await self._platform.invite(action.tenant_id, action.email)
                if token:
                    key = self._secret_key(desired.slug)
                    secret = self._secret(body, token=token, email=admin.email, expires=admin.expire_time)
                    await self._kube.apply(secret_path(key), secret)
                    return Note("FirstAdminInvited", f"The token for {admin.email} is in the Secret {key.name}.")
                return Note("FirstAdminJoined", f"{admin.email} is admin already.")
            case Forget():
                await self._kube.delete(secret_path(self._secret_key(desired.slug)))
                return Note("FirstAdminJoined", "The first admin has joined; the Secret with the token is removed.")
            case Erase():
                await self._platform.erase(action.tenant_id, desired.slug)
                return Note("Erasing", "The workspace is being erased, as deletionPolicy says.", is_warning=True)

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
        record, known = observed.record, Known.of(body)
        status: Json = {
            "tenantId": record.tenant_id
            if record and (now.is_bound or desired.only_observes)
            else known.tenant_id or None,
            # What is away for a moment is not another's for that.
            "bound": now.is_bound if record else known.is_bound,
            "appliedGeneration": desired.generation if now.verdict.is_synced else known.applied_generation or None,
            "state": _state(record),
            "displayName": record.display_name if record else None,
            "usage": {"connectedNumbers": record.connected_numbers} if record else None,
            "firstAdmin": self._first_admin(desired, observed),
            "differences": list(now.verdict.differences) or None,
        }
        if reverted:
            status["lastReverted"] = {"time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "differences": list(reverted)}
        return Outcome(now.verdict, now.needs_finalizer, status, notes)

    def _first_admin(self, desired: Desired, observed: Observed) -> Json | None:
        admin = observed.first_admin
        if admin is None or desired.owner_email is None:
            return None
        if admin.has_joined:
            return {"email": admin.email, "state": "joined"}
        key = self._secret_key(desired.slug)
        where = {"secretName": key.name, "secretNamespace": key.namespace} if observed.has_secret else {}
        return {"email": admin.email, "state": "invited", "expireTime": admin.expire_time, **where}

    def _secret_key(self, slug: str) -> Key:
        return Key(self._namespace, f"tenant-{slug}-first-admin")

    def _secret(self, body: Body, *, token: str, email: str, expires: str) -> Json:
        slug = body["spec"]["slug"]
        link = {"link": f"{self._app_url}/accept-invitation?token={quote(token)}"} if self._app_url else {}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": self._secret_key(slug).name,
                "namespace": self._namespace,
                "labels": {_SECRET_LABEL: slug},
                "ownerReferences": [objects.owner_reference(body)],
            },
            "stringData": {"token": token, "email": email, "expires": expires, **link},
        }

    async def _secrets(self) -> set[str]:
        """Slugs of the tenants whose first admin has a Secret."""
        path = f"/api/v1/namespaces/{self._namespace}/secrets?labelSelector={_SECRET_LABEL}"
        return {each["metadata"]["labels"][_SECRET_LABEL] for each in (await self._kube.get(path))["items"]}

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


def _state(record: Record | None) -> str | None:
    if record is None:
        return None
    if record.is_being_erased:
        return "deleting"
    return "suspended" if record.is_suspended else "active"


def _note_of(action: Apply) -> Note:
    words = "; ".join(action.differences)
    match action.because:
        case "create":
            return Note("Created", f"The workspace {action.tenant_id} was created.")
        case "drift":
            return Note("DriftReverted", f"Changed elsewhere, and made as described again: {words}.", is_warning=True)
        case "delete":
            return Note("Suspended", "The workspace was suspended, as deletionPolicy says.")
        case "change":
            return Note("Updated", f"The platform was brought in line: {words}.")


def _changes_of_state(body: Body, now: Plan) -> Iterable[Note]:
    """Events for what begins, not for what lasts."""
    verdict = now.verdict
    before = objects.condition(body, "Ready")
    is_new = before.get("reason") != verdict.reason or before.get("message") != verdict.message
    if not is_new:
        return
    if verdict.reason == "Drifted":
        metrics.drift.labels("Tenant", "Report").inc()
    if verdict.differences or verdict.phase == "stalled":
        yield Note(
            verdict.reason, verdict.message, is_warning=verdict.phase == "stalled" or verdict.reason == "Drifted"
        )
