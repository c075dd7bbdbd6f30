"""What to do about a WhatsAppAccount: a function of what is described and what is there, and of nothing else."""

from dataclasses import dataclass
from typing import Literal

from aerostic_operator import objects
from aerostic_operator.conditions import Verdict

DISCONNECTED = "the number is not connected any more"
OTHER_TOKEN = "another token was connected elsewhere"  # noqa: S105 (words about a token)


@dataclass(frozen=True, slots=True)
class Desired:
    """What the object says. The token is not here: the plan needs to know its Secret's version alone."""

    tenant: str
    waba_id: str
    reverts_drift: bool = True
    disconnects_on_deletion: bool = False
    may_create: bool = True
    may_update: bool = True
    is_deleting: bool = False
    may_adopt: bool = False
    is_abandoned: bool = False

    @classmethod
    def of(cls, body: objects.Body) -> "Desired":
        spec = body["spec"]
        named = set(spec.get("managementPolicies") or ["*"])
        return cls(
            tenant=spec["tenantRef"]["name"],
            waba_id=spec["wabaId"],
            reverts_drift=spec.get("driftPolicy") != "Report",
            disconnects_on_deletion=spec.get("deletionPolicy") == "Disconnect",
            may_create=bool(named & {"*", "Create"}),
            may_update=bool(named & {"*", "Update"}),
            is_deleting=objects.is_being_deleted(body),
            may_adopt=objects.is_annotated(body, objects.ADOPT),
            is_abandoned=objects.is_annotated(body, objects.ABANDON),
        )


@dataclass(frozen=True, slots=True)
class Number:
    """The number as the platform has it connected."""

    account_id: str
    waba_id: str
    token_version: int
    display_phone_number: str = ""
    verified_name: str = ""
    quality_rating: str = ""
    messages_per_second: int = 0
    state: str = ""
    """ "ready", or "attention" where somebody must act."""
    number_status: str = ""
    name_status: str = ""
    messaging_limit: str = ""
    token_expire_time: str = ""
    """As Kubernetes writes times; empty where the token does not end."""
    failed_checks: tuple[str, ...] = ()
    """In words; empty where it can send and receive."""
    warnings: tuple[str, ...] = ()
    """In words: it works now, and somebody must act."""
    token_failures: tuple[str, ...] = ()
    """Those of the failed checks that another token mends."""
    token_warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Observed:
    """What is there."""

    has_tenant: bool
    is_bound: bool = True
    """Whether the workspace is the Tenant object's: a slug alone may be a stranger's."""
    is_allowed: bool = True
    """Whether the Tenant lets accounts be described in this object's namespace."""
    is_suspended: bool = False
    secret_version: str = ""
    """Of the Secret with the token; empty where there is none, or no token in it."""
    number: Number | None = None
    older: str = ""
    """An older object, by its namespace and name, that describes the same number."""
    is_shared: bool = False
    """Whether any other object describes the same number."""


@dataclass(frozen=True, slots=True)
class Known:
    """What was connected by this object. A Secret's version without an account: an attempt, whose end is not known."""

    account_id: str = ""
    token_version: int = 0
    secret_version: str = ""

    @property
    def has_tried(self) -> bool:
        """Whether this object has connected the number, or may have."""
        return bool(self.account_id or self.secret_version)

    def owns(self, number: Number) -> bool:
        """An attempt began where there was no number: what is there since is what it made."""
        return self.has_tried and self.account_id in {"", number.account_id}

    @classmethod
    def of(cls, body: objects.Body) -> "Known":
        status = objects.status_of(body)
        return cls(status.get("accountId", ""), status.get("tokenVersion", 0), status.get("secretVersion", ""))


