"""What Meta says of a connected number, as an object shows it: status fields, conditions, and events for what changes.

No moment stands here that moves by itself: an object is written when something has changed and not each time that Meta
was asked.
"""

from collections.abc import Iterator

from aerostic_operator import objects
from aerostic_operator.conditions import Condition
from aerostic_operator.events import Note
from aerostic_operator.objects import Body, Json
from aerostic_operator.whatsapp_accounts.plan import Known, Number, connected

_RANKS = {"RED": 0, "YELLOW": 1, "GREEN": 2}
# Said of numbers that are connected: what a survey finds may be compared with it.
_LIVE = {"Connected", "CheckFailed"}


def fields(number: Number | None) -> Json:
    """Of the status; None where there is nothing to show."""
    shown = number or Number("", "", 0)
    return {
        "displayPhoneNumber": shown.display_phone_number or None,
        "verifiedName": shown.verified_name or None,
        "state": shown.state or None,
        "numberStatus": shown.number_status or None,
        "nameStatus": shown.name_status or None,
        "qualityRating": shown.quality_rating or None,
        "messagingLimit": shown.messaging_limit or None,
        "messagesPerSecond": shown.messages_per_second or None,
        "tokenExpireTime": shown.token_expire_time or None,
    }


def conditions(number: Number | None) -> tuple[Condition, ...]:
    """CredentialsValid and QualityDegraded. Neither is one that kstatus reads: Ready tells whether the number works."""
    if number is None:
        return (
            Condition("CredentialsValid", "Unknown", "NotConnected", ""),
            Condition("QualityDegraded", "Unknown", "NotConnected", ""),
        )
    return (_credentials(number), _quality(number))


def changes(body: Body, number: Number | None) -> Iterator[Note]:
    """What has changed since the object told it last."""
    if number is None:
        return
    status = objects.status_of(body)
    before, now = status.get("qualityRating", ""), number.quality_rating
    if before in _RANKS and now in _RANKS and before != now:
        fell = _RANKS[now] < _RANKS[before]
        text = f"Meta rates the number's quality {now}; it was {before}."
        yield Note("QualityDropped" if fell else "QualityRose", text, is_warning=fell)
    limit = status.get("messagingLimit")
    if limit and number.messaging_limit and limit != number.messaging_limit:
        yield Note("MessagingLimitChanged", f"Meta's messaging limit is {number.messaging_limit}; it was {limit}.")
    credentials = _credentials(number)
    told = objects.condition(body, "CredentialsValid")
    if credentials.reason == "ExpiresSoon" and (told.get("reason"), told.get("message")) != (
        credentials.reason,
        credentials.message,
    ):
        yield Note("TokenExpiresSoon", credentials.message, is_warning=True)


def is_stale(body: Body, number: Number | None) -> bool:
    """Whether an object does not show its number as it is; of one that has connected none nothing is known here."""
    known = Known.of(body)
    if not known.account_id or objects.is_being_deleted(body):
        return False
    ready = objects.condition(body, "Ready")
    is_live = ready.get("reason") in _LIVE
    if number is None or not known.owns(number):
        return is_live
    if is_live:
        verdict = connected(number)
        if number.token_version != known.token_version:
            return True
        if (ready["reason"], ready["message"]) != (verdict.reason, verdict.message):
            return True
    status = objects.status_of(body)
    if any(status.get(name) != value for name, value in fields(number).items()):
        return True
    told = {each["type"]: (each["status"], each["reason"], each["message"]) for each in status.get("conditions") or ()}
    return any(told.get(each.type) != (each.status, each.reason, each.message) for each in conditions(number))


def waits_for_token(body: Body) -> bool:
    """Whether a new token would mend the number, so that its Secret is looked at often."""
    return objects.condition(body, "CredentialsValid").get("status") == "False"


def _credentials(number: Number) -> Condition:
    if number.token_failures:
        return Condition("CredentialsValid", "False", "Refused", "; ".join(number.token_failures))
    if number.token_warnings:
        return Condition("CredentialsValid", "True", "ExpiresSoon", "; ".join(number.token_warnings))
    return Condition("CredentialsValid", "True", "Valid", "")


def _quality(number: Number) -> Condition:
    rating = number.quality_rating
    if rating not in _RANKS:
        return Condition("QualityDegraded", "Unknown", "NotRated", "")
    if rating == "GREEN":
        return Condition("QualityDegraded", "False", "Green", "")
    return Condition("QualityDegraded", "True", rating.capitalize(), f"Meta rates the number's quality {rating}.")
