"""Meta's webhooks at a fixed rate: signed, repeated until they are answered 200, in order per customer."""

import asyncio
import hashlib
import hmac
import json
import secrets
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import aiohttp

from devstack.traffic.ledger import Ledger, Written

_ANSWER_SECONDS = 10.0
_RETRY_SECONDS = 0.2
# Meta delivers at least once: some webhooks come again although they were answered.
_REPEATED_SHARE = 0.02


@dataclass(slots=True)
class Meta:
    """Sends text messages of `customers` to one number. A customer writes on when the last one was acknowledged."""

    http: aiohttp.ClientSession
    callback: str
    app_secret: bytes
    number: dict[str, str]
    customers: Sequence[str]
    ledger: Ledger
    random: Random = field(default_factory=Random)
    _idle: deque[str] = field(default_factory=deque)
    _count: int = 0

    async def run(self, per_second: float, stop: asyncio.Event) -> None:
        """Write until `stop`, then wait until everything written is acknowledged."""
        self._idle.extend(self.customers)
        began, due = time.monotonic(), 0
        async with asyncio.TaskGroup() as tasks:
            while not stop.is_set():
                due += 1
                await asyncio.sleep(max(0.0, began + due / per_second - time.monotonic()))
                if self._idle:
                    tasks.create_task(self._write(self._idle.popleft()))

    async def _write(self, customer: str) -> None:
        self._count += 1
        wamid = f"wamid.{secrets.token_urlsafe(24)}"
        written = self.ledger.write(wamid, Written(customer, f"in {self._count}"))
        body = self._body(wamid, written)
        while not await self._post(body, written):  # noqa: ASYNC110 (asks anew each time)
            await asyncio.sleep(_RETRY_SECONDS * self.random.uniform(0.75, 1.25))
        if self.random.random() < _REPEATED_SHARE:
            await self._post(body, written)
        self._idle.append(customer)

    async def _post(self, body: bytes, written: Written) -> bool:
        began = time.monotonic()
        written.tries += 1
        signature = "sha256=" + hmac.new(self.app_secret, body, hashlib.sha256).hexdigest()
        headers = {"Content-Type": "application/json", "X-Hub-Signature-256": signature}
        timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
        try:
            async with self.http.post(self.callback, data=body, headers=headers, timeout=timeout) as answer:
                status = answer.status
                await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            self.ledger.refuse(f"webhook {type(error).__name__}")
            return False
        if status != 200:
            self.ledger.refuse(f"webhook {status}")
            return False
        now = time.monotonic()
        self.ledger.webhook_oks.append((began, now))
        written.acknowledged = written.acknowledged or now
        return True

    def _body(self, wamid: str, written: Written) -> bytes:
        message = {
            "from": written.customer,
            "id": wamid,
            "timestamp": str(int(time.time())),
            "type": "text",
            "text": {"body": written.text},
        }
        value = {
            "messaging_product": "whatsapp",
            "metadata": {
                "display_phone_number": self.number["displayPhoneNumber"],
                "phone_number_id": self.number["phoneNumberId"],
            },
            "contacts": [{"profile": {"name": "Customer"}, "wa_id": written.customer}],
            "messages": [message],
        }
        entry = {"id": self.number["wabaId"], "changes": [{"value": value, "field": "messages"}]}
        return json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()
