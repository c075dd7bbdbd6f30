"""Deliver updates: pack, sign, POST with bounded parallelism, retry on anything but 200, drop after days.

Meta's retry waits are an immediate one, then 1, 2, 4, 8, 15, 30 minutes, 1, 2, 4 hours …; a setting scales and caps
them. Every POST is independent: there is no order between them, as there.
"""

import logging
import time

import aiohttp

from meta_emulator import ids
from meta_emulator.emulator import Emulator
from meta_emulator.model import Delivery, Json, Number, RetryDue, Template, Update, UpdateDue
from meta_emulator.webhooks import chaos, payloads, routing, signing

log = logging.getLogger(__name__)

PAYLOAD_BYTES_MAX = 3 * 1024 * 1024
_RETRY_WAITS = (0.0, 60.0, 120.0, 240.0, 480.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0)


def emit(em: Emulator, number: Number, value: Json, wamids: list[str] | None = None) -> bool:
    """Send a `messages` change of a number; False when nobody is subscribed. Chaos strikes here."""
    url = routing.callback_for(em, number)
    if url is None:
        return False
    behaviour = em.behaviour(number)
    update = Update(
        url=url,
        waba_id=number.waba_id,
        field="messages",
        value=value,
        wamids=wamids or [],
        add_unknown_keys=behaviour.extra_keys,
    )
    if em.chance(behaviour.duplicate_probability):
        em.schedule.after(em.draw((0.0, behaviour.reorder_delay_seconds[1])), UpdateDue(update))
    if em.chance(behaviour.reorder_probability):
        em.schedule.after(em.draw(behaviour.reorder_delay_seconds), UpdateDue(update))
    else:
        enqueue(em, update)
    return True


def emit_template_status(em: Emulator, template: Template) -> bool:
    waba = em.world.wabas[template.waba_id]
    url = routing.account_callback_for(em, waba)
    if url is None:
        return False
    value = payloads.template_status_value(template)
    field = "message_template_status_update"
    enqueue(em, Update(url=url, waba_id=waba.id, field=field, value=value, entry_time=int(em.now())))
    return True


def enqueue(em: Emulator, update: Update) -> None:
    em.queue.updates.append(update)
    _send_more(em)


def retry(em: Emulator, delivery_id: str) -> None:
    """Its wait is over; gone ones were delivered, dropped or reset meanwhile."""
    delivery = em.world.deliveries.get(delivery_id)
    if delivery is not None:
        em.queue.ready.append(delivery)
        _send_more(em)


def retry_all_now(em: Emulator) -> int:
    """Do not wait: every delivery that is put off goes out at once. Returns how many."""
    waiting = [event.delivery_id for _, event in em.schedule.pending() if isinstance(event, RetryDue)]
    em.schedule.drop(lambda event: isinstance(event, RetryDue))
    for delivery_id in waiting:
        retry(em, delivery_id)
    return len(waiting)


def resume(em: Emulator) -> None:
    """After a restart: what was under way or put off goes out again."""
    em.queue.ready.extend(em.world.deliveries.values())
    for _ in range(em.settings.webhook_parallelism):
        _send_more(em)


def pending(em: Emulator) -> int:
    return len(em.queue.updates) + len(em.world.deliveries)


def _send_more(em: Emulator) -> None:
    if len(em.queue.senders) < em.settings.webhook_parallelism:
        task = em.spawn(_drain(em))
        em.queue.senders.add(task)
        task.add_done_callback(em.queue.senders.discard)


async def _drain(em: Emulator) -> None:
    while em.queue.ready or em.queue.updates:
        if not em.queue.ready:
            _pack_next(em)
        await _attempt(em, em.queue.ready.popleft())


def _pack_next(em: Emulator) -> None:
    updates, limit = em.queue.updates, em.behaviours.everywhere.webhook_batch_size
    batch = [updates.popleft()]
    while updates and len(batch) < limit and updates[0].url == batch[0].url:
        batch.append(updates.popleft())
    _pack(em, batch)


