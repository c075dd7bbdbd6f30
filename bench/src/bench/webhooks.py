"""Meta's webhooks as bytes: inbound texts and statuses in Meta's form, signed, each different from all others."""

import hmac
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.http_client import Request

_INBOUND = (
    '{{"object":"whatsapp_business_account","entry":[{{"id":"{waba}","changes":[{{"value":{{'
    '"messaging_product":"whatsapp","metadata":{{"display_phone_number":"15550001111","phone_number_id":"{number}"}},'
    '"contacts":[{{"profile":{{"name":"Customer {who}"}},"wa_id":"{wa_id}","user_id":"US.{wa_id}"}}],'
    '"messages":[{{"from":"{wa_id}","from_user_id":"US.{wa_id}","id":"{wamid}","timestamp":"{at}",'
    '"text":{{"body":"Is the blue one in stock, and what would it cost to send it to Lisbon? ({who})"}},'
    '"type":"text"}}]}},"field":"messages"}}]}}]}}'
)

_STATUS = (
    '{{"object":"whatsapp_business_account","entry":[{{"id":"{waba}","changes":[{{"value":{{'
    '"messaging_product":"whatsapp","metadata":{{"display_phone_number":"15550001111","phone_number_id":"{number}"}},'
    '"contacts":[{{"profile":{{"name":"Customer"}},"wa_id":"{wa_id}","user_id":"US.{wa_id}"}}],'
    '"statuses":[{{"id":"{wamid}","status":"{status}","timestamp":"{at}","recipient_id":"{wa_id}",'
    '"biz_opaque_callback_data":"{own}","pricing":{{"billable":true,"pricing_model":"PMP","type":"regular",'
    '"category":"utility"}}}}]}},"field":"messages"}}]}}]}}'
)

STATUSES = ("sent", "delivered", "read")


@dataclass(frozen=True, slots=True)
class Sent:
    """A message of the business that statuses are about."""

    wamid: str
    wa_id: str
    own_id: str
    place: int = 0
    """Which of the sender's numbers sent it."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Whose webhooks they are, and how they get to the intake."""

    secret: bytes
    places: Sequence[tuple[str, str]]
    """phone_number_id and WABA of each number."""
    path: str = "/webhooks/meta"

    def request(self, body: str) -> bytes:
        raw = body.encode()
        digest = hmac.new(self.secret, raw, "sha256").hexdigest()
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
            f"X-Hub-Signature-256: sha256={digest}\r\nContent-Length: {len(raw)}\r\n\r\n"
        )
        return head.encode() + raw

    def inbound(self, number: int, *, run: str, customers: int, at: int) -> Request:
        """The message with this number of the run, of one of so many customers of each number in turn."""
        place = number % len(self.places)
        who = number // len(self.places) % customers
        wamid, wa_id = f"wamid.in.{run}.{number}", f"1650{who:08d}"
        phone_number_id, waba = self.places[place]
        body = _INBOUND.format(waba=waba, number=phone_number_id, who=who, wa_id=wa_id, wamid=wamid, at=at)
        return self.request(body), wamid

    def status(self, sent: Sent, status: str, *, at: int) -> Request:
        phone_number_id, waba = self.places[sent.place]
        body = _STATUS.format(
            waba=waba, number=phone_number_id, wa_id=sent.wa_id, wamid=sent.wamid, own=sent.own_id, status=status, at=at
        )
        return self.request(body), ""


def worst_case(sender: Sender, sent: Sequence[Sent], *, run: str, customers: int, at: int) -> Iterator[Request]:
    """Meta's worst mix without an end: three statuses for each message that was sent, and an inbound message for every
    ten statuses. `sent` is gone through again once all have their three.
    """
    inbound = itertools.count()
    told = statuses(sender, sent, at=at)
    while True:
        yield from itertools.islice(told, 10)
        yield sender.inbound(next(inbound), run=run, customers=customers, at=at)


def statuses(sender: Sender, sent: Sequence[Sent], *, at: int) -> Iterator[Request]:
    """Of a hundred messages at a time: all of them sent, then all delivered, then all read."""
    for start in itertools.cycle(range(0, len(sent), 100)):
        for status in STATUSES:
            for each in sent[start : start + 100]:
                yield sender.status(each, status, at=at)
