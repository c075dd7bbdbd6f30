"""Request bodies of the control API. camelCase in JSON; unknown keys are refused."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from meta_emulator.model import Json

ObjectId = Annotated[str, Meta(pattern=r"^\d{5,20}$")]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
BusinessScopedId = Annotated[str, Meta(pattern=r"^[A-Z]{2}\.(ENT\.)?[A-Za-z0-9]{1,128}$")]
Username = Annotated[str, Meta(pattern=r"^@?[a-z0-9._]{3,35}$")]

NumberStatus = Literal[
    "CONNECTED", "DISCONNECTED", "PENDING", "UNVERIFIED", "FLAGGED", "RESTRICTED", "RATE_LIMITED", "BANNED", "MIGRATED",
    "DELETED", "OFFLINE", "UNKNOWN",
]  # fmt: skip
NameStatus = Literal["APPROVED", "AVAILABLE_WITHOUT_REVIEW", "DECLINED", "EXPIRED", "PENDING_REVIEW", "NONE"]
Lifetime = Annotated[float, Meta(ge=0, le=10 * 365 * 86400)]


class Body(Struct, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What all bodies share."""


class NewNumber(Body):
    display_phone_number: str = ""
    verified_name: Name | None = None
    waba_id: ObjectId | None = None
    phone_number_id: ObjectId | None = None
    access_token: Annotated[str, Meta(min_length=8, max_length=512)] | None = None
    throughput: Annotated[int, Meta(ge=1, le=1000)] | None = None
    registered: bool = True
    subscribed: bool = False


class NumberChange(Body):
    verified_name: Name | UnsetType = UNSET
    registered: bool | UnsetType = UNSET
    maintenance: bool | UnsetType = UNSET
    status: NumberStatus | UnsetType | None = UNSET
    quality_rating: Literal["GREEN", "YELLOW", "RED", "NA", "UNKNOWN"] | UnsetType = UNSET
    name_status: NameStatus | UnsetType = UNSET
    messaging_limit: Annotated[str, Meta(pattern=r"^TIER_[0-9A-Z_]{1,20}$")] | UnsetType = UNSET
    account_error: Literal[368, 131031, 130497, 131064] | UnsetType | None = UNSET
    allowed_recipients: list[str] | UnsetType | None = UNSET
    behaviour: Json | UnsetType = UNSET


class TokenChange(Body):
    """Seconds from now; null: never."""

    expires_in_seconds: Lifetime | UnsetType | None = UNSET
    data_access_expires_in_seconds: Lifetime | UnsetType | None = UNSET
    scopes: list[Literal["whatsapp_business_management", "whatsapp_business_messaging"]] | UnsetType = UNSET


class Sender(Body):
    wa_id: str | None = None
    name: str = ""
    user_id: BusinessScopedId | None = None
    username: Username | None = None
    customer_id: str | None = None


class Inbound(Body):
    phone_number_id: str
    sender: Sender = field(name="from")
    message: Json


class NewCustomer(Body):
    name: Name
    wa_id: str | None = None
    username: Username | None = None
    online: bool = True
    read_receipts: bool = True
    reads_alone: bool = True


class CustomerChange(Body):
    name: Name | UnsetType = UNSET
    username: Username | UnsetType | None = UNSET
    shares_phone: bool | UnsetType = UNSET
    online: bool | UnsetType = UNSET
    read_receipts: bool | UnsetType = UNSET
    reads_alone: bool | UnsetType = UNSET


class ChatChange(Body):
    phone_number_id: str
    customer_id: str
    opened: bool | UnsetType = UNSET
    window_open: bool | UnsetType = UNSET


class NewFault(Body):
    kind: Literal["send_error", "delay", "drop_after_accept", "drop_before_accept", "media_download", "recipient"]
    phone_number_id: str | None = None
    to: str | None = None
    code: int | None = None
    http_status: Annotated[int, Meta(ge=400, le=599)] | None = None
    details: Annotated[str, Meta(max_length=1000)] | None = None
    seconds: Annotated[float, Meta(ge=0, le=3600)] = 0.0
    times: Annotated[int, Meta(ge=1)] | UnsetType | None = UNSET
    asynchronous: bool | None = None


class NewTemplate(Body):
    waba_id: str
    name: Annotated[str, Meta(pattern=r"^[a-z0-9_]{1,512}$")]
    components: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=10)]
    language: Annotated[str, Meta(pattern=r"^[a-z]{2,3}(_[A-Z]{2})?$")] = "en_US"
    category: Literal["MARKETING", "UTILITY", "AUTHENTICATION"] = "UTILITY"
    status: str = "APPROVED"
    parameter_format: Literal["POSITIONAL", "NAMED"] = "POSITIONAL"


class TemplateChange(Body):
    status: str
    reason: str = "NONE"


class Callback(Body):
    callback_url: str = ""
    verify_token: str = ""
