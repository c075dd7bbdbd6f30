"""The generated webhooks are Meta's in form and signature."""

import hmac
import itertools
import json

from bench.webhooks import Sender, Sent, statuses, worst_case

SENDER = Sender(b"secret", [("111", "911"), ("222", "922")])


def parsed(request: tuple[bytes, str]) -> dict:
    head, _, body = request[0].partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    assert int(headers["Content-Length"]) == len(body)
    assert headers["X-Hub-Signature-256"] == "sha256=" + hmac.new(b"secret", body, "sha256").hexdigest()
    return json.loads(body)["entry"][0]["changes"][0]["value"]


def test_messages_are_signed_and_of_each_number_in_turn() -> None:
    values = [parsed(SENDER.inbound(each, run="r", customers=2, at=1)) for each in range(6)]
    assert [value["metadata"]["phone_number_id"] for value in values] == ["111", "222"] * 3
    assert len({value["messages"][0]["id"] for value in values}) == 6
    assert len({value["messages"][0]["from"] for value in values}) == 2


def test_a_message_gets_its_three_statuses_in_order() -> None:
    sent = [Sent(f"w{each}", "1650", f"own{each}", place=each % 2) for each in range(150)]
    told = [parsed(each)["statuses"][0] for each in itertools.islice(statuses(SENDER, sent, at=1), 450)]
    by_message = {each.wamid: [one["status"] for one in told if one["id"] == each.wamid] for each in sent}
    assert set(map(tuple, by_message.values())) == {("sent", "delivered", "read")}


def test_the_worst_case_is_ten_statuses_to_a_message() -> None:
    sent = [Sent("w", "1650", "own")]
    values = [parsed(each) for each in itertools.islice(worst_case(SENDER, sent, run="r", customers=5, at=1), 33)]
    assert sum("messages" in value for value in values) == 3
