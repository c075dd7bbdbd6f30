"""The plan for a WhatsAppAccount, tried with every state that can be thought of."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from aerostic_operator.whatsapp_accounts.plan import Connect, Desired, Disconnect, Known, Number, Observed, plan

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
    is_suspended=st.booleans(),
    secret_version=st.sampled_from(["", "1", "2"]),
    number=st.none() | numbers,
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