@dataclass(frozen=True, slots=True)
class Connect:
    """Connect the number with the Secret's token."""

    because: Literal["create", "adopt", "token", "change", "drift"]
    differences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Disconnect the number."""


Action = Connect | Disconnect


@dataclass(frozen=True, slots=True)
class Plan:
    """One action at a time, or none and how the object stands."""

    verdict: Verdict
    action: Action | None = None
    needs_finalizer: bool = False


def plan(desired: Desired, observed: Observed, known: Known) -> Plan:
    if desired.is_deleting:
        return _deletion(desired, observed, known)
    stands = _hindrance(desired, observed) or _wanted(desired, observed, known)
    if isinstance(stands, Connect):
        stands = _missing(desired, observed) or stands
    if isinstance(stands, Verdict):
        return Plan(stands, None, _needs_finalizer(desired) and known.has_tried)
    verdict = Verdict("working", "Connecting", "The number is being connected.", is_synced=False)
    return Plan(verdict, stands, _needs_finalizer(desired))


def may_go(desired: Desired, known: Known) -> bool:
    """Whether the object is released whatever the platform says, and even if it says nothing."""
    return desired.is_deleting and (desired.is_abandoned or not _needs_finalizer(desired) or not known.has_tried)


def _hindrance(desired: Desired, observed: Observed) -> Verdict | None:
    """Why this object has no say about the number."""
    if observed.older and (desired.may_create or desired.may_update):
        text = f"The WhatsAppAccount {observed.older} is older and describes the same number of the same Tenant."
        return Verdict("stalled", "Conflict", text, is_synced=False)
    if not observed.has_tenant:
        return Verdict("stalled", "TenantNotFound", f"There is no workspace {desired.tenant}.", is_synced=False)
    if not observed.is_bound:
        text = f"The workspace {desired.tenant} is not managed by its Tenant object, so it may be a stranger's."
        return Verdict("stalled", "TenantNotBound", text, is_synced=False)
    if not observed.is_allowed:
        text = f"The Tenant {desired.tenant} names other namespaces in accountNamespaces."
        return Verdict("stalled", "NamespaceNotAllowed", text, is_synced=False)
    return None


def _missing(desired: Desired, observed: Observed) -> Verdict | None:
    """What connecting lacks."""
    if not observed.secret_version:
        text = "The Secret of accessTokenSecretRef, or its key, is missing."
        return Verdict("stalled", "SecretNotFound", text, is_synced=False)
    if observed.is_suspended:
        text = f"The workspace {desired.tenant} is suspended."
        return Verdict("stalled", "TenantSuspended", text, is_synced=False)
    return None


def _wanted(desired: Desired, observed: Observed, known: Known) -> Connect | Verdict:
    """Why to connect; how the object stands where there is no reason to."""
    number = observed.number
    if number is None:
        return _unconnected(desired, known)
    if number.account_id != known.account_id:
        return _foreign(desired, number, known)
    differences = _differences(desired, number, known)
    if desired.may_update and observed.secret_version not in {"", known.secret_version}:
        return Connect("token")
    if not differences:
        return connected(number)
    if not desired.may_update or (OTHER_TOKEN in differences and not desired.reverts_drift):
        words = f"{'; '.join(differences)}."
        return Verdict("ready", "Drifted", words, is_synced=False, differences=differences)
    return Connect("drift" if OTHER_TOKEN in differences else "change", differences)


def _unconnected(desired: Desired, known: Known) -> Connect | Verdict:
    if not known.account_id:
        if desired.may_create:
            return Connect("create")
        text = "The number is not connected, and managementPolicies do not let the operator connect it."
        return Verdict("stalled", "NotFound", text, is_synced=False)
    if desired.may_create and desired.reverts_drift:
        return Connect("drift", (DISCONNECTED,))
    return Verdict("stalled", "Disconnected", f"{DISCONNECTED}.", is_synced=False, differences=(DISCONNECTED,))


def _foreign(desired: Desired, number: Number, known: Known) -> Connect | Verdict:
    """The number was connected by somebody else, such as the workspace's admin; or by us, who died on the way."""
    if known.secret_version and not known.account_id and desired.may_create:
        return Connect("create")
    if not desired.may_update:
        return connected(number)
    if desired.may_adopt:
        return Connect("adopt")
    text = "The number is connected already. Adopting it replaces its token. Annotate aerostic.io/adopt=true."
    return Verdict("stalled", "AdoptionPreview", text, is_synced=False, differences=("its token would be replaced",))


def connected(number: Number) -> Verdict:
    """How an object stands whose number is connected as described."""
    if number.failed_checks:
        return Verdict("stalled", "CheckFailed", f"{'; '.join(number.failed_checks)}.")
    words = [f"{number.display_phone_number} can send and receive.", *number.warnings]
    return Verdict("ready", "Connected", " ".join(words))


def _deletion(desired: Desired, observed: Observed, known: Known) -> Plan:
    verdict = Verdict("working", "Deleting", "The number is being disconnected.", is_synced=False)
    is_own = observed.number is not None and known.owns(observed.number)
    if may_go(desired, known) or not is_own or observed.is_shared:
        return Plan(verdict)
    return Plan(verdict, Disconnect(), needs_finalizer=True)


def _needs_finalizer(desired: Desired) -> bool:
    """Only where deletion has something to do."""
    return desired.disconnects_on_deletion and desired.may_update


def _differences(desired: Desired, number: Number, known: Known) -> tuple[str, ...]:
    found = []
    if number.waba_id != desired.waba_id:
        found.append(f"wabaId is {number.waba_id} instead of {desired.waba_id}")
    if number.token_version != known.token_version:
        found.append(OTHER_TOKEN)
    return tuple(found)
