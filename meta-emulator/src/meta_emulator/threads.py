"""Messages in their chat, in order; the oldest are forgotten when history is full."""

from collections import deque

from meta_emulator import views
from meta_emulator.emulator import Emulator
from meta_emulator.model import Message


def append(em: Emulator, message: Message) -> None:
    em.world.messages[message.wamid] = message
    chat = em.chat(em.number_of(message), em.customer_of(message))
    chat.wamids.append(message.wamid)
    if message.outbound:
        chat.typing_until = 0.0
        em.index.sent.setdefault(message.number_id, deque()).append(message.wamid)
    while len(em.world.messages) > em.settings.history_limit:
        _forget_oldest(em)
    em.is_dirty = True
    if em.feed.is_watched:
        em.feed.publish({"type": "message", "message": views.message(em, message)})


def _forget_oldest(em: Emulator) -> None:
    oldest = em.world.messages.pop(next(iter(em.world.messages)))
    em.chat(em.number_of(oldest), em.customer_of(oldest)).wamids.remove(oldest.wamid)
    if oldest.outbound:
        em.index.sent[oldest.number_id].remove(oldest.wamid)
