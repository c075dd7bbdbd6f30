"""People with a phone: found by number or BSUID, created when first heard of."""

from meta_emulator import ids, phones
from meta_emulator.emulator import Emulator
from meta_emulator.model import Customer


class IdentityTaken(Exception):
    """The phone number or BSUID already belongs to another customer. `field` says which."""

    def __init__(self, field: str, customer: Customer) -> None:
        self.field = field
        super().__init__(f"{field} already belongs to customer {customer.id} ({customer.name})")


def find_by_digits(em: Emulator, digits: str) -> Customer | None:
    """Also finds the user under the other form of the number where a country has two."""
    for form in (digits, *phones.same_user(digits)):
        if found := em.index.customers.get(form):
            return em.world.customers[found]
    return None


def find_by_user_id(em: Emulator, waba_id: str, user_id: str) -> Customer | None:
    found = em.index.user_ids.get((waba_id, user_id))
    return em.world.customers[found] if found else None


def create(em: Emulator, *, name: str, digits: str, shares_phone: bool = True, username: str = "") -> Customer:
    """`digits` may be empty for a user whose number stays unknown to every business; WhatsApp still has one."""
    if digits and (other := em.index.customers.get(digits)):
        raise IdentityTaken("waId", em.world.customers[other])
    own = digits or _unlisted_digits(em)
    customer = Customer(
        id=ids.short_id(em.random),
        name=name or phones.display(own),
        digits=own,
        shares_phone=shares_phone and bool(digits),
        username=username,
        created_at=em.now(),
    )
    em.world.customers[customer.id] = customer
    em.index.customers[own] = customer.id
    em.feed.publish({"type": "customer", "customerId": customer.id})
    return customer


def user_id_for(em: Emulator, customer: Customer, waba_id: str) -> str:
    """The BSUID under which this portfolio knows the person; made on first contact."""
    found = customer.user_ids.get(waba_id)
    if found is None:
        found = customer.user_ids[waba_id] = ids.user_id(phones.country(customer.digits), em.random)
        em.index.user_ids[waba_id, found] = customer.id
    return found


def claim_user_id(em: Emulator, customer: Customer, waba_id: str, user_id: str) -> None:
    """Give the person the BSUID a caller chose."""
    owner = find_by_user_id(em, waba_id, user_id)
    if owner is not None and owner is not customer:
        raise IdentityTaken("userId", owner)
    em.index.user_ids.pop((waba_id, customer.user_ids.get(waba_id, "")), None)
    customer.user_ids[waba_id] = user_id
    em.index.user_ids[waba_id, user_id] = customer.id


def _unlisted_digits(em: Emulator) -> str:
    while True:
        digits = f"1999{em.random.randrange(10**7):07d}"
        if digits not in em.index.customers:
            return digits
