"""WhatsApp accounts as Kubernetes objects. The token goes from its Secret to svc-tenants and stays nowhere."""

import base64
import binascii
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

from aerostic_operator import metrics, objects
from aerostic_operator.controller import Outcome, Unsettled
from aerostic_operator.events import Note
from aerostic_operator.kube import Kube, path_of, secret_path
from aerostic_operator.objects import Body, Json, Key
from aerostic_operator.subject import Subject
from aerostic_operator.tenants.model import Record
from aerostic_operator.tenants.platform import TenantPlatform
from aerostic_operator.whatsapp_accounts import health
from aerostic_operator.whatsapp_accounts.plan import (
    Connect,
    Desired,
    Disconnect,
    Known,
    Number,
    Observed,
    Plan,
    may_go,
    plan,
)
from aerostic_operator.whatsapp_accounts.platform import NumberPlatform
from aerostic_operator.whatsapp_accounts.rivals import older, rivals_of
from kit.errors import RemoteError

_ROUNDS_MAX = 4
# Of Secrets a survey knows nothing: it looks at one object in so many, each is compared every few minutes.
_SHARE = 10
# Surveys for which a token that Meta refused is not shown to Meta again.
_PATIENCE = 20
# Ended by another object, so looked at in each survey.
_WAITS_FOR_OTHERS = {"TenantNotFound", "TenantNotBound", "NamespaceNotAllowed", "Conflict"}


class WhatsAppAccountKind:
    """The kind WhatsAppAccount."""

    kind = "WhatsAppAccount"
    plural = "whatsappaccounts"

    def __init__(self, kube: Kube, tenants: TenantPlatform, numbers: NumberPlatform) -> None:
        self._kube = kube
        self._tenants = tenants
        self._numbers = numbers
        self._turn = 0
        self._refused: dict[Key, int] = {}

    async def reconcile(self, subject: Subject) -> Outcome:
        body = subject.body
        desired, known = Desired.of(body), Known.of(body)
        if may_go(desired, known):
            return Outcome(plan(desired, Observed(has_tenant=False), known).verdict, needs_finalizer=False)
        notes: list[Note] = []
        for _ in range(_ROUNDS_MAX):
            tenant = await self._tenants.find(desired.tenant)
            described = await self._kube.find(path_of("tenants", Key("", desired.tenant))) or {}
            secret_version, token = await self._token(body)
            number = await self._numbers.find(tenant.tenant_id, body["spec"]["phoneNumberId"]) if tenant else None
            is_suspended = tenant is not None and tenant.is_suspended
            rivals = await self._rivals(subject, desired)
            observed = Observed(
                tenant is not None,
                is_bound=tenant is not None and _is_bound(described, tenant),
                is_allowed=_allows(described, body["metadata"]["namespace"]),
                is_suspended=is_suspended,
                secret_version=secret_version,
                number=number,
                older=older(body, rivals),
                is_shared=bool(rivals),
            )
            now = plan(desired, observed, known)
            if now.action is None or tenant is None:
                break
            if now.needs_finalizer:
                await subject.hold()
            known = await self._act(subject, now.action, tenant, token, secret_version)
            notes.append(_note_of(now.action))
        else:
            raise Unsettled(f"{now.action} again and again")
        notes += _changes_of_state(body, now)
        notes += health.changes(body, observed.number)
        return _outcome(now, observed.number, known, tuple(notes))

    async def survey(self, bodies: Mapping[Key, Body]) -> Iterable[Key]:
        self._turn += 1
        self._refused = {key: turn for key, turn in self._refused.items() if turn > self._turn and key in bodies}
        numbers = await self._numbers.all() if bodies else {}
        return [key for key, body in bodies.items() if self._is_due(key, body, numbers)]

    def _is_due(self, key: Key, body: Body, numbers: Mapping[str, Number]) -> bool:
        if objects.condition(body, "Ready").get("reason") in _WAITS_FOR_OTHERS:
            return True
        if key in self._refused or objects.is_annotated(body, objects.PAUSED):
            return False
        if _turn_of(key) == self._turn % _SHARE or health.waits_for_token(body):
            return True
        return health.is_stale(body, numbers.get(body["spec"]["phoneNumberId"]))

    async def _act(
        self, subject: Subject, action: Connect | Disconnect, tenant: Record, token: str, secret_version: str
    ) -> Known:
        spec = subject.body["spec"]
        phone_number_id = spec["phoneNumberId"]
        if isinstance(action, Disconnect):
            await self._numbers.disconnect(tenant.tenant_id, phone_number_id)
            return Known()
        if action.because == "create":
            # Should we die before the answer is noted, the number is known to be ours all the same.
            await subject.write_status({"secretVersion": secret_version})
        try:
            number = await self._numbers.connect(tenant.tenant_id, spec["wabaId"], phone_number_id, token)
        except RemoteError as error:
            if not error.is_outage:
                if action.because == "create":
                    await subject.write_status({"secretVersion": None})
                self._refused[objects.key_of(subject.body)] = self._turn + _PATIENCE
            raise
        if action.because == "drift":
            metrics.drift.labels(self.kind, "Revert").inc()
        return Known(number.account_id, number.token_version, secret_version)

    async def _rivals(self, subject: Subject, desired: Desired) -> list[Body]:
        """Other objects for the same number. What cannot be undone by looking again is asked of the API server."""
        if desired.is_deleting:
            return rivals_of(subject.body, await self._kube.items(path_of(self.plural)))
        return rivals_of(subject.body, subject.peers.values())

    async def _token(self, body: Body) -> tuple[str, str]:
        """The Secret's version and the token; both empty where there is none."""
        reference = body["spec"]["accessTokenSecretRef"]
        secret = await self._kube.find(secret_path(Key(body["metadata"]["namespace"], reference["name"])))
        encoded = ((secret or {}).get("data") or {}).get(reference.get("key", "accessToken"), "")
        try:
            token = base64.b64decode(encoded).decode().strip()
        except (binascii.Error, UnicodeDecodeError):
            token = ""
        if not secret or not token:
            return "", ""
        meta = secret["metadata"]
        return f"{meta['uid']}/{meta['resourceVersion']}", token


