"""What waits for one number: live before bulk, one message per contact at a time, the oldest first."""

import asyncio
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.ids import new_id
from svc_messaging.send_commands import Command
from svc_messaging.sender.lanes import CONTACT_KEPT_MAX, KEPT_MAX, READ_BELOW, Lanes, Queued, Reading

TENANT = new_id()


def queued(contact: uuid.UUID | None = None, *, lane: str = "live", message: uuid.UUID | None = None) -> Queued:
    return Queued(Command(message or new_id(), TENANT, "100", contact or new_id()), lane)


def ids(taken: list[Queued]) -> list[uuid.UUID]:
    return [each.command.message_id for each in taken]


async def test_live_goes_before_bulk() -> None:
    lanes = Lanes()
    bulk, live = queued(lane="bulk"), queued(lane="live")
    lanes.add(bulk)
    lanes.add(live)
    assert ids(lanes.take(2)) == ids([live, bulk])


async def test_a_contacts_second_message_waits_for_the_first() -> None:
    lanes, contact = Lanes(), new_id()
    first, second, other = queued(contact), queued(contact), queued()
    for each in (first, second, other):
        lanes.add(each)
    assert ids(lanes.take(10)) == ids([first, other])
    lanes.finish(first.command)
    lanes.free_contact(contact)
    assert ids(lanes.take(10)) == ids([second])


@pytest.mark.parametrize("is_looked_at_meanwhile", [False, True])
async def test_a_message_whose_command_comes_before_its_next_try_goes_before_younger_ones_and_once(
    is_looked_at_meanwhile,
) -> None:
    lanes, contact = Lanes(), new_id()
    older, younger = queued(contact), queued(contact)
    lanes.add(older)
    lanes.add(younger)
    lanes.take(1)  # its outcome is recorded as "try again later"
    lanes.add(queued(contact, message=older.command.message_id))
    if is_looked_at_meanwhile:
        assert lanes.take(10) == []
    lanes.again(older)
    assert drained(lanes) == ids([older, younger])


async def test_a_repeated_command_is_queued_once() -> None:
    lanes, first = Lanes(), queued()
    lanes.add(first)
    lanes.add(queued(message=first.command.message_id))
    assert len(lanes.take(10)) == 1
    lanes.add(queued(message=first.command.message_id))
    assert not lanes.has_next, "it is under way"


async def test_put_back_restores_the_order() -> None:
    lanes = Lanes()
    waiting = [queued() for _ in range(3)]
    for each in waiting:
        lanes.add(each)
    lanes.put_back(lanes.take(2))
    assert ids(lanes.take(3)) == ids(waiting)


async def test_waiting_ends_as_soon_as_a_message_may_go() -> None:
    lanes = Lanes()
    await lanes.until_next(seconds=0.01)
    assert not lanes.has_next
    waiting = asyncio.ensure_future(lanes.until_next(seconds=300))
    await asyncio.sleep(0)
    lanes.add(queued())
    await asyncio.wait_for(waiting, 30)
    assert lanes.has_next


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["live", "bulk"])), max_size=40), st.integers(1, 7))
def test_every_message_leaves_once_and_each_contacts_in_order(arrivals: list[tuple[int, str]], most: int) -> None:
    lanes, contacts = Lanes(), [new_id() for _ in range(5)]
    # A contact's messages come through one lane, as conversations do.
    lane_of = dict(arrivals)
    added = [queued(contacts[contact], lane=lane_of[contact]) for contact, _ in arrivals]
    for each in added:
        lanes.add(each)
    sent: list[Queued] = []
    while taken := lanes.take(most):
        assert len({each.command.contact_id for each in taken}) == len(taken)
        sent += taken
        for each in taken:
            lanes.finish(each.command)
            lanes.free_contact(each.command.contact_id)
    assert sorted(ids(sent)) == sorted(ids(added))
    for contact in contacts:
        assert [i for i in sent if i.command.contact_id == contact] == [
            i for i in added if i.command.contact_id == contact
        ]


async def test_a_reading_brings_what_waited_behind_one_that_was_put_back_before_it() -> None:
    lanes, contact = Lanes(), new_id()
    first, second, third = (queued(contact) for _ in range(3))
    lanes.add(third)
    lanes.add(second)
    taken = lanes.take(2)
    assert ids(taken) == ids([third])
    lanes.put_back(taken)
    lanes.reading("live")
    lanes.found("live", [first, second, third], is_all=True)
    order = []
    for _ in range(3):
        (next_one,) = lanes.take(1)
        order.append(next_one)
        lanes.take(2)  # the others of the contact go behind it
        lanes.finish(next_one.command)
        lanes.free_contact(contact)
    assert ids(order) == ids([first, second, third])


def drained(lanes: Lanes, most: int = 1000) -> list[uuid.UUID]:
    """All that may go now, and is done at once."""
    gone = []
    while taken := lanes.take(most):
        gone += ids(taken)
        for each in taken:
            lanes.finish(each.command)
            lanes.free_contact(each.command.contact_id)
    return gone


