"""What Meta's answer to a send means: accepted, failed, wait and try again, or unknown."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from svc_messaging import abandoned
from svc_messaging.meta_errors import Action, MetaError, describe
from svc_messaging.sender.graph import Answer

ATTEMPTS_MAX = 8
"""Tries of a message that Meta refuses for a passing reason, some 10 minutes in all."""


class Pause(StrEnum):
    """What waits beside the message itself."""

    NOTHING = "nothing"
    CONTACT = "contact"
    NUMBER = "number"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a message failed, waits or is unknown; stored with the message and shown to people."""

    reason: str
    meta_code: int
    detail: str
    advice: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one try."""

    status: str
    """"accepted", "failed", "unknown", or "queued" where it is tried again after `delay`."""
    wamid: str = ""
    wa_id: str = ""
    """The recipient's WhatsApp id as Meta corrected it; empty for recipients without number."""
    failure: Failure | None = None
    delay: timedelta = timedelta(0)
    pause: Pause = Pause.NOTHING
    token_refused: bool = False
    """The token is no longer good: nothing of this number is sent until it is replaced."""


def of_answer(answer: Answer, *, attempts: int, jitter: float) -> Outcome:
    """`attempts` counts this try; `jitter` is a random number from 0 to 1."""
    messages = answer.body.get("messages")
    if answer.status == 200 and isinstance(messages, list) and messages and messages[0].get("id"):
        contacts = answer.body.get("contacts") or [{}]
        return Outcome("accepted", wamid=messages[0]["id"], wa_id=contacts[0].get("wa_id") or "")
    if answer.error is None:
        return _without_words(answer)
    return _refused(describe(answer.error), answer, attempts=attempts, jitter=jitter)


def of_lost_answer(detail: str) -> Outcome:
    """The request may have reached Meta. It is settled by the status that carries our id, never repeated."""
    return Outcome("unknown", failure=unknown(detail))


def of_no_connection(detail: str, *, attempts: int, jitter: float) -> Outcome:
    """Nothing was sent: the number waits and the message is tried again for as long as it takes."""
    failure = Failure("META_UNREACHABLE", 0, f"No connection to Meta ({detail}).", "It is sent when Meta is reachable.")
    return Outcome("queued", failure=failure, delay=_back_off(attempts, jitter), pause=Pause.NUMBER)


def of_void_claim() -> Outcome:
    """Nothing was sent: the message's turn came so long after its claim that somebody else may count it as lost, or its
    token is no longer good. It is claimed anew.
    """
    return Outcome("queued")


def not_connected() -> Outcome:
    """The workspace has disconnected the number since the message was queued."""
    failure = Failure("NUMBER_NOT_CONNECTED", 0, "The number is no longer connected.", "Connect it and send again.")
    return Outcome("failed", failure=failure)


def unknown(detail: str) -> Failure:
    """The reason of an outcome that nobody can know yet."""
    return Failure(abandoned.REASON, 0, abandoned.detail(detail), abandoned.ADVICE)


def as_json(failure: Failure) -> dict[str, str | int]:
    """A failure as the messages table keeps it."""
    return {
        "reason": failure.reason,
        "metaCode": failure.meta_code,
        "detail": failure.detail,
        "advice": failure.advice,
    }


def _without_words(answer: Answer) -> Outcome:
    """No message id and no error object: from a proxy on the way, or a crash at Meta after the work was done."""
    if 400 <= answer.status < 500:
        failure = Failure("META_REFUSED", 0, f"HTTP {answer.status} without explanation.", "Try again later.")
        return Outcome("failed", failure=failure)
    return of_lost_answer(f"HTTP {answer.status}")


def _refused(error: MetaError, answer: Answer, *, attempts: int, jitter: float) -> Outcome:
    failure = Failure(error.reason, error.code, error.detail, error.advice)
    match error.action:
        case Action.WAIT_NUMBER:
            delay = max(_back_off(attempts, jitter), timedelta(seconds=answer.retry_after_seconds or 0))
            return Outcome("queued", failure=failure, delay=delay, pause=Pause.NUMBER)
        case Action.WAIT_CONTACT:
            # Meta's advice for the pair limit: 4^X seconds, X counting from 0.
            delay = timedelta(seconds=4 ** min(attempts - 1, 5))
            return _or_failed(Outcome("queued", failure=failure, delay=delay, pause=Pause.CONTACT), attempts)
        case Action.RETRY:
            return _or_failed(Outcome("queued", failure=failure, delay=_back_off(attempts, jitter)), attempts)
        case Action.RECONNECT:
            # Nothing of the number goes with this token; with another one it goes at once.
            return Outcome("queued", failure=failure, delay=timedelta(seconds=1), token_refused=True)
        case Action.FAIL:
            return Outcome("failed", failure=failure)


def _or_failed(retry: Outcome, attempts: int) -> Outcome:
    return retry if attempts < ATTEMPTS_MAX else Outcome("failed", failure=retry.failure)


def _back_off(attempts: int, jitter: float) -> timedelta:
    """1, 2, 4 … 60 seconds, each cut by up to a half so that numbers do not return in step."""
    return timedelta(seconds=min(60, 2 ** min(attempts - 1, 6)) * (1 - jitter / 2))