def _is_bound(described: Body, tenant: Record) -> bool:
    """Whether the workspace with this slug is the one that the Tenant object was made for or has adopted."""
    status = objects.status_of(described)
    return status.get("bound") is True and status.get("tenantId") == tenant.tenant_id


def _allows(described: Body, namespace: str) -> bool:
    """Whether the Tenant object lets accounts be described in the namespace; it does where it names none."""
    allowed = described.get("spec", {}).get("accountNamespaces")
    return allowed is None or namespace in allowed


def _turn_of(key: Key) -> int:
    return zlib.crc32(f"{key.namespace}/{key.name}".encode()) % _SHARE


def _outcome(now: Plan, number: Number | None, known: Known, notes: tuple[Note, ...]) -> Outcome:
    status: Json = {
        "accountId": known.account_id or None,
        "tokenVersion": known.token_version or None,
        "secretVersion": known.secret_version or None,
        **health.fields(number),
        "differences": list(now.verdict.differences) or None,
    }
    return Outcome(replace(now.verdict, extra=health.conditions(number)), now.needs_finalizer, status, notes)


def _note_of(action: Connect | Disconnect) -> Note:
    if isinstance(action, Disconnect):
        return Note("Disconnected", "The number was disconnected, as deletionPolicy says.")
    words = "; ".join(action.differences)
    match action.because:
        case "create":
            return Note("Connected", "The number was connected.")
        case "adopt":
            return Note("Adopted", "The number was connected already; it has the Secret's token now.")
        case "token":
            return Note("TokenReplaced", "The Secret has changed; its token was connected.")
        case "change":
            return Note("Updated", f"The platform was brought in line: {words}.")
        case "drift":
            return Note("DriftReverted", f"Changed elsewhere, and connected again: {words}.", is_warning=True)


def _changes_of_state(body: Body, now: Plan) -> Iterable[Note]:
    """Events for what begins, not for what lasts."""
    verdict, before = now.verdict, objects.condition(body, "Ready")
    if (before.get("reason"), before.get("message")) == (verdict.reason, verdict.message):
        return
    if verdict.reason in {"Drifted", "Disconnected"}:
        metrics.drift.labels("WhatsAppAccount", "Report").inc()
    if verdict.differences or verdict.phase == "stalled":
        yield Note(verdict.reason, verdict.message, is_warning=True)
