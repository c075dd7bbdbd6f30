"""What a webhook body holds, item by item, in our words."""

from datetime import datetime
from typing import Any

import msgspec

from svc_messaging.statuses import Json, Reached


class Sender(msgspec.Struct, frozen=True):
    """Who wrote, by every identity that Meta shows. One of wa_id and user_id is there."""

    wa_id: str
    user_id: str
    name: str = ""
    username: str = ""

    @property
    def identities(self) -> list[tuple[str, str]]:
        """Kind and value, the most lasting one first."""
        found = [("user_id", self.user_id)] if self.user_id else []
        if self.wa_id:
            found += [("wa_id", self.wa_id), ("phone", f"+{self.wa_id}")]
        return found


class File(msgspec.Struct, frozen=True):
    """A file at Meta that belongs to a message."""

    meta_media_id: str
    mime_type: str
    filename: str


class Item(msgspec.Struct, frozen=True):
    """One message, status or change, and where it stands."""

    number: str
    """Meta's phone_number_id; empty where the item names none."""
    wamid: str
    raw: Json
    received_at: datetime


class Written(Item, frozen=True):
    """A customer's message."""

    sender: Sender
    type: str
    body: str
    content: Any
    sent_at: datetime
    file: File | None = None
    reply_to_wamid: str = ""
    emoji: str = ""
    """Of a reaction; empty when it was taken back."""
    reacts_to_wamid: str = ""
    becomes: Sender | None = None
    """Of a system message: the identities that the customer has from now on."""

    @property
    def is_talk(self) -> bool:
        """Whether the customer says something by it: a reaction can be the answer, taking one back is none."""
        return self.type != "system" and not (self.type == "reaction" and not self.emoji)


class Told(Item, frozen=True):
    """What a status says about a message of ours."""

    reached: Reached


class Unusable(msgspec.Struct, frozen=True):
    """Something that cannot be processed, and why."""

    reason: str
    detail: str
    body: str
    received_at: datetime
    number: str = ""
    wamid: str = ""
    key: str = ""
    """What it is, so that a repetition is parked once."""