async def test_a_full_lane_leaves_the_rest_to_the_table_and_the_other_lane_goes_on() -> None:
    lanes = Lanes()
    bulk = [queued(lane="bulk") for _ in range(KEPT_MAX + 3)]
    for each in bulk:
        lanes.add(each)
    assert len(lanes) == KEPT_MAX
    live = queued()
    lanes.add(live)
    assert ids(lanes.take(1)) == ids([live])
    assert lanes.to_read() == [], "there is enough to do"
    lanes.take(KEPT_MAX - READ_BELOW + 1)
    assert lanes.to_read() == ["bulk"]


async def test_what_arrives_while_a_lane_is_behind_goes_after_what_the_table_has() -> None:
    lanes, contact = Lanes(), new_id()
    lanes.forget()
    older, newer, newest = (queued(contact) for _ in range(3))
    lanes.add(newer)
    assert lanes.take(1) == [], "the table may have older ones"
    lanes.reading("live")
    lanes.add(newest)  # too late for the reading to see it
    lanes.found("live", [older, newer], is_all=True)
    assert drained(lanes) == ids([older, newer, newest])
    lanes.add(last := queued(contact))
    assert ids(lanes.take(1)) == ids([last]), "the lane is behind no longer"


async def test_a_reading_that_did_not_reach_the_end_leaves_arrivals_to_the_next_one() -> None:
    lanes = Lanes()
    lanes.forget()
    lanes.reading("live")
    lanes.add(arrived := queued())
    lanes.found("live", found := [queued()], is_all=False)
    assert drained(lanes) == ids(found)
    assert "live" in lanes.to_read()
    lanes.reading("live")
    lanes.found("live", [arrived], is_all=True)
    assert drained(lanes) == ids([arrived])


async def test_more_than_can_be_put_aside_during_a_reading_is_read_later() -> None:
    lanes = Lanes()
    lanes.forget()
    lanes.reading("live")
    for _ in range(KEPT_MAX + 1):
        lanes.add(queued())
    lanes.found("live", [], is_all=True)
    assert drained(lanes) == []
    assert "live" in lanes.to_read()


async def test_what_is_forgotten_is_taken_in_anew_and_what_is_under_way_is_not() -> None:
    lanes, contact = Lanes(), new_id()
    under_way, behind, waiting = queued(contact), queued(contact), queued()
    for each in (under_way, behind):
        lanes.add(each)
    assert ids(lanes.take(2)) == ids([under_way])
    lanes.add(waiting)
    lanes.forget()
    assert len(lanes) == 0
    lanes.reading("live")
    lanes.found("live", [under_way, behind, waiting], is_all=True)
    assert ids(lanes.take(3)) == ids([waiting])
    lanes.finish(under_way.command)
    lanes.free_contact(contact)
    assert ids(lanes.take(3)) == ids([behind])


async def test_a_failed_reading_is_done_again() -> None:
    lanes = Lanes()
    lanes.forget()
    lanes.reading("live")
    lanes.gave_up_reading("live")
    assert "live" in lanes.to_read()


async def test_a_message_that_is_tried_again_finds_room_in_a_full_lane_and_goes_before_younger_ones() -> None:
    lanes, contact = Lanes(), new_id()
    first, second = queued(contact), queued(contact)
    lanes.add(first)
    lanes.add(second)
    lanes.take(1)  # its outcome is recorded as "try again later"
    for _ in range(KEPT_MAX):
        lanes.add(queued())
    lanes.again(first)
    gone = drained(lanes)
    assert gone.index(first.command.message_id) < gone.index(second.command.message_id)


class Table:
    """What is queued, as the table has it: readings find it there, and what is sent is gone."""

    def __init__(self) -> None:
        self.queued: list[Queued] = []

    def read(self, lanes: Lanes) -> None:
        """As a sender does before it takes anything."""
        while names := lanes.to_read():
            for name in names:
                asked = lanes.reading(name)
                lane = [each for each in self.queued if each.lane == name]
                found = [each for each in lane if each.command.contact_id not in asked.without][: asked.most]
                lanes.found(name, found, is_all=len(found) < asked.most)

    def sent(self, taken: list[Queued]) -> None:
        gone = set(ids(taken))
        self.queued = [each for each in self.queued if each.command.message_id not in gone]


async def test_one_contact_of_which_much_waits_leaves_its_lane_to_others() -> None:
    lanes, table, contact = Lanes(), Table(), new_id()
    table.queued = [queued(contact) for _ in range(3 * KEPT_MAX)] + [queued() for _ in range(3)]
    others = table.queued[-3:]
    for each in table.queued:
        lanes.add(each)
    taken = lanes.take(10)
    assert ids(taken) == ids([table.queued[0], *others]), "as they arrive"
    lanes.forget()
    table.sent(taken)
    table.queued += (more := [queued() for _ in range(3)])
    table.read(lanes)
    assert ids(lanes.take(10)) == ids(more), "as the table has them, while the contact's message is under way"
    assert len(lanes) <= CONTACT_KEPT_MAX


