"""WhatsApp message ids as Meta builds them: `wamid.` + base64 of a small binary record.

Layout (whatsapp-cloud-api.md 9.1): 1C 18 <len> <user's digits> 15 02 00 <11|12> 18 <len> <id> 00, where 11 is
business to user and 12 user to business. Consumers must treat the result as opaque.
"""

import base64
from random import Random


def outbound(user_digits: str, rng: Random) -> str:
    """A new id for a message from the business: 18 upper-case hex digits inside."""
    return encode(user_digits, f"{rng.getrandbits(72):018X}", is_outbound=True)


def inbound(user_digits: str, rng: Random) -> str:
    """A new id for a message from the user: 20 characters starting 3A, as phones of one family make them."""
    return encode(user_digits, f"3A{rng.getrandbits(72):018X}", is_outbound=False)


def encode(user_digits: str, message_id: str, *, is_outbound: bool) -> str:
    user, own = user_digits.encode("ascii"), message_id.encode("ascii")
    direction = b"\x11" if is_outbound else b"\x12"
    record = b"".join(
        [
            b"\x1c\x18",
            bytes([len(user)]),
            user,
            b"\x15\x02\x00",
            direction,
            b"\x18",
            bytes([len(own)]),
            own,
            b"\x00",
        ]
    )
    return "wamid." + base64.b64encode(record).decode("ascii")
