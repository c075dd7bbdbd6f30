"""The plan for a WhatsAppAccount, tried with every state that can be thought of."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from aerostic_operator.whatsapp_accounts.plan import Connect, Desired, Disconnect, Known, Number, Observed, plan
from aerostic_operator.whatsapp_accounts.rivals import older, rivals_of

OURS, THEIRS = "our-account", "their-account"

desires = st.builds(
    Desired,
    tenant=st.just("acme"),
    waba_id=st.sampled_from(["10001", "10002"]),
    reverts_drift=st.booleans(),
    disconnects_on_deletion=st.booleans(),
    may_create=st.booleans(),
    may_update=st.booleans(),
    is_deleting=st.booleans(),
    may_adopt=st.booleans(),
    is_abandoned=st.booleans(),
)
numbers = st.builds(
    Number,
    account_id=st.sampled_from([OURS, THEIRS]),
    waba_id=st.just("10001"),
    token_version=st.integers(1, 3),
    failed_checks=st.sampled_from([(), ("token: expired",)]),
)
observations = st.builds(
    Observed,
    has_tenant=st.booleans(),
    is_bound=st.booleans(),
    is_allowed=st.booleans(),
    is_suspended=st.booleans(),
    secret_version=st.sampled_from(["", "1", "2"]),
    number=st.none() | numbers,
    older=st.sampled_from(["", "default/older"]),
    is_shared=st.booleans(),
)
memories = st.just(Known()) | st.builds(
    Known, account_id=st.just(OURS), token_version=st.integers(1, 3), secret_version=st.sampled_from(["1", "2"])
)


def rounds(desired, observed, known):
    """Every plan until there is nothing left to do, and what was known at last."""
    plans = [plan(desired, observed, known)]
    while (action := plans[-1].action) is not None:
        assert len(plans) < 5, "does not settle"
        if isinstance(action, Disconnect):
            observed, known = replace(observed, number=None), Known()
        else:
            old = observed.number or Number(OURS, desired.waba_id, 0)
            number = replace(old, waba_id=desired.waba_id, token_version=old.token_version + 1, failed_checks=())
            observed = replace(observed, number=number)
            known = Known(number.account_id, number.token_version, observed.secret_version)
        plans.append(plan(desired, observed, known))
    return plans, observed, known


@given(desires, observations, memories)
def test_every_state_settles_after_one_action(desired, observed, known) -> None:
    plans, _, _ = rounds(desired, observed, known)
    assert len(plans) <= 2
    assert desired.is_deleting or plans[-1].verdict.phase != "working"


@given(desires, observations, memories)
def test_nothing_is_connected_without_a_tenant_that_works_and_a_token(desired, observed, known) -> None:
    action = plan(desired, observed, known).action
    if isinstance(action, Connect):
        assert observed.has_tenant
        assert observed.is_bound
        assert observed.is_allowed
        assert observed.secret_version
        assert not observed.is_suspended


@given(desires, observations, memories)
def test_observing_changes_nothing(desired, observed, known) -> None:
    desired = replace(desired, may_create=False, may_update=False)
    assert plan(desired, observed, known).action is None


@given(desires, observations)
def test_the_token_of_somebody_else_is_not_replaced_without_consent(desired, observed) -> None:
    desired = replace(desired, may_adopt=False)
    if observed.number is not None:
        assert plan(desired, observed, Known()).action is None


@given(desires, observations, memories)
def test_what_is_connected_by_an_object_that_goes_is_its_own(desired, observed, known) -> None:
    desired = replace(desired, is_deleting=True)
    plans, _, _ = rounds(desired, observed, known)
    assert not plans[-1].needs_finalizer
    for each in plans:
        if each.action is not None:
            assert isinstance(each.action, Disconnect)
            assert known.owns(observed.number)


@given(desires, observations, memories)
def test_an_abandoned_object_is_released_at_once(desired, observed, known) -> None:
    now = plan(replace(desired, is_deleting=True, is_abandoned=True), observed, known)
    assert (now.action, now.needs_finalizer) == (None, False)


def test_an_attempt_whose_end_is_not_known_is_carried_on() -> None:
    desired = Desired("acme", "10001")
    observed = Observed(has_tenant=True, secret_version="1", number=Number(OURS, "10001", 1))
    assert plan(desired, observed, Known(secret_version="1")).action == Connect("create")


def test_an_attempt_whose_end_is_not_known_is_undone_by_deletion() -> None:
    desired = Desired("acme", "10001", disconnects_on_deletion=True, is_deleting=True)
    observed = Observed(has_tenant=True, secret_version="1", number=Number(OURS, "10001", 1))
    assert plan(desired, observed, Known(secret_version="1")).action == Disconnect()
    assert plan(desired, observed, Known()).action is None


def described(name, created, *, number="106", policies=("*",), **meta):
    metadata = {"namespace": "default", "name": name, "uid": name, "creationTimestamp": created, **meta}
    spec = {"tenantRef": {"name": "acme"}, "phoneNumberId": number, "managementPolicies": list(policies)}
    return {"metadata": metadata, "spec": spec}


def test_of_two_objects_for_a_number_the_older_counts() -> None:
    first, second = described("b", "2026-01-01T00:00:00Z"), described("a", "2026-01-01T00:00:01Z")
    both = [first, second]
    assert (older(first, rivals_of(first, both)), older(second, rivals_of(second, both))) == ("", "default/b")
    stalled = plan(Desired("acme", "10001"), Observed(has_tenant=True, older="default/b"), Known())
    assert (stalled.action, stalled.verdict.phase, stalled.verdict.reason) == (None, "stalled", "Conflict")
    assert "default/b" in stalled.verdict.message


def test_objects_that_look_or_go_or_describe_another_number_are_no_rivals() -> None:
    created = "2026-01-01T00:00:00Z"
    others = [
        described("looks", created, policies=["Observe"]),
        described("goes", created, deletionTimestamp=created),
        described("other", created, number="107"),
    ]
    assert rivals_of(described("a", created), others) == []


def test_a_number_that_another_object_describes_is_not_disconnected() -> None:
    desired = Desired("acme", "10001", disconnects_on_deletion=True, is_deleting=True)
    observed = Observed(has_tenant=True, number=Number(OURS, "10001", 1), is_shared=True)
    now = plan(desired, observed, Known(OURS, 1, "1"))
    assert (now.action, now.needs_finalizer) == (None, False)
