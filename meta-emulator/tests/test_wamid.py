import base64
from random import Random

from meta_emulator import wamid


def test_encode_matches_the_worked_example():
    built = wamid.encode("16467043595", "5F425A74F13033492A", is_outbound=True)
    assert built == "wamid.HBgLMTY0NjcwNDM1OTUVAgARGBI1RjQyNUE3NEYxMzAzMzQ5MkEA"


def test_inbound_marks_its_direction_and_carries_twenty_characters():
    built = wamid.encode("5511987654321", "3A0123456789ABCDEF01", is_outbound=False)
    assert built == "wamid.HBgNNTUxMTk4NzY1NDMyMRUCABIYFDNBMDEyMzQ1Njc4OUFCQ0RFRjAxAA=="


def test_new_ids_differ_and_have_the_lengths_of_the_platform():
    rng = Random(1)
    sent = {wamid.outbound("16467043595", rng) for _ in range(1000)}
    assert len(sent) == 1000
    record = base64.b64decode(sent.pop().removeprefix("wamid."))
    assert record[17:19] == b"\x11\x18"
    assert record[19] == 18
    received = base64.b64decode(wamid.inbound("16467043595", rng).removeprefix("wamid."))
    assert (received[17], received[19], received[20:22]) == (0x12, 20, b"3A")
