"""What a partition's consumer has handed out and nobody has acknowledged: a process that died, or a connection that
broke, leaves it so. It comes again by itself, but only after the ack wait, and newer envelopes must not overtake it.
"""

from collections.abc import AsyncIterator, Iterable

import structlog
from nats.js.errors import NotFoundError

from kit.bus import Bus
from kit.streams import META

log = structlog.get_logger()


async def envelopes_in_hand(bus: Bus, partition: str, consumer: str) -> AsyncIterator[tuple[int, bytes]]:
    """The partition's envelopes from the oldest that is not acknowledged to the newest that was handed out, straight
    from the journal, in order, each with its place there. Some in between may be acknowledged.
    """
    info = await bus.js.consumer_info(META, consumer)
    if not info.num_ack_pending or info.ack_floor is None or info.delivered is None:
        return
    log.info("partition_taken_over", partition=partition, envelopes=info.num_ack_pending)
    sequence, last = info.ack_floor.stream_seq + 1, info.delivered.stream_seq
    while sequence <= last:
        try:
            message = await bus.js.get_msg(META, sequence, f"meta.{partition}", next=True)
        except NotFoundError:
            return
        if message.seq is None or message.seq > last:
            return
        yield message.seq, message.data or b""
        sequence = message.seq + 1


async def acknowledge(bus: Bus, consumer: str, sequences: Iterable[int]) -> None:
    """Acknowledge envelopes that were handed out to somebody else.

    Else they would hold the floor of what is acknowledged down until the ack wait is over, and whoever takes over
    meanwhile would store all that came since once more before it stores anything new.
    """
    for sequence in sequences:
        # The server finds what was handed out by its place in the stream. How often it was, in which place of the
        # consumer, when, and what was left then, only the message itself says; they serve statistics.
        await bus.acknowledge(f"$JS.ACK.{META}.{consumer}.1.{sequence}.0.0.0")
