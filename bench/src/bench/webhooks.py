"""Meta's webhooks as bytes: inbound texts and statuses in Meta's form, signed, each different from all others."""

import hmac
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Sender:
    """Whose webhooks they are, and how they get to the intake."""

    secret: bytes
    number: str
    waba: str
    path: str = "/webhooks/meta"

    def request(self, body: str) -> bytes:
        raw = body.encode()
        digest = hmac.new(self.secret, raw, "sha256").hexdigest()
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
            f"X-Hub-Signature-256: sha256={digest}\r\nContent-Length: {len(raw)}\r\n\r\n"
        )
        return head.encode() + raw

    def inbound(self, number: int, *, run: str, customers: int, at: int) -> bytes:
        """The message with this number of the run, of one of so many customers."""
        who = number % customers
        wa_id = f"1650{who:08d}"
        body = _INBOUND.format(
            waba=self.waba, number=self.number, who=who, wa_id=wa_id, wamid=f"wamid.in.{run}.{number}", at=at
        )
        return self.request(body)

    def status(self, sent: Sent, status: str, *, at: int) -> bytes:
        return self.request(
            _STATUS.format(
                waba=self.waba,
                number=self.number,
                wa_id=sent.wa_id,
                wamid=sent.wamid,
                own=sent.own_id,
                status=status,
                at=at,
            )
        )


def worst_case(sender: Sender, sent: Sequence[Sent], *, run: str, customers: int, at: int) -> Iterator[bytes]:
    """Meta's worst mix without an end: three statuses for each message that was sent, and an inbound message for every
    ten statuses. `sent` is gone through again once all have their three.
    """
    inbound = itertools.count()
    statuses = ((each, status) for start in itertools.cycle(range(0, len(sent), 100)) for status in STATUSES
                for each in sent[start : start + 100])  # fmt: skip
    while True:
        for each, status in itertools.islice(statuses, 10):
            yield sender.status(each, status, at=at)
        yield sender.inbound(next(inbound), run=run, customers=customers, at=at)
