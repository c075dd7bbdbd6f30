"""What the emulator remembers: plain records, saved to the state file as they are.

Times are seconds since the Unix epoch. Phone numbers are digits. Content of messages is kept as the JSON that
travelled, because that is what both sides compare.
"""

from typing import Any

import msgspec
from msgspec import Struct

Json = dict[str, Any]

MEDIA_TYPES = ("image", "video", "audio", "document", "sticker")

WINDOW_SECONDS = 24 * 3600.0

MESSAGING_SCOPE = "whatsapp_business_messaging"
MANAGEMENT_SCOPE = "whatsapp_business_management"


class Subscription(Struct):
    """Our app installed on a WABA; without one no webhook leaves for it."""

    override_callback_uri: str = ""
    verify_token: str = ""


class Waba(Struct):
    id: str
    name: str
    business_id: str
    namespace: str
    currency: str = "USD"
    timezone_id: str = "1"
    subscription: Subscription | None = None


class Number(Struct):
    id: str
    waba_id: str
    digits: str
    display: str
    verified_name: str
    created_at: float
    registered: bool = True
    maintenance: bool = False
    pin: str = ""
    wrong_pins: int = 0
    registrations: list[float] = msgspec.field(default_factory=list)
    account_error: int | None = None
    allowed_recipients: list[str] | None = None
    override_callback_uri: str = ""
    verify_token: str = ""
    quality_rating: str = "GREEN"
    # Empty: as the registration has it.
    status: str = ""
    name_status: str = "APPROVED"
    messaging_limit: str = "TIER_UNLIMITED"
    behaviour: Json = msgspec.field(default_factory=dict)


class Token(Struct):
    value: str
    user_id: str
    waba_ids: list[str]
    scopes: list[str]
    issued_at: float
    expires_at: float = 0.0
    data_access_expires_at: float = 0.0
    revoked_at: float | None = None


class Template(Struct):
    id: str
    waba_id: str
    name: str
    language: str
    category: str
    components: list[Json]
    status: str = "APPROVED"
    parameter_format: str = "POSITIONAL"
    quality_score: str = "GREEN"
    rejected_reason: str = "NONE"
    created_at: float = 0.0


class Customer(Struct):
    """A person with a phone. `user_ids` holds the BSUID each business portfolio knows the person by."""

    id: str
    name: str
    digits: str
    shares_phone: bool = True
    username: str = ""
    user_ids: dict[str, str] = msgspec.field(default_factory=dict)
    online: bool = True
    read_receipts: bool = True
    reads_alone: bool = True
    created_at: float = 0.0


class Chat(Struct):
    """One customer with one business number: the thread and its customer service window."""

    number_id: str
    customer_id: str
    wamids: list[str] = msgspec.field(default_factory=list)
    last_inbound_at: float = 0.0
    typing_until: float = 0.0
    opened_at: float = 0.0

    def is_open_at(self, now: float) -> bool:
        return now < self.last_inbound_at + WINDOW_SECONDS


class Step(Struct):
    status: str
    time: float
    errors: list[Json] = msgspec.field(default_factory=list)


class Message(Struct):
    """One message in either direction. `body` is the send request, or Meta's `messages[]` item."""

    wamid: str
    number_id: str
    customer_id: str
    outbound: bool
    type: str
    body: Json
    time: float
    recipient_input: str = ""
    by_user_id: bool = False
    quoted: str = ""
    callback_data: str | None = None
    media_id: str = ""
    rendered: Json | None = None
    category: str = "service"
    pricing_type: str = "free_customer_service"
    failure: Json | None = None
    steps: list[Step] = msgspec.field(default_factory=list)
    reached_app: bool = False
    read_by_business: bool = False

    def has(self, status: str) -> bool:
        return any(step.status == status for step in self.steps)

    @property
    def is_on_phone(self) -> bool:
        """Whether the customer could see it. Reactions are told no further than sent."""
        if not self.outbound:
            return True
        return self.has("delivered") or self.has("read") or (self.type == "reaction" and self.has("sent"))


class Media(Struct):
    """Metadata; the bytes are held apart (memory, or a folder beside the state file)."""

    id: str
    waba_id: str
    number_id: str
    mime_type: str
    sha256: str
    size: int
    expires_at: float
    detected_mime_type: str = ""
    filename: str = ""


class Update(Struct):
    """One change on its way to the application: a `value` for one field, not yet packed into a POST."""

    url: str
    waba_id: str
    field: str
    value: Json
    entry_time: int | None = None
    wamids: list[str] = msgspec.field(default_factory=list)
    add_unknown_keys: bool = False


class Delivery(Struct):
    """A packed POST: the exact bytes are kept (as ASCII text) so that each retry is signed alike."""

    id: str
    url: str
    body: str
    summary: str
    updates: int
    created_at: float
    wamids: list[str] = msgspec.field(default_factory=list)
    attempts: int = 0
    last_answer: str = ""


class Fault(Struct):
    """An injected failure. `times` counts down; None means until deleted."""

    id: str
    kind: str
    number_id: str = ""
    recipient: str = ""
    code: int = 0
    http_status: int = 0
    details: str = ""
    seconds: float = 0.0
    times: int | None = 1
    asynchronous: bool | None = None


class StatusDue(Struct, tag="status"):
    wamid: str
    status: str


class UpdateDue(Struct, tag="update"):
    """A webhook held back on purpose: a duplicate, or one that others shall overtake."""

    update: Update


class RetryDue(Struct, tag="retry"):
    delivery_id: str


class FetchDue(Struct, tag="fetch"):
    """Meta downloads the media link of a message before it sends it."""

    wamid: str


Due = StatusDue | UpdateDue | RetryDue | FetchDue


class World(Struct):
    """The whole durable state except queues; see `store` for the file around it."""

    wabas: dict[str, Waba] = msgspec.field(default_factory=dict)
    numbers: dict[str, Number] = msgspec.field(default_factory=dict)
    tokens: dict[str, Token] = msgspec.field(default_factory=dict)
    templates: dict[str, Template] = msgspec.field(default_factory=dict)
    customers: dict[str, Customer] = msgspec.field(default_factory=dict)
    chats: dict[str, Chat] = msgspec.field(default_factory=dict)
    messages: dict[str, Message] = msgspec.field(default_factory=dict)
    media: dict[str, Media] = msgspec.field(default_factory=dict)
    deliveries: dict[str, Delivery] = msgspec.field(default_factory=dict)
    faults: list[Fault] = msgspec.field(default_factory=list)
    behaviour: Json = msgspec.field(default_factory=dict)
    callback_url: str = ""
    verify_token: str = ""