async def test_what_waits_of_one_contact_goes_in_order_however_much_it_is() -> None:
    lanes, table, contact = Lanes(), Table(), new_id()
    everything = table.queued = [queued(contact) for _ in range(3 * CONTACT_KEPT_MAX)]
    for each in everything:
        lanes.add(each)
    gone: list[Queued] = []
    while taken := lanes.take(10):
        gone += taken
        table.sent(taken)
        if len(gone) == CONTACT_KEPT_MAX:
            # Of one that is behind nothing is kept before what is older.
            everything = [*everything, last := queued(contact)]
            table.queued.append(last)
            lanes.add(last)
        for each in taken:
            lanes.finish(each.command)
            lanes.free_contact(contact)
        table.read(lanes)
    assert ids(gone) == ids(everything)


async def test_readings_ask_for_more_than_what_is_here_and_not_for_whom_enough_is_here() -> None:
    lanes, contact = Lanes(), new_id()
    for each in [queued(contact) for _ in range(CONTACT_KEPT_MAX + 1)] + [queued() for _ in range(5)]:
        lanes.add(each)
    assert lanes.reading("live") == Reading(KEPT_MAX + CONTACT_KEPT_MAX + 5, [contact])


class Sending:
    """A sender of one lane: what it does to lanes and table, in whatever order."""

    def __init__(self) -> None:
        self.lanes, self.table, self.contacts = Lanes(), Table(), [new_id() for _ in range(3)]
        self.added: list[Queued] = []
        self.under_way: list[Queued] = []
        self.to_be_tried_again: list[Queued] = []
        self.gone: list[Queued] = []

    def arrive(self, number: int) -> None:
        """Nearly as many of a contact as are kept."""
        for each in [queued(self.contacts[number]) for _ in range(CONTACT_KEPT_MAX - 1)]:
            self.added.append(each)
            self.table.queued.append(each)
            self.lanes.add(each)

    def take(self, number: int) -> None:
        self.table.read(self.lanes)
        taken = self.lanes.take(number + 1)
        self.table.sent(taken)
        self.under_way += taken

    def forget(self, _number: int) -> None:
        self.lanes.forget()

    def be_done(self, _number: int) -> None:
        for each in self.under_way[:1]:
            self.under_way.remove(each)
            self.gone.append(each)
            self.lanes.finish(each.command)
            self.lanes.free_contact(each.command.contact_id)

    def fail(self, _number: int) -> None:
        """With an outcome after which it is tried again, so the table has it."""
        for each in self.under_way[-1:]:
            self.under_way.remove(each)
            self.to_be_tried_again.append(each)
            self.table.queued = sorted([*self.table.queued, each], key=lambda each: each.command.message_id)

    def command(self, number: int) -> None:
        for each in self.to_be_tried_again[number : number + 1]:
            self.lanes.add(each)

    def again(self, _number: int) -> None:
        for each in self.to_be_tried_again[:1]:
            self.to_be_tried_again.remove(each)
            self.lanes.again(each)

    def end(self) -> None:
        while self.to_be_tried_again:
            self.again(0)
        while self.under_way or self.table.queued or len(self.lanes):
            self.take(9)
            self.be_done(0)


STEPS = (Sending.arrive, Sending.take, Sending.forget, Sending.be_done, Sending.fail, Sending.command, Sending.again)


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 2))))
def test_with_a_contact_that_has_more_than_its_share_all_go_once_and_each_contacts_in_order(steps) -> None:
    """Of each contact more waits than is kept, and messages are tried again, their commands coming before that."""
    sending = Sending()
    for step, number in steps:
        step(sending, number)
    sending.end()
    assert sorted(ids(sending.gone)) == sorted(ids(sending.added))
    for contact in sending.contacts:
        assert [i for i in sending.gone if i.command.contact_id == contact] == [
            i for i in sending.added if i.command.contact_id == contact
        ]


async def test_nothing_of_a_held_contact_goes_before_the_message_for_which_it_is_held() -> None:
    lanes, contact = Lanes(), new_id()
    older, younger = queued(contact), queued(contact)
    assert lanes.hold(older.command)
    assert not lanes.hold(older.command), "somebody brings it already"
    lanes.add(younger)
    lanes.add(older)  # as its command, which comes before its next try
    assert lanes.take(1) == []
    lanes.again(older)
    assert drained(lanes) == ids([older, younger])


async def test_a_contact_is_not_held_for_a_message_that_has_come() -> None:
    lanes, message = Lanes(), queued()
    lanes.add(message)
    assert not lanes.hold(message.command)
    assert ids(lanes.take(1)) == ids([message])
