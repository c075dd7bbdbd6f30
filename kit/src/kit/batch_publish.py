"""Many messages of one stream in one go: all of them are stored, in order, or none (ADR-50 of NATS).

A publish of its own costs a disk flush; a batch costs a handful, however many messages it holds.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Protocol

import nats.errors
from nats.aio.client import Client
from nats.js.api import Header
from nats.js.errors import APIError, NoStreamResponseError

MESSAGES_MAX = 1000
"""The server's own limit."""
_SECONDS = 10


class Message(Protocol):
    """What travels."""

    @property
    def subject(self) -> str: ...

    @property
    def data(self) -> bytes: ...

    @property
    def headers(self) -> Mapping[str, str]: ...


async def publish_batch(client: Client, messages: Sequence[Message]) -> None:
    """Returns when all are on disk. Raises APIError where the stream takes none of them, as when it has one of their
    ids already; after any other failure nobody knows.
    """
    assert 2 <= len(messages) <= MESSAGES_MAX
    batch = uuid.uuid4().hex
    for place, message in enumerate(messages, 1):
        headers = {**message.headers, Header.BATCH_ID.value: batch, Header.BATCH_SEQUENCE.value: str(place)}
        if place == len(messages):
            headers[Header.BATCH_COMMIT.value] = "1"
        elif place > 1:
            await client.publish(message.subject, message.data, headers=headers)
            continue
        # The first tells whether the stream takes batches at all, the last whether it took this one.
        await _asked(client, message, headers)


async def _asked(client: Client, message: Message, headers: dict[str, str]) -> None:
    try:
        answer = await client.request(message.subject, message.data, timeout=_SECONDS, headers=headers)
    except nats.errors.NoRespondersError as error:
        raise NoStreamResponseError from error
    told = json.loads(answer.data) if answer.data else {}
    if "error" in told:
        raise APIError.from_error(told["error"])