def _pack(em: Emulator, batch: list[Update]) -> None:
    payload = payloads.envelope(batch)
    if any(update.add_unknown_keys for update in batch):
        chaos.add_unknown_keys(payload, em.random)
    body = signing.encode(payload)
    if len(body) > PAYLOAD_BYTES_MAX and len(batch) > 1:
        middle = len(batch) // 2
        _pack(em, batch[:middle])
        _pack(em, batch[middle:])
        return
    delivery = Delivery(
        id=ids.short_id(em.random),
        url=batch[0].url,
        body=body,
        summary=_summary(batch),
        updates=len(batch),
        created_at=em.now(),
        wamids=[wamid for update in batch for wamid in update.wamids],
    )
    em.world.deliveries[delivery.id] = delivery
    em.queue.ready.append(delivery)


def _summary(batch: list[Update]) -> str:
    """What a person reads in the traffic list: `status delivered`, `message text`, `12 updates`."""
    if len(batch) > 1:
        return f"{len(batch)} updates"
    value = batch[0].value
    if value.get("statuses"):
        return f"status {value['statuses'][0]['status']}"
    if value.get("messages"):
        return f"message {value['messages'][0]['type']}"
    return batch[0].field


async def _attempt(em: Emulator, delivery: Delivery) -> None:
    started = time.monotonic()
    answer = await _post(em, delivery)
    delivery.attempts += 1
    delivery.last_answer = answer
    em.is_dirty = True
    em.metrics.add("meta_emulator_webhook_posts_total", answer=answer)
    if delivery.id not in em.world.deliveries:
        return
    if answer == "200":
        _arrived(em, delivery)
    elif em.now() - delivery.created_at > em.settings.webhook_give_up_seconds:
        del em.world.deliveries[delivery.id]
        em.metrics.add("meta_emulator_webhooks_dropped_total")
        log.warning("webhook_dropped attempts=%d answer=%s", delivery.attempts, answer)
    else:
        em.metrics.add("meta_emulator_webhook_retries_total")
        em.schedule.after(retry_wait(em, delivery.attempts), RetryDue(delivery.id))
    if em.feed.is_watched:
        milliseconds = round((time.monotonic() - started) * 1000)
        em.feed.publish(
            {
                "type": "webhook",
                "summary": delivery.summary,
                "answer": answer,
                "attempts": delivery.attempts,
                "milliseconds": milliseconds,
                "time": em.now(),
            }
        )


def retry_wait(em: Emulator, attempts: int) -> float:
    wait = _RETRY_WAITS[min(attempts, len(_RETRY_WAITS)) - 1]
    return min(wait * em.settings.webhook_retry_factor, em.settings.webhook_retry_max_seconds)


async def _post(em: Emulator, delivery: Delivery) -> str:
    """The HTTP status as text, or why there is none."""
    body = delivery.body.encode("ascii")
    timeout = aiohttp.ClientTimeout(total=em.settings.webhook_timeout_seconds)
    headers = signing.headers(body, em.settings.app_secret.get_secret_value())
    try:
        async with em.http.post(
            delivery.url, data=signing.wire(body), headers=headers, timeout=timeout, allow_redirects=False
        ) as answer:
            await answer.read()
            return str(answer.status)
    except TimeoutError:
        return "timeout"
    except (aiohttp.ClientError, OSError, ValueError):
        return "unreachable"


def _arrived(em: Emulator, delivery: Delivery) -> None:
    del em.world.deliveries[delivery.id]
    em.metrics.add("meta_emulator_webhook_updates_total", amount=delivery.updates)
    for wamid in delivery.wamids:
        message = em.world.messages.get(wamid)
        if message is not None and not message.outbound and not message.reached_app:
            message.reached_app = True
            em.feed.publish({"type": "reached", "wamid": wamid, "customerId": message.customer_id})
