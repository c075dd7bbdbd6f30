"""What Meta's error codes mean: what the sender does about each, and what people are told.

Meta: cloud-api/support/error-codes. Logic is built on the code alone: HTTP statuses differ between Meta's own pages,
and subcodes are deprecated.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Action(StrEnum):
    """What a refusal means for the message."""

    FAIL = "fail"
    """It will never go as it is."""
    RETRY = "retry"
    """It may go later; other messages are not concerned."""
    WAIT_NUMBER = "wait_number"
    """It goes later, and so does everything else of the number."""
    WAIT_CONTACT = "wait_contact"
    """It goes later, and so does everything else to the contact."""
    RECONNECT = "reconnect"
    """It goes when somebody has connected the number anew; until then everything of the number waits."""


@dataclass(frozen=True, slots=True)
class MetaError:
    """An error of Meta, understood."""

    code: int
    action: Action
    reason: str
    detail: str
    """Meta's own words."""
    advice: str
    """What to do about it."""


_CODE_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class _Rule:
    action: Action
    reason: str
    advice: str


_RECONNECT = _Rule(Action.RECONNECT, "TOKEN_INVALID", "Reconnect the WhatsApp number: its connection has expired.")
_PERMISSION = _Rule(Action.FAIL, "PERMISSION_MISSING", "Grant the app access to this WhatsApp account at Meta.")
_RATE_LIMITED = _Rule(Action.WAIT_NUMBER, "META_RATE_LIMITED", "It is sent as soon as Meta takes it.")
_META_DOWN = _Rule(Action.RETRY, "META_UNAVAILABLE", "Meta has a temporary problem; it is tried again.")
_CONTENT = _Rule(Action.FAIL, "META_REFUSED", "Correct the message's content and send it again.")
_ACCOUNT = _Rule(Action.FAIL, "ACCOUNT_RESTRICTED", "Meta has restricted the account: see its Account Quality page.")
_REGISTER = _Rule(Action.FAIL, "NUMBER_NOT_REGISTERED", "Finish the number's registration at Meta.")
_TEMPLATE = _Rule(Action.FAIL, "TEMPLATE_UNAVAILABLE", "Choose a template and language that Meta has approved.")
_VARIABLES = _Rule(Action.FAIL, "TEMPLATE_VARIABLES_WRONG", "Correct the template's variables and send it again.")
_FILE = _Rule(Action.FAIL, "MEDIA_REFUSED", "Send the file in a format and size that WhatsApp takes.")
_NOT_NOW = _Rule(Action.FAIL, "MARKETING_HELD_BACK", "Meta skipped this marketing message; wait a day at least.")
_UNKNOWN = _Rule(Action.FAIL, "META_REFUSED", "See Meta's explanation.")

_RULES: dict[int, _Rule] = {
    **dict.fromkeys((0, 102, 104, 190), _RECONNECT),
    **dict.fromkeys((3, 10, *range(200, 300), 131005), _PERMISSION),
    **dict.fromkeys((4, 17, 341, 613, 80007, 130429, 131057), _RATE_LIMITED),
    **dict.fromkeys((1, 2, 131000, 131016, 133004), _META_DOWN),
    131056: _Rule(Action.WAIT_CONTACT, "CONTACT_RATE_LIMITED", "Too many messages to this contact; it is sent slower."),
    **dict.fromkeys((100, 131008, 131009, 131051, 135000), _CONTENT),
    **dict.fromkeys((368, 131031, 131048, 131064), _ACCOUNT),
    **dict.fromkeys((33, 131037, 131045, 133000, 133006, 133010, 133015), _REGISTER),
    **dict.fromkeys((132001, 132015, 132016, 132007, 141002), _TEMPLATE),
    **dict.fromkeys((132000, 132005, 132008, 132012, 132018), _VARIABLES),
    **dict.fromkeys((131014, 131052, 131053), _FILE),
    **dict.fromkeys((130472, 131049), _NOT_NOW),
    130403: _Rule(Action.FAIL, "CONTACT_BLOCKED", "You have blocked this contact; unblock it first."),
    130497: _Rule(Action.FAIL, "COUNTRY_NOT_ALLOWED", "Meta does not let this account write to that country."),
    131021: _Rule(Action.FAIL, "RECIPIENT_IS_SENDER", "A number cannot write to itself."),
    131026: _Rule(Action.FAIL, "RECIPIENT_UNREACHABLE", "The number is not on WhatsApp, or cannot get this message."),
    131030: _Rule(Action.FAIL, "RECIPIENT_NOT_ALLOWED", "Add the recipient to the test number's list at Meta."),
    131042: _Rule(Action.FAIL, "PAYMENT_MISSING", "Add a payment method to the WhatsApp account at Meta."),
    131044: _Rule(Action.FAIL, "PAYMENT_MISSING", "Add a payment method to the WhatsApp account at Meta."),
    131047: _Rule(Action.FAIL, "WINDOW_CLOSED", "The 24-hour window is over: send a template."),
    131050: _Rule(Action.FAIL, "CONTACT_OPTED_OUT", "The contact has stopped your marketing messages."),
    131062: _Rule(Action.FAIL, "PHONE_NUMBER_NEEDED", "This message needs the contact's phone number."),
    131063: _Rule(Action.FAIL, "MARKETING_DISABLED", "The account sends marketing by another API only."),
    137000: _Rule(Action.FAIL, "IDENTITY_CHANGED", "The contact's identity has changed; verify it first."),
}


def describe(error: dict[str, Any]) -> MetaError:
    """Understand the `error` of a Graph answer, or an item of `errors` in a webhook. Never fails on an odd shape."""
    code = _code(error.get("code"))
    # 33: the number does not exist for this token: gone, or the token was given to another account.
    is_gone = code == 100 and error.get("error_subcode") == 33
    rule = _RECONNECT if is_gone else _RULES.get(code, _UNKNOWN)
    return MetaError(code, rule.action, rule.reason, _words(error), rule.advice)


def _code(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return -1
    try:
        code = int(value)
    except ValueError:
        return -1
    # The contract and the database know codes as 32 bits.
    return code if abs(code) <= _CODE_MAX else -1


def _words(error: dict[str, Any]) -> str:
    """Title and details as Meta wrote them, each once."""
    data = error.get("error_data")
    details = data.get("details") if isinstance(data, dict) else data
    parts: list[str] = []
    for part in (error.get("title") or error.get("message"), details or error.get("details")):
        if isinstance(part, str) and part and part not in parts:
            parts.append(part)
    return ": ".join(parts)[:1000] or "Meta gave no explanation."
