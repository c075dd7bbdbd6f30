"""The steps of connecting a number, each asked of Meta: token, scopes, WABA, number, subscription.

What the caller says is not believed: the number must stand in the list of the WABA, and the WABA in the reach of the
token.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from svc_tenants.errors import MetaRefused, MetaUnreachable
from svc_tenants.graph import GraphClient, Refused, Unreachable

log = structlog.get_logger()

_SCOPES = ("whatsapp_business_management", "whatsapp_business_messaging")
_QUALITIES = ("GREEN", "YELLOW", "RED", "NA")
# Numbers in these states neither send nor receive through us until their owner acts.
_IDLE = frozenset({"PENDING", "UNVERIFIED", "DISCONNECTED", "OFFLINE", "RESTRICTED", "BANNED", "MIGRATED", "DELETED"})
_TEXT_MAX = 200


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
    passed: bool
    detail: str

    def as_json(self) -> dict[str, str]:
        return {"step": self.step, "state": "passed" if self.passed else "failed", "detail": self.detail}


@dataclass(frozen=True, slots=True)
class Verified:
    """A number that the token may use, as Meta describes it."""

    display_phone_number: str
    verified_name: str
    quality_rating: str
    messages_per_second: int
    checks: tuple[Check, ...]


async def verify(graph: GraphClient, wanted: Wanted) -> Verified:
    """Ask Meta about token, scopes, WABA and number, in this order; changes nothing there.

    Raises MetaRefused at the first step that fails, and MetaUnreachable.
    """
    inspected = await _inspect(graph, wanted)
    token = Check("token", True, _lifetime(inspected))
    scopes = _check_scopes(inspected, wanted.waba_id)
    waba = await _check_waba(graph, wanted)
    found = await _find_number(graph, wanted)
    return Verified(
        display_phone_number=_text(found.get("display_phone_number")),
        verified_name=_text(found.get("verified_name")),
        quality_rating=_one_of(found.get("quality_rating"), _QUALITIES),
        messages_per_second=_messages_per_second(found),
        checks=(token, scopes, waba, _check_number(found)),
    )


async def subscribe(graph: GraphClient, wanted: Wanted) -> Check:
    """Have the WABA's webhooks sent to our app. Raises MetaRefused and MetaUnreachable."""
    with _step("subscription", f"Meta does not subscribe our app to the WhatsApp Business Account {wanted.waba_id}"):
        await graph.subscribe(wanted.waba_id, token=wanted.access_token)
    return Check("subscription", True, "Meta sends this account's messages here.")


async def _inspect(graph: GraphClient, wanted: Wanted) -> dict[str, Any]:
    # What is refused here is the inspection: an invalid token is an answer like another where the app asks.
    whose = "the app id and app secret of this installation" if graph.inspects_as_app else "the access token"
    with _step("token", f"Meta does not accept {whose}"):
        inspected = await graph.inspect_token(wanted.access_token)
    if inspected.get("is_valid") is not True:
        raw = inspected.get("error")
        error = raw if isinstance(raw, dict) else {}
        words = _text(error.get("message")) or "The token is not valid."
        code = error.get("code")
        raise MetaRefused(
            "token",
            f"Meta does not accept the access token: {words}",
            meta_code=code if isinstance(code, int) else None,
            meta_message=words,
        )
    if graph.app_id and str(inspected.get("app_id")) != graph.app_id:
        raise MetaRefused("token", f"The access token is not one of this installation's Meta app, {graph.app_id}.")
    return inspected


def _check_scopes(inspected: dict[str, Any], waba_id: str) -> Check:
    granted = _list(inspected.get("scopes"))
    if missing := [scope for scope in _SCOPES if scope not in granted]:
        raise MetaRefused("scopes", f"The access token lacks the permission {' and '.join(missing)}.")
    for granular in _list(inspected.get("granular_scopes")):
        if not isinstance(granular, dict) or granular.get("scope") not in _SCOPES:
            continue
        # Without targets a scope reaches everything that its owner granted.
        targets = [str(target) for target in _list(granular.get("target_ids"))]
        if targets and waba_id not in targets:
            raise MetaRefused(
                "scopes",
                f"The access token's permission {granular['scope']} does not reach the WhatsApp Business Account"
                f" {waba_id}.",
            )
    return Check("scopes", True, ", ".join(_SCOPES))


async def _check_waba(graph: GraphClient, wanted: Wanted) -> Check:
    with _step("waba", f"Meta does not show the WhatsApp Business Account {wanted.waba_id} to this token"):
        waba = await graph.waba(wanted.waba_id, token=wanted.access_token)
    return Check("waba", True, _text(waba.get("name")) or wanted.waba_id)


async def _find_number(graph: GraphClient, wanted: Wanted) -> dict[str, Any]:
    with _step("number", f"Meta does not list the phone numbers of the WhatsApp Business Account {wanted.waba_id}"):
        async for number in graph.numbers(wanted.waba_id, token=wanted.access_token):
            if number.get("id") == wanted.phone_number_id:
                return number
    raise MetaRefused(
        "number",
        f"The WhatsApp Business Account {wanted.waba_id} has no phone number with the id {wanted.phone_number_id}.",
    )


def _check_number(found: dict[str, Any]) -> Check:
    status = found.get("status")
    if status in _IDLE:
        return Check(
            "number", False, f"Meta reports the number as {status}; it cannot send or receive until it is not."
        )
    return Check("number", True, _text(found.get("display_phone_number")))


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


def _lifetime(inspected: dict[str, Any]) -> str:
    expires = inspected.get("expires_at")
    if not isinstance(expires, int) or expires <= 0:
        return "Valid; does not expire."
    return f"Valid until {datetime.fromtimestamp(expires, UTC):%Y-%m-%d %H:%M} UTC."


def _messages_per_second(found: dict[str, Any]) -> int:
    """Meta's throughput: 20 where the number also lives in the WhatsApp Business app, 1000 when raised, else 80."""
    throughput = found.get("throughput")
    if isinstance(throughput, dict) and throughput.get("level") == "HIGH":
        return 1000
    return 20 if found.get("is_on_biz_app") is True and found.get("platform_type") == "CLOUD_API" else 80


def _one_of(value: object, known: tuple[str, ...]) -> str:
    return value if isinstance(value, str) and value in known else "UNKNOWN"


def _text(value: object) -> str:
    """Text of Meta's for people: bounded, and without the one character that PostgreSQL cannot hold."""
    return value.replace("\0", "")[:_TEXT_MAX] if isinstance(value, str) else ""


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
