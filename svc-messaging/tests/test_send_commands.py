"""Commands on their way to the sender."""

import uuid

import pytest

from kit.partitions import partition_of
from svc_messaging import send_commands
from svc_messaging.send_commands import TOGETHER_MAX, Command, CommandMalformed


def command(number: str = "1065") -> Command:
    return Command(uuid.uuid4(), uuid.uuid4(), number, uuid.uuid4())


def test_a_command_alone_and_several_together_are_read_alike() -> None:
    commands = [command() for _ in range(3)]
    assert (
        send_commands.decode(send_commands.outgoing(commands[0], lane="live", partitions=4, scope="").data)
        == commands[:1]
    )
    (together,) = send_commands.outgoing_together(commands, lane="bulk", partitions=4, scope="")
    assert send_commands.decode(together.data) == commands
    assert together.subject == f"send.bulk.{partition_of('1065', 4)}"


def test_those_of_a_number_travel_together_in_order_up_to_a_bound() -> None:
    first, second = [command("1065") for _ in range(TOGETHER_MAX + 1)], [command("2077")]
    leaving = list(send_commands.outgoing_together([*first, *second], lane="bulk", partitions=4, scope=""))
    assert [len(send_commands.decode(each.data)) for each in leaving] == [TOGETHER_MAX, 1, 1]
    assert [one for each in leaving for one in send_commands.decode(each.data)] == [*first, *second]
    assert len({each.id for each in leaving}) == 3


def test_messages_of_one_subject_are_joined_in_order() -> None:
    commands = [command(number) for number in ("1065", "1065", "2077", "2077", "1065")]
    parts = [
        send_commands.outgoing(commands[0], lane="live", partitions=1, scope=""),
        *send_commands.outgoing_together(commands[1:4], lane="live", partitions=1, scope=""),
        send_commands.outgoing(commands[4], lane="live", partitions=1, scope=""),
    ]
    assert len(parts) == 4
    assert send_commands.decode(send_commands.joined([each.data for each in parts])) == commands


@pytest.mark.parametrize("data", [b"", b"[1]", b"{}", b'{"messageId":"x"}', b"[{}]", b"\xff"])
def test_other_bytes_are_no_commands(data) -> None:
    with pytest.raises(CommandMalformed):
        send_commands.decode(data)
