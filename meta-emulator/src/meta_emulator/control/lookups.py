"""Find what a control call names, or say which field names nothing."""

from aiohttp import web

from meta_emulator import customers, phones
from meta_emulator.control.bodies import Sender
from meta_emulator.control.errors import Refused, not_found
from meta_emulator.emulator import Emulator
from meta_emulator.model import Customer, Number


def number(em: Emulator, number_id: str, field: str = "phoneNumberId") -> Number:
    found = em.world.numbers.get(number_id)
    if found is None:
        raise not_found(field, number_id)
    return found


def number_in_query(em: Emulator, request: web.Request) -> Number | None:
    number_id = request.query.get("phoneNumberId")
    return number(em, number_id) if number_id else None


def customer(em: Emulator, customer_id: str, field: str = "customerId") -> Customer:
    found = em.world.customers.get(customer_id)
    if found is None:
        raise not_found(field, customer_id)
    return found


def digits(value: str, field: str) -> str:
    found = phones.parse(value)
    if found is None:
        text = f"{field}: {value!r} is no phone number; give country code and number, 7 to 15 digits."
        raise Refused(field, "phone_number", text)
    return found


def sender(em: Emulator, business: Number, given: Sender) -> Customer:
    """The customer a message comes from; one not seen before is created. What is given replaces what was known."""
    if given.customer_id is not None:
        return customer(em, given.customer_id, "from.customerId")
    if given.wa_id is None and given.user_id is None:
        raise Refused("from", "required", "from needs waId or userId (or customerId).")
    own = digits(given.wa_id, "from.waId") if given.wa_id is not None else ""
    try:
        found = customers.find_by_digits(em, own) if own else None
        if found is None and given.user_id is not None:
            known = customers.find_by_user_id(em, business.waba_id, given.user_id)
            found = known if known is None or not own else None
        if found is None:
            found = customers.create(em, name=given.name, digits=own)
        if given.user_id is not None:
            customers.claim_user_id(em, found, business.waba_id, given.user_id)
    except customers.IdentityTaken as taken:
        raise Refused(f"from.{taken.field}", "unique", f"from.{taken}.", status=409) from taken
    if given.name:
        found.name = given.name
    if given.username is not None:
        found.username = given.username.removeprefix("@")
    found.shares_phone = bool(own)
    return found
