"""Looking at connected numbers again: the steps of connecting, asked of Meta once more. A step that fails is found and
not raised, and what can still be asked is asked.

Three calls for a token and a WABA, however many numbers of it are connected with the token: debug_token, which counts
for the app, phone_numbers and subscribed_apps, which count for the WABA.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from svc_tenants import facts
from svc_tenants.checks import Check, check_number, check_scopes, check_token, missing_number, subscribed
from svc_tenants.errors import MetaRefused
from svc_tenants.facts import Facts
from svc_tenants.graph import GraphClient, Refused

_STEPS = ("token", "scopes", "waba", "number", "subscription")


class AppRefused(Exception):
    """Meta refuses this installation's app: that says nothing of any token."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found of one number."""

    checks: tuple[Check, ...]
    """Of the steps that could be asked."""
    facts: Facts | None = None
    """None where the number could not be asked for."""
    is_token_known: bool = False
    token_expires_at: datetime | None = None


@dataclass(slots=True)
class Look:
    """What was found of some numbers of a WABA by one token."""

    shared: list[Check] = field(default_factory=list)
    numbers: Mapping[str, Facts] | None = None
    """None where they could not be listed."""
    is_unsubscribed: bool = False
    """Whether Meta sends the WABA's webhooks to others than our app, or to nobody."""
    is_token_known: bool = False
    token_expires_at: datetime | None = None

    def of(self, waba_id: str, phone_number_id: str) -> Found:
        number, own = None, self.shared
        if self.numbers is not None:
            number = self.numbers.get(phone_number_id)
            missing = Check("number", "failed", missing_number(waba_id, phone_number_id))
            own = [*self.shared, check_number(number) if number else missing]
        return Found(tuple(own), number, self.is_token_known, self.token_expires_at)


async def look(graph: GraphClient, waba_id: str, token: str, phone_number_ids: Collection[str]) -> Look:
    """Ask Meta about a token, a WABA and its numbers; changes nothing there. Raises Unreachable and AppRefused."""
    found = Look()
    try:
        inspected = await graph.inspect_token(token)
    except Refused as refused:
        if graph.inspects_as_app:
            raise AppRefused(refused.words) from refused
        found.shared.append(Check("token", "failed", f"Meta does not accept the access token: {refused.words}"))
        return found
    try:
        found.shared.append(check_token(graph, inspected))
        found.is_token_known, found.token_expires_at = True, facts.token_end(inspected)
        found.shared.append(check_scopes(inspected, waba_id))
    except MetaRefused as refused:
        found.shared.append(Check(refused.metadata["step"], "failed", refused.message))
        return found
    try:
        found.numbers = await graph.numbers(waba_id, phone_number_ids, token=token)
        found.shared.append(Check("waba", "passed", waba_id))
    except Refused as refused:
        text = f"Meta does not list the phone numbers of the WhatsApp Business Account {waba_id}: {refused.words}"
        found.shared.append(Check("waba", "failed", text))
        return found
    try:
        apps = await graph.subscribed_apps(waba_id, token=token)
    except Refused as refused:
        text = f"Meta does not tell who is subscribed to the WhatsApp Business Account {waba_id}: {refused.words}"
        found.shared.append(Check("subscription", "failed", text))
        return found
    found.is_unsubscribed = str(inspected.get("app_id")) not in apps
    if not found.is_unsubscribed:
        found.shared.append(subscribed())
    return found


def merged(before: Collection[Mapping[str, str]], now: Collection[Check]) -> list[dict[str, str]]:
    """The checks as they stand now, in the order of the steps: those that could not be asked stay as they were, and so
    does what connecting has found in more words.
    """
    known = {check["step"]: dict(check) for check in before}
    for check in now:
        old = known.get(check.step)
        is_as_before = old is not None and old["state"] == check.state == "passed"
        if not (is_as_before and check.step in ("waba", "subscription")):
            known[check.step] = check.as_json()
    return [known[step] for step in _STEPS if step in known]
