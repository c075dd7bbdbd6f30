import pytest

USER = "491701234567"


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("text", {"body": "Hello 😀", "preview_url": True}),
        ("location", {"latitude": "37.44", "longitude": -122.16, "name": "Cafe", "address": "101 Forest Ave"}),
        ("contacts", [{"name": {"formatted_name": "Ana", "first_name": "Ana"}, "phones": [{"phone": "+1 415"}]}]),
        (
            "interactive",
            {
                "type": "button",
                "header": {"type": "text", "text": "H"},
                "body": {"text": "Pick"},
                "footer": {"text": "F"},
                "action": {"buttons": [{"type": "reply", "reply": {"id": "a", "title": "A"}}]},
            },
        ),
        (
            "interactive",
            {
                "type": "list",
                "body": {"text": "Pick"},
                "action": {"button": "Go", "sections": [{"rows": [{"id": "a", "title": "A", "description": "d"}]}]},
            },
        ),
        (
            "interactive",
            {
                "type": "cta_url",
                "body": {"text": "Look"},
                "action": {
                    "name": "cta_url",
                    "parameters": {"display_text": "Open", "url": "https://shop.example.com"},
                },
            },
        ),
        (
            "interactive",
            {"type": "location_request_message", "body": {"text": "Where?"}, "action": {"name": "send_location"}},
        ),
    ],
)
async def test_each_content_is_accepted_and_shown_as_it_was_sent(rig, number, kind, content):
    await rig.hears(number)
    request = {"to": f"+{USER}", "type": kind, kind: content, "biz_opaque_callback_data": "job-1"}
    status, answer = await rig.post_message(number, **request)
    assert status == 200
    assert answer["contacts"] == [{"input": f"+{USER}", "wa_id": USER}]
    assert list(answer["messages"][0]) == ["id"]
    (sent,) = await rig.sent(number)
    assert sent["wamid"] == answer["messages"][0]["id"]
    assert (sent["to"], sent["type"], sent["biz_opaque_callback_data"]) == (f"+{USER}", kind, "job-1")
    assert sent["body"] == {"messaging_product": "whatsapp", **request}
    assert sent[kind] == content


async def test_type_may_be_left_out_for_text(rig, number):
    await rig.hears(number)
    status, _ = await rig.post_message(number, to=USER, text={"body": "old style"})
    assert status == 200
    assert (await rig.sent(number))[0]["type"] == "text"


async def test_punctuation_in_the_number_is_ignored_and_input_is_echoed(rig, number):
    status, answer = await rig.post_message(number, to="+49 (170) 123-4567", type="text", text={"body": "x"})
    assert status == 200
    assert answer["contacts"] == [{"input": "+49 (170) 123-4567", "wa_id": USER}]


async def test_wa_id_may_differ_from_the_input_in_brazil(rig, number):
    await rig.hears(number, "551187654321")
    _, answer = await rig.post_message(number, to="+55 11 98765-4321", type="text", text={"body": "x"})
    assert answer["contacts"] == [{"input": "+55 11 98765-4321", "wa_id": "551187654321"}]


async def test_sending_to_a_user_id_answers_with_it(rig, number):
    await rig.control(
        "POST",
        "/inbound",
        {
            "phoneNumberId": number.id,
            "from": {"userId": "US.13491208655302741918", "name": "Sheena", "username": "@sheena"},
            "message": {"type": "text", "text": {"body": "hi"}},
        },
    )
    _, answer = await rig.post_message(number, recipient="US.13491208655302741918", type="text", text={"body": "x"})
    assert answer["contacts"] == [{"input": "US.13491208655302741918", "user_id": "US.13491208655302741918"}]
    await rig.pass_time(times=3)
    for status in rig.callback.statuses():
        assert "recipient_id" not in status
        assert status["recipient_user_id"] == "US.13491208655302741918"


async def test_phone_wins_when_both_are_given(rig, number):
    heard = await rig.hears(number, userId="DE.77")
    _, answer = await rig.post_message(number, to=f"+{USER}", recipient="DE.77", type="text", text={"body": "x"})
    assert answer["contacts"] == [{"input": f"+{USER}", "wa_id": USER, "user_id": "DE.77"}]
    assert (await rig.sent(number))[0]["customerId"] == heard["customerId"]


async def test_a_reply_remembers_what_it_quotes(rig, number):
    heard = await rig.hears(number)
    await rig.send_text(number, context={"message_id": heard["wamid"]})
    assert (await rig.sent(number))[0]["quoted"] == heard["wamid"]


async def test_read_marks_earlier_messages_too_and_typing_shows(rig, number):
    first, second, third = [await rig.hears(number) for _ in range(3)]
    request = {"status": "read", "message_id": second["wamid"], "typing_indicator": {"type": "text"}}
    assert await rig.post_message(number, **request) == (200, {"success": True})
    path = f"/chat?phoneNumberId={number.id}&customerId={first['customerId']}"
    chat = await rig.control("GET", path)
    await rig.settle()
    assert [m["status"] for m in chat["messages"]][:2] == ["read", "read"]
    assert (await rig.control("GET", path))["messages"][2]["status"] == "delivered"
    assert chat["customer"]["chat"]["typing"] is True
    await rig.pass_time(25)
    assert (await rig.control("GET", path))["customer"]["chat"]["typing"] is False
    assert third["wamid"] != second["wamid"]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"message_id": "wamid.unknown"}, 131009),
        ({}, 131008),
        ({"message_id": "wamid.unknown", "status": "seen"}, 100),
    ],
)
async def test_read_refuses_what_it_does_not_know(rig, number, more, code):
    status, answer = await rig.post_message(number, **{"status": "read", **more})
    assert (status, answer["error"]["code"]) == (400, code)


async def test_forms_are_read_like_json(rig, number):
    form = {"messaging_product": "whatsapp", "to": USER, "type": "text", "text": '{"body": "from a form"}'}
    status, _ = await rig.call("POST", f"/v24.0/{number.id}/messages", headers=number.auth, data=form)
    assert status == 200
    assert (await rig.sent(number))[0]["text"] == {"body": "from a form"}
