"""Taking a tenant's part from the streams: its events, and the webhooks and commands of partitions of its own.

Nothing else there can be found by tenant. The shared partitions of META hold the bodies of all tenants together, and
forget them by age; those of SEND hold ids only, which lead nowhere once their messages are gone.
"""

import uuid

from nats.js.errors import NotFoundError

from kit import dead_letters
from kit.bus import Bus
from kit.streams import DEAD, EVENTS, META, SEND

_LETTERS_AT_ONCE = 500


async def erase(bus: Bus, tenant_id: uuid.UUID) -> dict[str, int]:
    """Purge the tenant's events, batches included, which hold events of one tenant each, what waits in its own
    partitions, and what consumers gave up of all that; gives how many messages of each stream.
    """
    found = {EVENTS: await _purge(bus, EVENTS, f"events.*.*.*.{tenant_id}")}
    for stream, pattern in ((META, "meta.*"), (SEND, "send.*.*")):
        for subject in await _subjects(bus, stream, pattern):
            # A part of a word is no wildcard.
            if subject.rpartition(".")[2].startswith(f"{tenant_id}-"):
                found[stream] = found.get(stream, 0) + await _purge(bus, stream, subject)
    found[DEAD] = await _erase_dead(bus, tenant_id)
    return {f"streams.{stream}": erased for stream, erased in found.items() if erased}


async def _purge(bus: Bus, stream: str, subject: str) -> int:
    count = sum((await _subjects(bus, stream, subject)).values())
    if count:
        await bus.js.purge_stream(stream, subject=subject)
    return count


async def _subjects(bus: Bus, stream: str, pattern: str) -> dict[str, int]:
    """How many messages each subject has. None where nobody has needed the stream yet."""
    try:
        info = await bus.js.stream_info(stream, subjects_filter=pattern)
    except NotFoundError:
        return {}
    return info.state.subjects or {}


async def _erase_dead(bus: Bus, tenant_id: uuid.UUID) -> int:
    """Dead letters that name the tenant. Envelopes of META do not, and age."""
    erased, place, name = 0, 0, str(tenant_id)
    while letters := await dead_letters.after(bus, place, most=_LETTERS_AT_ONCE):
        place = letters[-1].id
        for letter in letters:
            is_its = letter.subject.endswith(name) or name.encode() in letter.data
            if is_its and letter.stream != META:
                await bus.js.delete_msg(DEAD, letter.id)
                erased += 1
    return erased
