"""Injected failures: taken one by one by the calls they are meant for, and recipients that always fail."""

from collections.abc import Callable

from meta_emulator.emulator import Emulator
from meta_emulator.graph.errors import CATALOGUE, GraphError
from meta_emulator.model import Customer, Fault, Number

# +1 555 0cc cccc: the last six digits are the error code, so that every code can be tried from any client.
_MAGIC_PREFIX = "15550"
_MAGIC_LENGTH = 11


def take(em: Emulator, kind: str, number: Number | None = None) -> Fault | None:
    """The first armed fault of a kind for this number (or for all); counts it down."""
    return _take(em, lambda fault: fault.kind == kind and fault.number_id in {"", number.id if number else ""})


def raise_if_sends_fail(em: Emulator, number: Number) -> None:
    fault = take(em, "send_error", number)
    if fault is not None:
        raise GraphError(fault.code, details=fault.details or None, http_status=fault.http_status or None)


def for_recipient(em: Emulator, number: Number, customer: Customer) -> tuple[int, str | None, bool] | None:
    """Code, details and whether it comes asynchronously, for a recipient bound to fail."""
    fault = _take(
        em,
        lambda fault: (
            fault.kind == "recipient"
            and fault.recipient in {customer.digits, *customer.user_ids.values()}
            and fault.number_id in {"", number.id}
        ),
    )
    if fault is not None:
        is_async = CATALOGUE[fault.code].is_async if fault.asynchronous is None else fault.asynchronous
        return fault.code, fault.details or None, is_async
    code = magic_code(customer.digits)
    return None if code is None else (code, None, CATALOGUE[code].is_async)


def magic_code(digits: str) -> int | None:
    if len(digits) != _MAGIC_LENGTH or not digits.startswith(_MAGIC_PREFIX):
        return None
    code = int(digits.removeprefix(_MAGIC_PREFIX))
    return code if code in CATALOGUE and code != 0 else None


def _take(em: Emulator, suits: Callable[[Fault], bool]) -> Fault | None:
    fault = next((fault for fault in em.world.faults if suits(fault)), None)
    if fault is not None and fault.times is not None:
        fault.times -= 1
        if fault.times == 0:
            em.world.faults.remove(fault)
    return fault
