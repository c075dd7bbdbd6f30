"""Business numbers with their WABA, access token and demo templates: what a customer of Meta would have."""

from dataclasses import dataclass

from meta_emulator import demo_templates, ids, phones
from meta_emulator.emulator import Emulator
from meta_emulator.model import MANAGEMENT_SCOPE, MESSAGING_SCOPE, Number, Subscription, Token, Waba


class NumberTaken(Exception):
    """The phone number or id is already in use. `field` says which."""

    def __init__(self, field: str, value: str) -> None:
        self.field = field
        super().__init__(f"{field} {value} is already in use")


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a caller may choose; empty means: pick something."""

    phone_number_id: str = ""
    waba_id: str = ""
    display: str = ""
    verified_name: str = ""
    access_token: str = ""
    throughput: int | None = None
    registered: bool = True
    subscribed: bool = False


def create(em: Emulator, wish: Wish) -> tuple[Number, Token]:
    digits = _digits(em, wish.display)
    if wish.phone_number_id in em.world.numbers:
        raise NumberTaken("phoneNumberId", wish.phone_number_id)
    if wish.access_token in em.world.tokens:
        raise NumberTaken("accessToken", "given")
    name = wish.verified_name or f"Demo Business {len(em.world.numbers) + 1}"
    waba = _waba(em, wish.waba_id, name)
    if wish.subscribed and waba.subscription is None:
        waba.subscription = Subscription()
    number = Number(
        id=wish.phone_number_id or ids.object_id(em.random, em.world.numbers),
        waba_id=waba.id,
        digits=digits,
        display=wish.display if wish.display.strip().startswith("+") else phones.display(digits),
        verified_name=name,
        created_at=em.now(),
        registered=wish.registered,
    )
    if wish.throughput is not None:
        number.behaviour["throughputPerSecond"] = wish.throughput
    em.world.numbers[number.id] = number
    em.feed.publish({"type": "number", "phoneNumberId": number.id})
    return number, issue_token(em, number, wish.access_token)


def issue_token(em: Emulator, number: Number, value: str = "") -> Token:
    """A business token that reaches this number's WABA; older tokens stay as they are."""
    token = Token(
        value=value or ids.access_token(em.random),
        user_id=ids.object_id(em.random, ()),
        waba_ids=[number.waba_id],
        scopes=[MANAGEMENT_SCOPE, MESSAGING_SCOPE],
        issued_at=em.now(),
    )
    em.world.tokens[token.value] = token
    return token


def current_token(em: Emulator, number: Number) -> Token | None:
    """The newest live token of the number's WABA."""
    live = live_tokens(em, number)
    return live[-1] if live else None


def live_tokens(em: Emulator, number: Number) -> list[Token]:
    """Tokens of the number's WABA that were not revoked, oldest first."""
    return [t for t in em.world.tokens.values() if t.revoked_at is None and number.waba_id in t.waba_ids]


def revoke_tokens(em: Emulator, number: Number) -> int:
    """From now on 190 for every token of the number's WABA. Returns how many were live."""
    live = live_tokens(em, number)
    for token in live:
        token.revoked_at = em.now()
    return len(live)


def _digits(em: Emulator, display: str) -> str:
    taken = {number.digits for number in em.world.numbers.values()}
    if not display:
        return next(digits for n in range(200, 10**7) if (digits := f"1555{100_000 + n:07d}") not in taken)
    wanted = phones.parse(display)
    assert wanted is not None, "the caller checked the number"
    if wanted in taken:
        raise NumberTaken("displayPhoneNumber", display)
    return wanted


def _waba(em: Emulator, waba_id: str, name: str) -> Waba:
    if waba_id in em.world.wabas:
        return em.world.wabas[waba_id]
    waba = Waba(
        id=waba_id or ids.object_id(em.random, em.world.wabas),
        name=name,
        business_id=ids.object_id(em.random, ()),
        namespace=f"{em.random.getrandbits(128):032x}",
    )
    em.world.wabas[waba.id] = waba
    demo_templates.seed(em, waba.id)
    return waba
