import pytest


def names(callback):
    return [status["status"] for status in callback.statuses()]


async def test_a_message_goes_sent_delivered_read_in_its_time(rig, number):
    await rig.hears(number)
    wamid = await rig.send_text(number, biz_opaque_callback_data="outbox-42")
    started = rig.clock.now()
    await rig.pass_time(0.9)
    assert names(rig.callback) == []
    await rig.pass_time(0.2)
    assert names(rig.callback) == ["sent"]
    await rig.pass_time(1)
    await rig.pass_time(1)
    assert names(rig.callback) == ["sent", "delivered", "read"]
    for status in rig.callback.statuses():
        assert (status["id"], status["recipient_id"]) == (wamid, "491701234567")
        assert status["biz_opaque_callback_data"] == "outbox-42"
        assert started <= int(status["timestamp"]) <= rig.clock.now()
    (sent,) = await rig.sent(number)
    assert (sent["status"], [s["status"] for s in sent["statuses"]]) == ("read", ["sent", "delivered", "read"])


async def test_status_webhooks_have_the_2026_shape(rig, number):
    heard = await rig.hears(number)
    await rig.send_text(number)
    await rig.pass_time(times=3)
    value = next(v for v in rig.callback.values() if "statuses" in v)
    assert value["metadata"] == {"display_phone_number": number.digits, "phone_number_id": number.id}
    (contact,) = value["contacts"]
    assert (contact["profile"], contact["wa_id"]) == ({"name": "Ana"}, "491701234567")
    assert contact["user_id"].startswith("DE.")
    free = {"billable": False, "pricing_model": "PMP", "type": "free_customer_service", "category": "service"}
    assert [s.get("pricing") for s in rig.callback.statuses()] == [free, free, None]
    assert heard["customerId"]


async def test_the_older_webhook_version_carries_a_conversation_and_no_contacts(rig, number):
    await rig.control("PATCH", "/config", {"webhookVersion": "v23.0"})
    await rig.hears(number)
    await rig.send_text(number)
    await rig.pass_time(times=2)
    sent, delivered = rig.callback.statuses()
    assert sent["conversation"]["id"] == delivered["conversation"]["id"]
    assert int(sent["conversation"]["expiration_timestamp"]) == int(sent["timestamp"]) + 86400
    assert "expiration_timestamp" not in delivered["conversation"]
    assert all("contacts" not in v for v in rig.callback.values() if "statuses" in v)


async def test_a_closed_window_fails_after_the_200(rig, number):
    await rig.send_text(number, biz_opaque_callback_data="outbox-1")
    await rig.pass_time()
    (status,) = rig.callback.statuses()
    assert (status["status"], status["biz_opaque_callback_data"]) == ("failed", "outbox-1")
    (error,) = status["errors"]
    assert (error["code"], error["title"], error["message"]) == (
        131047,
        "Re-engagement message",
        "Re-engagement message",
    )
    assert "more than 24 hours" in error["error_data"]["details"]
    assert "contacts" not in rig.callback.values()[-1]
    await rig.pass_time(times=5)
    assert names(rig.callback) == ["failed"]


async def test_the_window_closes_24_hours_after_the_last_inbound_message(rig, number):
    await rig.hears(number)
    await rig.pass_time(24 * 3600 - 1)
    await rig.send_text(number)
    await rig.pass_time(1)
    assert names(rig.callback) == ["sent"]
    await rig.send_text(number)
    await rig.pass_time(1)
    assert "failed" in names(rig.callback)


async def test_a_closed_window_can_be_told_at_once(rig, number):
    await rig.control("PATCH", f"/numbers/{number.id}", {"behaviour": {"closedWindow": "sync"}})
    status, answer = await rig.post_message(number, to="491701234567", type="text", text={"body": "x"})
    assert (status, answer["error"]["message"]) == (400, "(#131047) Re-engagement message")


async def test_the_window_can_be_moved_by_hand(rig, number):
    heard = await rig.hears(number)
    chat = {"phoneNumberId": number.id, "customerId": heard["customerId"]}
    answer = await rig.control("PATCH", "/chat", {**chat, "windowOpen": False})
    assert answer["customer"]["chat"]["windowOpen"] is False
    await rig.send_text(number)
    await rig.pass_time()
    assert names(rig.callback) == ["failed"]
    answer = await rig.control("PATCH", "/chat", {**chat, "windowOpen": True})
    assert answer["customer"]["chat"]["windowOpen"] is True


async def test_an_offline_phone_gets_its_messages_when_it_comes_back(rig, number):
    heard = await rig.hears(number)
    await rig.control("PATCH", f"/customers/{heard['customerId']}", {"online": False})
    await rig.send_text(number)
    await rig.pass_time(times=5)
    assert names(rig.callback) == ["sent"]
    await rig.control("PATCH", f"/customers/{heard['customerId']}", {"online": True})
    await rig.pass_time(times=2)
    assert names(rig.callback) == ["sent", "delivered", "read"]


