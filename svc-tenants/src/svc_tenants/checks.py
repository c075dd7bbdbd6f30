"""The steps of connecting a number, each asked of Meta: token, scopes, WABA, number, subscription.

What the caller says is not believed: the number must stand in the list of the WABA, and the WABA in the reach of the
token.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import structlog

from svc_tenants import facts
from svc_tenants.errors import MetaRefused, MetaUnreachable
from svc_tenants.facts import Facts
from svc_tenants.graph import GraphClient, Refused, Unreachable

log = structlog.get_logger()

_SCOPES = ("whatsapp_business_management", "whatsapp_business_messaging")
# Numbers in these states neither send nor receive through us until their owner acts.
_IDLE = frozenset({"PENDING", "UNVERIFIED", "DISCONNECTED", "OFFLINE", "RESTRICTED", "BANNED", "MIGRATED", "DELETED"})
# So long before a token ends somebody should have made another: a working week and the weekend before it.
_WARNING = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody wants to connect."""

    waba_id: str
    phone_number_id: str
    access_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Check:
    """One step and what was found."""

    step: str
    state: Literal["passed", "warning", "failed"]
    detail: str

    def as_json(self) -> dict[str, str]:
        return {"step": self.step, "state": self.state, "detail": self.detail}


@dataclass(frozen=True, slots=True)
class Verified:
    """A number that the token may use, as Meta describes it."""

    facts: Facts
    token_expires_at: datetime | None
    checks: tuple[Check, ...]


async def verify(graph: GraphClient, wanted: Wanted) -> Verified:
    """Ask Meta about token, scopes, WABA and number, in this order; changes nothing there.

    Raises MetaRefused at the first step that fails, and MetaUnreachable.
    """
    # What is refused here is the inspection: an invalid token is an answer like another where the app asks.
    whose = "the app id and app secret of this installation" if graph.inspects_as_app else "the access token"
    with _step("token", f"Meta does not accept {whose}"):
        inspected = await graph.inspect_token(wanted.access_token)
    token = check_token(graph, inspected)
    scopes = check_scopes(inspected, wanted.waba_id)
    waba = await _check_waba(graph, wanted)
    found = await _find_number(graph, wanted)
    return Verified(found, facts.token_end(inspected), (token, scopes, waba, check_number(found)))


async def subscribe(graph: GraphClient, wanted: Wanted) -> Check:
    """Have the WABA's webhooks sent to our app. Raises MetaRefused and MetaUnreachable."""
    with _step("subscription", f"Meta does not subscribe our app to the WhatsApp Business Account {wanted.waba_id}"):
        await graph.subscribe(wanted.waba_id, token=wanted.access_token)
    return subscribed()


def subscribed() -> Check:
    return Check("subscription", "passed", "Meta sends this account's messages here.")


def check_token(graph: GraphClient, inspected: dict[str, Any]) -> Check:
    """Whether the token is valid, ours, and stays so for a while. Raises MetaRefused."""
    if inspected.get("is_valid") is not True:
        raw = inspected.get("error")
        error = raw if isinstance(raw, dict) else {}
        words = facts.text(error.get("message")) or "The token is not valid."
        code = error.get("code")
        raise MetaRefused(
            "token",
            f"Meta does not accept the access token: {words}",
            meta_code=code if isinstance(code, int) else None,
            meta_message=words,
        )
    if graph.app_id and str(inspected.get("app_id")) != graph.app_id:
        raise MetaRefused("token", f"The access token is not one of this installation's Meta app, {graph.app_id}.")
    end = facts.token_end(inspected)
    if end is None:
        return Check("token", "passed", "Valid; does not expire.")
    # The moment and not the days until then: what does not change is not told anew each day.
    moment = f"{end:%Y-%m-%d %H:%M} UTC"
    if end - datetime.now(UTC) < _WARNING:
        return Check("token", "warning", f"Valid only until {moment}; connect the number with a new token before.")
    return Check("token", "passed", f"Valid until {moment}.")


def check_scopes(inspected: dict[str, Any], waba_id: str) -> Check:
    """Whether the token may do what we do, to this WABA. Raises MetaRefused."""
    granted = facts.items(inspected.get("scopes"))
    if missing := [scope for scope in _SCOPES if scope not in granted]:
        raise MetaRefused("scopes", f"The access token lacks the permission {' and '.join(missing)}.")
    for granular in facts.items(inspected.get("granular_scopes")):
        if not isinstance(granular, dict) or granular.get("scope") not in _SCOPES:
            continue
        # Without targets a scope reaches everything that its owner granted.
        targets = [str(target) for target in facts.items(granular.get("target_ids"))]
        if targets and waba_id not in targets:
            raise MetaRefused(
                "scopes",
                f"The access token's permission {granular['scope']} does not reach the WhatsApp Business Account"
                f" {waba_id}.",
            )
    return Check("scopes", "passed", ", ".join(_SCOPES))


def check_number(found: Facts) -> Check:
    """Whether the number can send and receive, by its status at Meta."""
    status = found.number_status
    if status in _IDLE:
        return Check(
            "number", "failed", f"Meta reports the number as {status}; it cannot send or receive until it is not."
        )
    if status == "FLAGGED":
        text = "Meta reports the number as FLAGGED: its quality is low, and Meta may restrict it."
        return Check("number", "warning", text)
    return Check("number", "passed", found.display_phone_number)


def missing_number(waba_id: str, phone_number_id: str) -> str:
    return f"The WhatsApp Business Account {waba_id} has no phone number with the id {phone_number_id}."


async def _check_waba(graph: GraphClient, wanted: Wanted) -> Check:
    with _step("waba", f"Meta does not show the WhatsApp Business Account {wanted.waba_id} to this token"):
        waba = await graph.waba(wanted.waba_id, token=wanted.access_token)
    return Check("waba", "passed", facts.text(waba.get("name")) or wanted.waba_id)


async def _find_number(graph: GraphClient, wanted: Wanted) -> Facts:
    with _step("number", f"Meta does not list the phone numbers of the WhatsApp Business Account {wanted.waba_id}"):
        found = await graph.numbers(wanted.waba_id, {wanted.phone_number_id}, token=wanted.access_token)
    if wanted.phone_number_id not in found:
        raise MetaRefused("number", missing_number(wanted.waba_id, wanted.phone_number_id))
    return found[wanted.phone_number_id]


@contextmanager
def _step(step: str, failure: str) -> Iterator[None]:
    """Give Meta's refusal of a step its meaning."""
    try:
        yield
    except Refused as refused:
        message = f"{failure}: {refused.words}"
        raise MetaRefused(step, message, meta_code=refused.code, meta_message=refused.words) from refused
    except Unreachable as away:
        log.warning("meta_unreachable", step=step, detail=str(away))
        raise MetaUnreachable(step, str(away)) from away
