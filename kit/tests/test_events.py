"""CloudEvents on the wire: alone in binary mode, several of a tenant as a batch, never larger than NATS takes."""

from datetime import UTC, datetime, timedelta

import pytest

from kit.events import BATCH_TYPE, Event, EventMalformed, decode, outgoing
from kit.ids import new_id, time_of

TENANT = new_id()


def event(text="hello", *, tenant_id=TENANT, kind="messaging.message.received"):
    return Event(kind, tenant_id, "messages/ü 1", {"text": text})


def decoded(messages):
    return [each for message in messages for each in decode(message.headers, message.data)]


def test_a_lone_event_reads_back_the_same():
    sent = event("für 100 %")
    (message,) = outgoing([sent], headers={"traceparent": "00-1-2-01"})
    assert message.subject == f"events.messaging.message.received.{TENANT}"
    assert message.headers["traceparent"] == "00-1-2-01"
    assert all(value.isascii() for value in message.headers.values())
    assert decoded([message]) == [sent]


def test_events_of_one_tenant_travel_together_in_order():
    ours, other_kind, theirs = (
        [event("1"), event("2")],
        event(kind="messaging.conversation.updated"),
        event(tenant_id=new_id()),
    )
    messages = outgoing([ours[0], other_kind, theirs, ours[1]])
    assert [message.subject for message in messages] == [
        f"events.messaging.batch.mixed.{TENANT}",
        f"events.messaging.message.received.{theirs.tenant_id}",
    ]
    assert messages[0].headers["content-type"] == BATCH_TYPE
    assert decoded(messages) == [ours[0], other_kind, ours[1], theirs]


def test_a_batch_of_one_kind_has_the_subject_of_its_kind():
    (message,) = outgoing([event("1"), event("2")])
    assert message.subject == f"events.messaging.message.received.{TENANT}"


def test_batches_stay_below_what_nats_takes():
    events = [event("x" * 300_000) for _ in range(20)]
    messages = outgoing(events)
    assert max(len(message.data) for message in messages) <= 1024 * 1024 + 10_000
    assert len(messages) == 7
    assert decoded(messages) == events
    assert len({message.id for message in messages}) == 7


def test_a_single_large_event_is_not_cut():
    assert decoded(outgoing([event("x" * 3_000_000)]))[0].data["text"] == "x" * 3_000_000


@pytest.mark.parametrize(
    ("headers", "data"), [(None, b"{}"), ({"content-type": BATCH_TYPE}, b"[{}]"), ({"ce-id": "1"}, b"\xff")]
)
def test_what_is_no_event_is_refused(headers, data):
    with pytest.raises(EventMalformed):
        decode(headers, data)


def test_an_id_tells_when_it_was_made():
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    assert before <= time_of(new_id()) <= datetime.now(UTC)
