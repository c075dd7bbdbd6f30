"""Start, stop and reset a running emulator."""

import logging

from meta_emulator import links, outcomes, store
from meta_emulator.emulator import Emulator, WebhookQueue
from meta_emulator.model import Due, FetchDue, RetryDue, StatusDue, UpdateDue, World
from meta_emulator.webhooks import delivery

log = logging.getLogger(__name__)


async def start(em: Emulator) -> None:
    """Load the state, go on with what was under way, begin to work. Raises store.StateUnreadable."""
    path = em.settings.state_file
    if path is not None:
        _restore(em, store.load(path))
        em.spawn(store.keep_saved(em, path))
    em.metrics.gauge("meta_emulator_webhooks_pending", "Updates and POSTs under way.", lambda: delivery.pending(em))
    em.metrics.gauge("meta_emulator_scheduled", "Events that are due later.", lambda: len(em.schedule))
    em.spawn(em.schedule.run(lambda due: _on_due(em, due)))
    delivery.resume(em)


async def stop(em: Emulator) -> None:
    """Break off what is under way and save; a restart goes on from there."""
    em.feed.close()
    await em.cancel_tasks()
    await em.close_http()
    if em.settings.state_file is not None:
        store.write(em.settings.state_file, store.encode(em))


def reset(em: Emulator) -> None:
    """Forget everything: numbers, customers, messages, media, faults, changed behaviour, webhooks under way."""
    for media_id in em.world.media:
        em.media_bytes.delete(media_id)
    em.schedule.drop(lambda _: True)
    em.queue = WebhookQueue(senders=em.queue.senders)
    em.link_cache.clear()
    em.adopt(World())
    em.is_dirty = True
    em.feed.publish({"type": "reset"})


def _restore(em: Emulator, snapshot: store.Snapshot) -> None:
    em.adopt(snapshot.world)
    em.queue.updates.extend(snapshot.updates)
    for when, due in snapshot.schedule:
        em.schedule.at(when, due)
    planned = {due.wamid for _, due in snapshot.schedule if isinstance(due, StatusDue | FetchDue)}
    for message in em.world.messages.values():
        # A link fetch that the stop interrupted has left no trace in the schedule.
        if message.outbound and not message.steps and message.wamid not in planned:
            outcomes.begin(em, message)


def _on_due(em: Emulator, due: Due) -> None:
    em.is_dirty = True
    match due:
        case StatusDue():
            outcomes.on_due(em, due)
        case FetchDue():
            links.on_due(em, due)
        case UpdateDue():
            delivery.enqueue(em, due.update)
        case RetryDue():
            delivery.retry(em, due.delivery_id)
