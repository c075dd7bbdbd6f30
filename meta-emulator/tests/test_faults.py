import asyncio

import aiohttp
import pytest

TEXT = {"type": "text", "text": {"body": "x"}}


async def send(rig, number, to="+491701234567"):
    status, answer = await rig.post_message(number, to=to, **TEXT)
    return status, answer.get("error", {}).get("code")


async def test_the_next_sends_fail_with_the_chosen_code(rig, number):
    made = await rig.control(
        "POST", "/faults", {"kind": "send_error", "phoneNumberId": number.id, "code": 131016, "times": 2}
    )
    assert made["times"] == 2
    other = await rig.number()
    assert await send(rig, other) == (200, None)
    assert [await send(rig, number) for _ in range(3)] == [(500, 131016), (500, 131016), (200, None)]
    assert await rig.control("GET", "/faults") == {"faults": []}


async def test_the_http_status_and_details_can_be_chosen(rig, number):
    await rig.control(
        "POST", "/faults", {"kind": "send_error", "code": 130429, "httpStatus": 429, "details": "Slow down."}
    )
    status, answer = await rig.post_message(number, to="+491701234567", **TEXT)
    assert (status, answer["error"]["error_data"]["details"]) == (429, "Slow down.")


async def test_a_real_refusal_does_not_use_the_fault_up(rig, number):
    await rig.control("POST", "/faults", {"kind": "send_error", "code": 131000})
    assert (await send(rig, number, to="12")) == (400, 131009)
    assert (await send(rig, number)) == (500, 131000)


async def test_answers_can_be_delayed(rig, number):
    await rig.control("POST", "/faults", {"kind": "delay", "seconds": 30})
    sending = asyncio.create_task(send(rig, number))
    await rig.until(lambda: len(rig.clock._waiting) == 2)  # the schedule and our request
    assert not sending.done()
    rig.clock.advance(30)
    assert await sending == (200, None)


@pytest.mark.parametrize(("kind", "count"), [("drop_after_accept", 1), ("drop_before_accept", 0)])
async def test_a_connection_can_break_with_or_without_the_message(rig, number, kind, count):
    await rig.hears(number)
    await rig.control("POST", "/faults", {"kind": kind, "phoneNumberId": number.id})
    with pytest.raises((aiohttp.ClientError, OSError)):
        await rig.post_message(number, to="+491701234567", biz_opaque_callback_data="job-7", **TEXT)
    sent = await rig.sent(number)
    assert [message["biz_opaque_callback_data"] for message in sent] == ["job-7"] * count
    await rig.pass_time(times=3)
    assert [s["biz_opaque_callback_data"] for s in rig.callback.statuses()] == ["job-7"] * 3 * count
    assert await send(rig, number) == (200, None)


async def test_a_held_connection_lets_the_client_time_out(rig, number):
    await rig.control("POST", "/faults", {"kind": "drop_after_accept", "seconds": 60})
    sending = asyncio.create_task(send(rig, number))
    await rig.until(lambda: bool(rig.em.world.messages))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(sending, 0.5)
    assert len(await rig.sent(number)) == 1


async def test_a_recipient_can_be_bound_to_fail(rig, number):
    await rig.hears(number)
    await rig.control("POST", "/faults", {"kind": "recipient", "to": "+49 170 1234567", "code": 131049})
    assert await send(rig, number) == (200, None)
    await rig.pass_time()
    assert rig.callback.statuses()[0]["errors"][0]["code"] == 131049
    await rig.control("DELETE", "/faults")
    made = {"kind": "recipient", "to": "+491701234567", "code": 131049, "asynchronous": False, "times": 1}
    await rig.control("POST", "/faults", made)
    assert [await send(rig, number) for _ in range(2)] == [(400, 131049), (200, None)]


@pytest.mark.parametrize(("to", "now", "later"), [("+15550131026", None, 131026), ("+15550131042", None, 131042)])
async def test_magic_recipients_fail_later(rig, number, to, now, later):
    assert await send(rig, number, to) == (200, now)
    await rig.pass_time()
    assert rig.callback.statuses()[0]["errors"][0]["code"] == later


@pytest.mark.parametrize(
    ("to", "http_status", "code"),
    [("+15550130429", 400, 130429), ("+15550131031", 403, 131031), ("+15550000368", 403, 368)],
)
async def test_magic_recipients_fail_at_once(rig, number, to, http_status, code):
    assert await send(rig, number, to) == (http_status, code)


async def test_ordinary_numbers_of_the_range_are_not_magic(rig, number):
    await rig.hears(number, "15550100999")
    assert await send(rig, number, "+15550100999") == (200, None)
    await rig.pass_time()
    assert rig.callback.statuses()[0]["status"] == "sent"


async def test_faults_are_listed_and_removed(rig, number):
    made = await rig.control("POST", "/faults", {"kind": "delay", "seconds": 1, "times": None})
    assert (await rig.control("GET", "/faults"))["faults"] == [made]
    assert await rig.control("DELETE", f"/faults/{made['id']}") == {"removed": 1}
    await rig.control("DELETE", f"/faults/{made['id']}", expect=404)


@pytest.mark.parametrize(
    ("body", "field", "rule"),
    [
        ({"kind": "explode"}, "kind", "choice"),
        ({}, "kind", "required"),
        ({"kind": "send_error"}, "code", "known"),
        ({"kind": "send_error", "code": 42}, "code", "known"),
        ({"kind": "send_error", "code": 131000, "times": 0}, "times", "range"),
        ({"kind": "recipient", "code": 131026}, "to", "required"),
        ({"kind": "delay"}, "seconds", "range"),
        ({"kind": "delay", "seconds": 1, "phoneNumberId": "1"}, "phoneNumberId", "known"),
        ({"kind": "delay", "secs": 1}, "secs", "known_field"),
    ],
)
async def test_bad_faults_name_field_and_rule(rig, body, field, rule):
    status, answer = await rig.call("POST", "/_emulator/faults", json=body)
    assert status in {400, 404}
    assert (answer["error"]["field"], answer["error"]["rule"]) == (field, rule)
