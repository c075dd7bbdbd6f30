"""Identifiers shaped like Meta's: decimal object ids, access tokens, trace ids, business-scoped user ids."""

import string
from collections.abc import Container
from random import Random

_TOKEN_ALPHABET = string.ascii_letters + string.digits
_TRACE_ALPHABET = _TOKEN_ALPHABET + "-_"


def object_id(rng: Random, taken: Container[str]) -> str:
    """A 15 digit id not yet in `taken` (numbers, WABAs, templates, media share one id space at Meta)."""
    while True:
        candidate = str(rng.randrange(10**14, 10**15))
        if candidate not in taken:
            return candidate


def access_token(rng: Random) -> str:
    return "EAA" + "".join(rng.choices(_TOKEN_ALPHABET, k=184))


def trace_id(rng: Random) -> str:
    return "A" + "".join(rng.choices(_TRACE_ALPHABET, k=22))


def user_id(country: str, rng: Random) -> str:
    """A BSUID: country, a dot, twenty digits."""
    return f"{country}.{rng.randrange(10**19, 10**20)}"


def short_id(rng: Random) -> str:
    """For objects only the control API knows: customers, faults, deliveries."""
    return f"{rng.getrandbits(64):016x}"
