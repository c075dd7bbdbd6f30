"""Taking a tenant's events from the streams. Nothing else there can be found by tenant:

META holds the bodies of all tenants together, and forgets them by age; SEND holds ids only, which lead nowhere once
their messages are gone, and consumers take them away.
"""

import uuid

from kit import dead_letters
from kit.bus import Bus
from kit.streams import DEAD, EVENTS, META

_LETTERS_AT_ONCE = 500


async def erase(bus: Bus, tenant_id: uuid.UUID) -> dict[str, int]:
    """Purge the tenant's events, batches included, which hold events of one tenant each, and what consumers gave up of
    them; gives how many messages of each stream.
    """
    subject = f"events.*.*.*.{tenant_id}"
    info = await bus.js.stream_info(EVENTS, subjects_filter=subject)
    count = sum((info.state.subjects or {}).values())
    if count:
        await bus.js.purge_stream(EVENTS, subject=subject)
    found = {EVENTS: count, DEAD: await _erase_dead(bus, tenant_id)}
    return {f"streams.{stream}": erased for stream, erased in found.items() if erased}


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
