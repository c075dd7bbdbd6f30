"""The plan for a Tenant, tried with every state that can be thought of."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aerostic_operator.objects import Child
from aerostic_operator.tenants import model
from aerostic_operator.tenants.model import (
    Apply,
    Desired,
    Dismiss,
    Erase,
    Erasure,
    FirstAdmin,
    Forget,
    Invite,
    Known,
    Observed,
    Record,
    Staff,
    Worker,
    Workers,
)
from aerostic_operator.tenants.plan import plan

UID, OTHER = "uid-of-the-object", "id-of-another"
NAMES = st.sampled_from(["Acme", "Acme Shoes"])
MAYBE = st.sampled_from([None, True, False])
POLICIES = st.sampled_from([{"Observe"}, {"Observe", "Create"}, {"Observe", "Update"}, {"Observe", "Create", "Update"}])

desires = st.builds(
    Desired,
    uid=st.just(UID),
    slug=st.just("acme"),
    generation=st.integers(1, 2),
    display_name=st.none() | NAMES,
    owner_email=st.none() | st.just("zoe@example.com"),
    suspended=MAYBE,
    suspension_reason=st.just("The invoice is open."),
    isolation=st.sampled_from([None, "shared", "dedicated"]),
    reverts_drift=st.booleans(),
    deletion=st.sampled_from(["Retain", "Suspend", "Delete"]),
    policies=POLICIES.map(frozenset),
    is_deleting=st.booleans(),
    may_adopt=st.booleans(),
    is_abandoned=st.booleans(),
)
admins = st.none() | st.builds(
    FirstAdmin,
    email=st.sampled_from(["zoe@example.com", "yan@example.com"]),
    has_joined=st.booleans(),
    has_expired=st.booleans(),
)
records = st.builds(
    Record,
    tenant_id=st.sampled_from([UID, OTHER]),
    display_name=NAMES,
    is_suspended=st.booleans(),
    is_being_erased=st.booleans(),
    isolation=st.sampled_from(["shared", "dedicated"]),
)
INBOX, SENDER, BUDGET = (
    Child("Deployment", "inbox"),
    Child("Deployment", "sender"),
    Child("PodDisruptionBudget", "inbox"),
)
children = st.sets(st.sampled_from([INBOX, SENDER, BUDGET])).map(sorted).map(tuple)


@st.composite
def workers(draw) -> Workers:
    """Where two Deployments are wanted; whatever else is there is not."""
    if not draw(st.booleans()):
        return Workers()
    present = draw(children)
    stale = {INBOX, SENDER} - set(present) | set(draw(children)) - {BUDGET}
    standing = tuple(
        Worker(child.name, 1, draw(st.integers(0, 1)), is_rolled_out=draw(st.booleans()), is_stuck=draw(st.booleans()))
        for child in (INBOX, SENDER)
        if child in present
    )
    surplus = tuple(child for child in present if child == BUDGET)
    return Workers(True, present, tuple(sorted(stale)), surplus, standing)


observations = st.builds(
    Observed, record=st.none() | records, first_admin=admins, has_secret=st.booleans(), workers=workers()
)
memories = st.builds(
    Known, tenant_id=st.sampled_from(["", UID, OTHER]), is_bound=st.booleans(), applied_generation=st.integers(0, 2)
)


def done(observed: Observed, action: model.Action) -> Observed:
    """The platform after an action."""
    match action:
        case Apply():
            record = observed.record or Record(action.tenant_id, action.display_name or "acme", is_suspended=False)
            assert record.tenant_id == action.tenant_id
            suspended = record.is_suspended if action.suspended is None else action.suspended
            name = action.display_name or record.display_name
            isolation = action.isolation or record.isolation
            record = replace(record, display_name=name, is_suspended=suspended, isolation=isolation)
            return replace(observed, record=record)
        case Invite():
            return replace(observed, first_admin=FirstAdmin(action.email, has_joined=False), has_secret=True)
        case Forget():
            return replace(observed, has_secret=False)
        case Erase():
            assert observed.record is not None
            assert observed.record.tenant_id == action.tenant_id
            return replace(observed, record=replace(observed.record, is_being_erased=True), erasure=Erasure(("auth",)))
        case Staff():
            assert action.stale
            present = tuple(sorted({*observed.workers.present, *action.stale}))
            standing = tuple(Worker(child.name, 1, 0, is_rolled_out=False) for child in (INBOX, SENDER))
            workers = replace(observed.workers, present=present, stale=(), standing=standing)
            return replace(observed, workers=workers)
        case Dismiss():
            present = tuple(child for child in observed.workers.present if child not in action.surplus)
            standing = tuple(each for each in observed.workers.standing if Child("Deployment", each.name) in present)
            return replace(observed, workers=replace(observed.workers, present=present, surplus=(), standing=standing))


def rounds(desired: Desired, observed: Observed, known: Known) -> tuple[list[model.Plan], Observed]:
    """Every plan until there is nothing left to do."""
    plans = [plan(desired, observed, known)]
    while plans[-1].action is not None:
        assert len(plans) < 7, "does not settle"
        observed = done(observed, plans[-1].action)
        plans.append(plan(desired, observed, known))
    return plans, observed


@given(desires, observations, memories)
def test_every_state_settles_after_a_few_actions(desired, observed, known) -> None:
    plans, _ = rounds(desired, observed, known)
    assert len(plans) <= 6
    assert desired.is_deleting or plans[-1].verdict.phase != "working"


@given(desires, observations, memories)
def test_what_is_synced_is_as_described(desired, observed, known) -> None:
    plans, after = rounds(desired, observed, known)
    if plans[-1].verdict.is_synced:
        assert after.record is not None
        assert desired.display_name in {None, after.record.display_name}
        assert desired.suspended in {None, after.record.is_suspended}
        assert desired.isolation in {None, after.record.isolation}
        assert not plans[-1].verdict.differences


@given(desires, observations, memories)
def test_observing_changes_nothing(desired, observed, known) -> None:
    desired = replace(desired, policies=frozenset({"Observe"}))
    plans, _ = rounds(desired, observed, known)
    assert all(not isinstance(each.action, Apply | Invite | Erase) for each in plans)


@given(desires, observations, memories)
def test_a_tenant_of_somebody_else_is_not_changed_without_consent(desired, observed, known) -> None:
    desired = replace(desired, may_adopt=False)
    record = observed.record
    if record is None or known.owns(desired, record):
        return
    now = plan(desired, observed, known)
    assert not now.is_bound
    # Should an earlier object have left workers here, they go.
    assert isinstance(now.action, Dismiss | None)
    assert desired.is_deleting or desired.only_observes or now.verdict.reason in {"AdoptionPreview", "Erasing"}


@given(desires, observations, memories)
def test_nothing_is_created_for_an_object_that_goes(desired, observed, known) -> None:
    plans, after = rounds(replace(desired, is_deleting=True), observed, known)
    actions = [each.action for each in plans if each.action is not None]
    assert all(isinstance(each, Dismiss) or (isinstance(each, Apply | Erase) and observed.record) for each in actions)
    # It stays until nothing is left of a tenant that is erased for it.
    assert not plans[-1].needs_finalizer or (desired.deletion == "Delete" and after.record.is_being_erased)


@given(desires, observations, memories)
def test_a_tenant_is_erased_for_a_deleted_object_of_its_own_with_that_policy_alone(desired, observed, known) -> None:
    plans, _ = rounds(desired, observed, known)
    if any(isinstance(each.action, Erase) for each in plans):
        assert (desired.is_deleting, desired.is_abandoned, desired.deletion) == (True, False, "Delete")
        assert known.owns(desired, observed.record)
        assert "Update" in desired.policies


@given(desires, observations, memories)
def test_nothing_is_done_with_a_tenant_that_is_being_erased(desired, observed, known) -> None:
    plans, _ = rounds(desired, observed, known)
    if observed.record and observed.record.is_being_erased:
        assert all(isinstance(each.action, Dismiss | None) for each in plans)
        assert not plans[-1].standing


@given(desires, observations, memories)
def test_workers_are_there_for_a_dedicated_tenant_of_the_objects_own_and_for_no_other(desired, observed, known) -> None:
    plans, after = rounds(desired, observed, known)
    last = plans[-1]
    wants = (
        after.record is not None
        and last.is_bound
        and after.record.isolation == "dedicated"
        and not (desired.is_deleting or after.record.is_being_erased)
    )
    if wants:
        assert not after.workers.stale or not after.workers.are_offered
        assert not after.workers.surplus
    elif not desired.is_deleting:
        assert not after.workers.present
    assert wants or not last.standing


@given(desires, observations, memories)
def test_a_tenant_whose_workers_are_late_is_ready_all_the_same(desired, observed, known) -> None:
    plans, _ = rounds(desired, observed, known)
    if plans[-1].verdict.reason.startswith("Workers"):
        assert plans[-1].verdict.phase == "ready"
        assert plans[-1].verdict.pending in {"working", "stalled"}
    else:
        assert plans[-1].verdict.pending is None


DEDICATED = Record("uid-of-the-object", "Acme", is_suspended=False, isolation="dedicated")


@pytest.mark.parametrize(
    ("standing", "reason", "pending", "words"),
    [
        ((), "WorkersStarting", "working", "Shared workers stand in until its own are there."),
        ((Worker("inbox", 2, 2), Worker("sender", 1, 1)), "Active", None, "Workers of its own serve it."),
        (
            (Worker("inbox", 2, 0, is_rolled_out=False), Worker("sender", 1, 1)),
            "WorkersStarting",
            "working",
            "Shared workers stand in until its own are there: inbox has 0 of 2.",
        ),
        (
            (Worker("inbox", 2, 1, is_rolled_out=False, trouble="exceeded quota: cpu."),),
            "WorkersUpdating",
            "working",
            "Its own workers are being brought up to date: inbox has 1 of 2 (exceeded quota: cpu).",
        ),
        (
            (Worker("inbox", 1, 0, is_rolled_out=False, is_stuck=True, trouble="it has timed out."),),
            "WorkersStalled",
            "stalled",
            "Shared workers stand in for its own: inbox has 0 of 1 (it has timed out).",
        ),
        (
            (Worker("inbox", 1, 1, is_rolled_out=False, is_stuck=True, trouble="it has timed out"),),
            "WorkersStalled",
            "stalled",
            "Its own workers are not up to date: inbox has 1 of 1 (it has timed out).",
        ),
    ],
)
def test_how_the_workers_are_getting_on_is_told_in_words(standing, reason, pending, words) -> None:
    desired = Desired(uid=UID, slug="acme", generation=1, isolation="dedicated")
    verdict = plan(desired, Observed(DEDICATED, workers=Workers(True, standing=standing)), Known()).verdict
    assert (verdict.phase, verdict.reason, verdict.pending) == ("ready", reason, pending)
    assert verdict.message == f"The workspace is active. {words}"


def test_where_no_workers_are_offered_the_tenant_works_and_it_is_said() -> None:
    verdict = plan(Desired(uid=UID, slug="acme", generation=1), Observed(DEDICATED), Known()).verdict
    assert (verdict.phase, verdict.reason, verdict.pending) == ("ready", "Active", None)
    assert "runs no workers for single tenants: shared workers stand in" in verdict.message


def test_isolation_that_was_changed_elsewhere_is_drift() -> None:
    desired = Desired(uid=UID, slug="acme", generation=1, isolation="shared")
    action = plan(desired, Observed(DEDICATED), Known(applied_generation=1)).action
    assert (action.because, action.isolation) == ("drift", "shared")
    assert action.differences == ("isolation is dedicated instead of shared",)
    reported = plan(replace(desired, reverts_drift=False), Observed(DEDICATED), Known(applied_generation=1))
    assert (reported.action, reported.verdict.reason) == (None, "Drifted")


def test_an_erasure_tells_what_is_still_to_do_and_what_stands_in_its_way() -> None:
    gone = replace(BASE, is_deleting=True, deletion="Delete")
    record = Record(UID, "Acme", is_suspended=False, is_being_erased=True)
    erasure = Erasure(("messaging", "check"), "messaging: it is away")
    verdict = plan(gone, Observed(record, erasure=erasure), Known()).verdict
    assert (verdict.phase, verdict.reason) == ("working", "Erasing")
    assert "Still to do: messaging, check." in verdict.message
    assert verdict.message.endswith("messaging: it is away")


@given(desires, observations, memories)
def test_an_abandoned_object_is_released_at_once(desired, observed, known) -> None:
    desired = replace(desired, is_deleting=True, is_abandoned=True)
    now = plan(desired, observed, known)
    assert (now.action, now.needs_finalizer) == (None, False)


@given(desires)
def test_only_what_deletion_must_do_needs_a_finalizer(desired) -> None:
    desired = replace(desired, is_deleting=False, deletion="Retain")
    assert not plan(desired, Observed(), Known()).needs_finalizer


BASE = Desired(uid=UID, slug="acme", generation=2, display_name="Acme Shoes", suspended=False)
ACME = Observed(Record(UID, "Acme", is_suspended=True))
WORDS = ('displayName is "Acme" instead of "Acme Shoes"', "the workspace is suspended instead of active")


def test_a_change_of_the_spec_is_told_from_drift() -> None:
    assert plan(BASE, ACME, Known(applied_generation=1)).action.because == "change"
    drift = plan(BASE, ACME, Known(applied_generation=2)).action
    assert (drift.because, drift.differences) == ("drift", WORDS)


def test_reported_drift_is_said_in_words_and_left() -> None:
    now = plan(replace(BASE, reverts_drift=False), ACME, Known(applied_generation=2))
    assert now.action is None
    assert (now.verdict.phase, now.verdict.reason, now.verdict.differences) == ("ready", "Drifted", WORDS)


def test_an_adoption_is_previewed_and_happens_by_consent() -> None:
    theirs = Observed(Record(OTHER, "Acme", is_suspended=False))
    preview = plan(BASE, theirs, Known())
    assert (preview.verdict.phase, preview.verdict.reason, preview.is_bound) == ("stalled", "AdoptionPreview", False)
    assert WORDS[0] in preview.verdict.message
    assert plan(replace(BASE, may_adopt=True), theirs, Known()).action.tenant_id == OTHER


@pytest.mark.parametrize("policies", [{"*"}, {"Observe", "Create"}, {"Observe", "Update"}])
def test_a_tenant_that_is_as_described_is_not_adopted_without_consent(policies) -> None:
    policies = model.EVERYTHING if "*" in policies else frozenset(policies)
    desired = replace(BASE, display_name=None, owner_email="zoe@example.com", policies=policies)
    theirs = Observed(Record(OTHER, "Acme", is_suspended=False), FirstAdmin("yan@example.com", has_joined=True))
    now = plan(desired, theirs, Known())
    assert (now.action, now.is_bound, now.verdict.reason) == (None, False, "AdoptionPreview")
    assert "Its admin is yan@example.com. Adopting it changes nothing of it now." in now.verdict.message
    now = plan(replace(desired, may_adopt=True), theirs, Known())
    assert (now.action, now.is_bound, now.verdict.phase) == (None, True, "ready")


def test_a_tenant_that_was_only_shown_is_not_the_objects_own() -> None:
    theirs = Observed(Record(OTHER, "Acme Shoes", is_suspended=False))
    shown = plan(replace(BASE, policies=frozenset({"Observe"})), theirs, Known())
    assert (shown.verdict.phase, shown.is_bound) == ("ready", False)
    assert plan(BASE, theirs, Known(OTHER)).verdict.reason == "AdoptionPreview"
    assert plan(BASE, theirs, Known(OTHER, is_bound=True)).verdict.phase == "ready"


@pytest.mark.parametrize(
    ("admin", "has_secret", "kind"),
    [
        (None, False, Invite),
        (FirstAdmin("zoe@example.com", has_joined=False), True, None),
        (FirstAdmin("zoe@example.com", has_joined=False), False, Invite),
        (FirstAdmin("zoe@example.com", has_joined=False, has_expired=True), True, Invite),
        (FirstAdmin("yan@example.com", has_joined=False), True, Invite),
        (FirstAdmin("yan@example.com", has_joined=True), True, Forget),
        (FirstAdmin("yan@example.com", has_joined=True), False, None),
    ],
)
def test_the_first_admin_is_invited_until_joined(admin, has_secret, kind) -> None:
    desired = replace(BASE, owner_email="Zoe@Example.com", display_name=None)
    observed = Observed(Record(UID, "Acme", is_suspended=False), admin, has_secret)
    action = plan(desired, observed, Known()).action
    assert type(action) is (kind or type(None))
