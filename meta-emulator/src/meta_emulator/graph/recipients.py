"""Steps 5 to 7 of a send: rate limits, the state of the account, the recipient."""

from meta_emulator import customers
from meta_emulator.emulator import Emulator
from meta_emulator.graph.errors import GraphError
from meta_emulator.graph.requests import Draft
from meta_emulator.model import Customer, Number


def find(em: Emulator, number: Number, draft: Draft) -> Customer | None:
    """Whom the draft is for; None: a phone number not seen before."""
    if draft.to_digits:
        return customers.find_by_digits(em, draft.to_digits)
    found = customers.find_by_user_id(em, number.waba_id, draft.user_id)
    if found is None:
        # Ids of other portfolios, cut ones and invented ones are all the same from here.
        raise GraphError(131009, details="Parameter recipient is not a business-scoped user ID of this business.")
    return found


def check_rates(em: Emulator, number: Number, recipient_digits: str) -> None:
    """130429 and 131056. Only a message that passes both uses them up."""
    behaviour, now = em.behaviour(number), em.now()
    second = em.limits.number(number.id)
    if not second.admits(now, behaviour.throughput_per_second):
        raise GraphError(130429, http_status=behaviour.rate_limit_http_status)
    if behaviour.pair_limit:
        refill = behaviour.pair_refill_seconds
        pair = em.limits.pair(number.id, recipient_digits, now=now, refill_seconds=refill)
        if not pair.admits(now, behaviour.pair_burst, refill):
            raise GraphError(131056, http_status=behaviour.rate_limit_http_status)
        pair.take(now, refill)
    second.take(now)


def check_account(number: Number) -> None:
    if number.account_error is not None:
        raise GraphError(number.account_error)


def check_recipient(number: Number, digits: str) -> None:
    if digits == number.digits:
        raise GraphError(131021)
    if number.allowed_recipients is not None and digits not in number.allowed_recipients:
        raise GraphError(131030)