async def test_without_read_receipts_there_is_no_read(rig, number):
    heard = await rig.hears(number)
    await rig.control("PATCH", f"/customers/{heard['customerId']}", {"readReceipts": False})
    await rig.send_text(number)
    await rig.pass_time(times=5)
    assert names(rig.callback) == ["sent", "delivered"]


async def test_a_customer_who_does_not_read_alone_reads_on_opening_the_chat(rig, number):
    heard = await rig.hears(number)
    await rig.control("PATCH", f"/customers/{heard['customerId']}", {"readsAlone": False})
    await rig.send_text(number)
    await rig.pass_time(times=5)
    assert names(rig.callback) == ["sent", "delivered"]
    chat = {"phoneNumberId": number.id, "customerId": heard["customerId"], "opened": True}
    assert (await rig.control("PATCH", "/chat", chat))["read"] == 1
    await rig.settle()
    assert names(rig.callback) == ["sent", "delivered", "read"]


async def test_opening_the_chat_before_delivery_delivers_and_reads_once(rig, number):
    heard = await rig.hears(number)
    await rig.send_text(number)
    await rig.pass_time()
    chat = {"phoneNumberId": number.id, "customerId": heard["customerId"], "opened": True}
    await rig.control("PATCH", "/chat", chat)
    await rig.pass_time(times=5)
    assert names(rig.callback) == ["sent", "delivered", "read"]


async def test_delivered_may_be_skipped_and_read_then_carries_the_price(rig, number):
    await rig.control("PATCH", "/config", {"skipDeliveredProbability": 1})
    await rig.hears(number)
    await rig.send_text(number)
    await rig.pass_time(times=5)
    assert names(rig.callback) == ["sent", "read"]
    assert rig.callback.statuses()[1]["pricing"]["category"] == "service"


async def test_a_reaction_gets_only_sent_and_a_bad_target_fails(rig, number):
    heard = await rig.hears(number)
    await rig.post_message(
        number, to="491701234567", type="reaction", reaction={"message_id": heard["wamid"], "emoji": "👍"}
    )
    await rig.pass_time(times=5)
    assert names(rig.callback) == ["sent"]
    await rig.post_message(
        number, to="491701234567", type="reaction", reaction={"message_id": "wamid.none", "emoji": ""}
    )
    await rig.pass_time()
    assert rig.callback.statuses()[-1]["errors"][0]["code"] == 131009


async def test_statuses_can_be_duplicated(rig, number):
    await rig.hears(number)
    await rig.control("PATCH", "/config", {"duplicateProbability": 1, "reorderDelaySeconds": [0.5, 0.5]})
    await rig.send_text(number)
    await rig.pass_time(times=6)
    assert sorted(names(rig.callback)) == ["delivered", "delivered", "read", "read", "sent", "sent"]
    assert len((await rig.sent(number))[0]["statuses"]) == 3


async def test_statuses_can_be_overtaken(rig, number):
    await rig.hears(number)
    await rig.control("PATCH", "/config", {"reorderProbability": 1, "reorderDelaySeconds": [10, 10]})
    await rig.send_text(number)
    await rig.pass_time()
    await rig.control("PATCH", "/config", {"reorderProbability": 0})
    await rig.pass_time(times=2)
    await rig.pass_time(10)
    assert names(rig.callback) == ["delivered", "read", "sent"]
    stamps = {s["status"]: int(s["timestamp"]) for s in rig.callback.statuses()}
    assert stamps["sent"] < stamps["delivered"] < stamps["read"]


async def test_chaos_adds_unknown_keys_everywhere_and_changes_nothing_known(rig, number):
    await rig.control("PATCH", "/config", {"extraKeys": True})
    await rig.hears(number)
    await rig.settle()
    (post,) = rig.callback.posts
    payload = post.json

    def strip(value):
        if isinstance(value, dict):
            assert any(key.startswith("x_") for key in value), value
            return {key: strip(inner) for key, inner in value.items() if not key.startswith("x_")}
        return [strip(item) for item in value] if isinstance(value, list) else value

    stripped = strip(payload)
    assert stripped["object"] == "whatsapp_business_account"
    assert stripped["entry"][0]["changes"][0]["value"]["messages"][0]["text"] == {"body": "Is it in stock?"}


@pytest.mark.parametrize(("setting", "expected"), [(False, "free_customer_service"), (True, "regular")])
async def test_service_messages_are_priced_as_configured(rig, number, setting, expected):
    await rig.control("PATCH", "/config", {"billServiceMessages": setting})
    await rig.hears(number)
    await rig.send_text(number)
    await rig.pass_time()
    pricing = rig.callback.statuses()[0]["pricing"]
    assert (pricing["type"], pricing["billable"]) == (expected, setting)
