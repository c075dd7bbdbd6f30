"""What Meta's answers say of a number and of a token: its words kept, whatever else stands there left out."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_QUALITIES = ("GREEN", "YELLOW", "RED", "NA")
_TEXT_MAX = 200
_WORD_MAX = 64
# Beyond the year 9999 nothing ends.
_LAST_MOMENT = 253_402_300_799


@dataclass(frozen=True, slots=True)
class Facts:
    """A number as Meta describes it. The names are those of the columns that keep it."""

    display_phone_number: str
    verified_name: str
    quality_rating: str
    messages_per_second: int
    number_status: str
    name_status: str
    messaging_limit: str

    @classmethod
    def of(cls, found: dict[str, Any], *, limit_field: str) -> "Facts":
        """`limit_field`: the name that this version of the Graph API has for the messaging limit."""
        return cls(
            display_phone_number=text(found.get("display_phone_number")),
            verified_name=text(found.get("verified_name")),
            quality_rating=_one_of(found.get("quality_rating"), _QUALITIES),
            messages_per_second=_messages_per_second(found),
            number_status=text(found.get("status"))[:_WORD_MAX],
            name_status=text(found.get("name_status"))[:_WORD_MAX],
            messaging_limit=text(found.get(limit_field))[:_WORD_MAX],
        )


def token_end(inspected: dict[str, Any]) -> datetime | None:
    """When an inspected token ends; None where it does not. Without access to data it is of no use to us."""
    ends = [inspected.get(name) for name in ("expires_at", "data_access_expires_at")]
    moments = [end for end in ends if isinstance(end, int) and 0 < end <= _LAST_MOMENT]
    return datetime.fromtimestamp(min(moments), UTC) if moments else None


def text(value: object) -> str:
    """Text of Meta's for people: bounded, and without the one character that PostgreSQL cannot hold."""
    return value.replace("\0", "")[:_TEXT_MAX] if isinstance(value, str) else ""


def items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _messages_per_second(found: dict[str, Any]) -> int:
    """Meta's throughput: 20 where the number also lives in the WhatsApp Business app, 1000 when raised, else 80."""
    throughput = found.get("throughput")
    if isinstance(throughput, dict) and throughput.get("level") == "HIGH":
        return 1000
    return 20 if found.get("is_on_biz_app") is True and found.get("platform_type") == "CLOUD_API" else 80


def _one_of(value: object, known: tuple[str, ...]) -> str:
    return value if isinstance(value, str) and value in known else "UNKNOWN"
