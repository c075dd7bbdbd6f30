import io

import pytest

TEXT = {"type": "text", "text": {"body": "hi"}}


async def test_a_number_is_made_as_wished(rig):
    made = await rig.control(
        "POST",
        "/numbers",
        {
            "displayPhoneNumber": "+49 30 901820",
            "verifiedName": "Flower Shop",
            "wabaId": "200000000000077",
            "phoneNumberId": "100000000000042",
            "throughput": 1000,
        },
    )
    assert made["displayPhoneNumber"] == "+49 30 901820"
    assert (made["wabaId"], made["phoneNumberId"], made["throughput"]) == ("200000000000077", "100000000000042", 1000)
    assert made["subscribed"] is False
    assert made["accessToken"].startswith("EAA")
    assert (await rig.control("GET", "/numbers"))["numbers"] == [made]
    number = await rig.number(wabaId="200000000000077")
    await rig.hears(number)
    await rig.settle()
    assert rig.callback.posts[0].json["entry"][0]["id"] == "200000000000077"


@pytest.mark.parametrize(
    ("body", "status", "field", "rule"),
    [
        ({"displayPhoneNumber": "abc"}, 400, "displayPhoneNumber", "phone_number"),
        ({"displayPhoneNumber": "+1 555-010-0200"}, 409, "displayPhoneNumber", "unique"),
        ({"wabaId": "x"}, 400, "wabaId", "range"),
        ({"throughput": 0}, 400, "throughput", "range"),
        ({"throughput": 1001}, 400, "throughput", "range"),
        ({"throughput": "80"}, 400, "throughput", "type"),
        ({"color": "red"}, 400, "color", "known_field"),
        ([], 400, None, "type"),
    ],
)
async def test_bad_numbers_name_field_and_rule(rig, number, body, status, field, rule):
    got, answer = await rig.call("POST", "/_emulator/numbers", json=body)
    assert got == status
    assert (answer["error"]["field"], answer["error"]["rule"]) == (field, rule)
    assert answer["error"]["message"]
    assert len(rig.em.world.numbers) == 1


async def test_malformed_json_is_named(rig):
    for body in (b"{", b"\xff\xfe", b"hello"):
        status, answer = await rig.call("POST", "/_emulator/numbers", data=body)
        assert (status, answer["error"]["rule"]) == (400, "json")


async def test_an_inbound_message_arrives_as_meta_sends_it(rig, number):
    heard = await rig.hears(number, userId="DE.10000000000000000001")
    await rig.settle()
    (value,) = rig.callback.values()
    assert value == {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": number.digits, "phone_number_id": number.id},
        "contacts": [{"profile": {"name": "Ana"}, "wa_id": "491701234567", "user_id": "DE.10000000000000000001"}],
        "messages": [
            {
                "from": "491701234567",
                "from_user_id": "DE.10000000000000000001",
                "id": heard["wamid"],
                "timestamp": str(int(rig.clock.now())),
                "type": "text",
                "text": {"body": "Is it in stock?"},
            }
        ],
    }


async def test_a_customer_without_phone_is_known_by_user_id_only(rig, number):
    sender = {"userId": "BR.10000000000000000001", "name": "Ana Souza", "username": "anasouza"}
    body = {"phoneNumberId": number.id, "from": sender, "message": TEXT}
    first = await rig.control("POST", "/inbound", body)
    second = await rig.control("POST", "/inbound", body)
    assert first["customerId"] == second["customerId"]
    await rig.settle()
    value = rig.callback.values()[0]
    assert value["contacts"] == [
        {"profile": {"name": "Ana Souza", "username": "@anasouza"}, "user_id": "BR.10000000000000000001"}
    ]
    assert "from" not in value["messages"][0]
    assert value["messages"][0]["from_user_id"] == "BR.10000000000000000001"


async def test_a_bsuid_is_made_per_business(rig, number):
    other = await rig.number()
    await rig.hears(number)
    await rig.hears(other)
    await rig.settle()
    first, second = {contact["user_id"] for value in rig.callback.values() for contact in value["contacts"]}
    assert first != second


async def test_ids_and_times_may_be_given_and_the_same_id_is_one_message(rig, number):
    message = {**TEXT, "id": "wamid.mine", "timestamp": "1780000000"}
    for _ in range(3):
        assert (await rig.hears(number, message=message))["wamid"] == "wamid.mine"
    await rig.settle()
    assert [(m["id"], m["timestamp"]) for m in rig.callback.messages()] == [("wamid.mine", "1780000000")] * 3
    assert len(rig.em.world.messages) == 1
    # Long ago: the window stays closed.
    await rig.send_text(number)
    await rig.pass_time()
    assert rig.callback.statuses()[0]["status"] == "failed"


async def test_a_reply_says_whose_message_it_quotes(rig, number):
    await rig.hears(number)
    wamid = await rig.send_text(number)
    await rig.hears(number, message={**TEXT, "context": {"id": wamid}})
    await rig.settle()
    assert rig.callback.messages()[-1]["context"] == {"from": number.digits, "id": wamid}


@pytest.mark.parametrize("message", [{"type": "in_orbit", "in_orbit": {"x": 1}}, {"type": "request_welcome"}])
async def test_unknown_types_pass_through(rig, number, message):
    await rig.hears(number, message=message)
    await rig.settle()
    (got,) = rig.callback.messages()
    assert message.items() <= got.items()


@pytest.mark.parametrize(
    ("change", "field", "rule", "status"),
    [
        ({"phoneNumberId": "123"}, "phoneNumberId", "known", 404),
        ({"phoneNumberId": None}, "phoneNumberId", "type", 400),
        ({"from": {}}, "from", "required", 400),
        ({"from": {"waId": "12"}}, "from.waId", "phone_number", 400),
        ({"from": {"userId": "nope"}}, "from.userId", "range", 400),
        ({"from": {"customerId": "nope"}}, "from.customerId", "known", 404),
        ({"message": {}}, "message.type", "required", 400),
        ({"message": {"type": "text"}}, "message.text", "required", 400),
        ({"message": {"type": "text", "text": {"body": 5}}}, "message.text.body", "required", 400),
        ({"message": {"type": "image", "image": {}}}, "message.image", "media", 400),
        ({"message": {"type": "image", "image": {"data": "%%"}}}, "message.image.data", "base64", 400),
        ({"message": {"type": "image", "image": {"data": ""}}}, "message.image.data", "size", 400),
        ({"message": {**TEXT, "timestamp": "soon"}}, "message", "type", 400),
        ({"message": {**TEXT, "context": "x"}}, "message.context", "type", 400),
    ],
)
async def test_bad_inbound_names_field_and_rule(rig, number, change, field, rule, status):
    body = {"phoneNumberId": number.id, "from": {"waId": "491701234567"}, "message": TEXT, **change}
    got, answer = await rig.call("POST", "/_emulator/inbound", json=body)
    assert got == status, answer
    assert (answer["error"]["field"], answer["error"]["rule"]) == (field, rule)
    await rig.settle()
    assert rig.callback.posts == []


async def test_one_user_id_belongs_to_one_customer(rig, number):
    await rig.hears(number, "491701111111", userId="DE.1")
    body = {"phoneNumberId": number.id, "from": {"waId": "491702222222", "userId": "DE.1"}, "message": TEXT}
    answer = await rig.control("POST", "/inbound", body, expect=409)
    assert answer["error"]["field"] == "from.userId"


async def test_replay_signs_any_bytes_and_passes_the_answer_on(rig, number):
    rig.callback.answers = [401, 418]
    body = b'{"any": "bytes \\/", \xc3\xa4}'
    status, answer = await rig.call("POST", "/_emulator/replay", data=body)
    assert (status, answer) == (401, "noted")
    (post,) = rig.callback.posts
    assert post.body == body
    assert post.is_signed
    assert (await rig.call("POST", "/_emulator/replay?signature=wrong", data=body))[0] == 418
    assert not rig.callback.posts[1].is_signed
    assert (await rig.call("POST", "/_emulator/replay?signature=none", data=body))[0] == 200
    assert "X-Hub-Signature-256" not in rig.callback.posts[2].headers
    assert (await rig.call("POST", "/_emulator/replay?signature=odd", data=body))[0] == 400


async def test_replay_carries_oversized_bodies(rig):
    status, _ = await rig.call("POST", "/_emulator/replay", data=io.BytesIO(b"x" * 100_000_000))
    assert status == 200
    assert len(rig.callback.posts[0].body) == 100_000_000
    rig.callback.posts.clear()


async def test_replay_says_when_there_is_no_callback(make_rig):
    rig = await make_rig(callback_url="http://127.0.0.1:1/hook")
    status, answer = await rig.call("POST", "/_emulator/replay", data=b"{}")
    assert (status, answer["error"]["rule"]) == (502, "callback")


async def test_sent_messages_come_in_order_and_in_pages(rig, number):
    await rig.hears(number)
    wamids = [await rig.send_text(number, text=str(n)) for n in range(5)]
    sent = await rig.sent(number)
    assert [m["wamid"] for m in sent] == wamids
    assert [m["text"]["body"] for m in sent] == list("01234")
    path = f"/messages?phoneNumberId={number.id}&after={wamids[1]}&limit=2".replace("+", "%2B").replace(
        "=wamid", "=wamid"
    )
    assert [m["wamid"] for m in (await rig.control("GET", path))["messages"]] == wamids[2:4]
    other = await rig.number()
    assert await rig.sent(other) == []
    await rig.control("GET", "/messages", expect=400)
    await rig.control("GET", "/messages?phoneNumberId=1", expect=404)
    await rig.control("GET", f"/messages?phoneNumberId={number.id}&limit=x", expect=400)
    await rig.control("GET", f"/messages?phoneNumberId={number.id}&after=x", expect=404)


async def test_customers_are_made_listed_and_changed(rig, number):
    made = await rig.control("POST", "/customers", {"name": "Ben", "waId": "+44 20 7946 0000", "readsAlone": False})
    assert (made["waId"], made["readsAlone"]) == ("442079460000", False)
    hidden = await rig.control("POST", "/customers", {"name": "Cleo", "username": "@cleo"})
    assert (hidden["waId"], hidden["username"]) == (None, "cleo")
    await rig.control("POST", "/customers", {"name": "Ben", "waId": "442079460000"}, expect=409)
    await rig.control("POST", "/customers", {"name": ""}, expect=400)
    body = {"phoneNumberId": number.id, "from": {"customerId": hidden["id"]}, "message": TEXT}
    await rig.control("POST", "/inbound", body)
    listed = await rig.control("GET", f"/customers?phoneNumberId={number.id}")
    assert [c["name"] for c in listed["customers"]] == ["Cleo", "Ben"]
    assert listed["customers"][0]["chat"]["windowOpen"] is True
    assert listed["customers"][1]["chat"] is None
    changed = await rig.control("PATCH", f"/customers/{made['id']}", {"name": "Benjamin", "online": False})
    assert (changed["name"], changed["online"]) == ("Benjamin", False)
    await rig.control("PATCH", "/customers/nope", {}, expect=404)
    await rig.control("PATCH", f"/customers/{made['id']}", {"online": "no"}, expect=400)


async def test_behaviour_is_changed_for_all_or_one_and_taken_back(rig, number):
    assert (await rig.control("PATCH", "/config", {"readProbability": 0.5}))["readProbability"] == 0.5
    await rig.control("PATCH", f"/numbers/{number.id}", {"behaviour": {"readProbability": 0.1}})
    business = rig.em.world.numbers[number.id]
    assert rig.em.behaviour(business).read_probability == 0.1
    await rig.control("PATCH", f"/numbers/{number.id}", {"behaviour": {"readProbability": None}})
    assert rig.em.behaviour(business).read_probability == 0.5
    await rig.control("PATCH", "/config", {"readProbability": None})
    assert (await rig.control("GET", "/config"))["readProbability"] == 1.0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"readProbability": 2}, "readProbability"),
        ({"sentDelaySeconds": [2, 1]}, "sent_delay_seconds"),
        ({"sentDelaySeconds": 1}, "sentDelaySeconds"),
        ({"closedWindow": "maybe"}, "closedWindow"),
        ({"unheard": 1}, "unheard"),
    ],
)
async def test_bad_behaviour_changes_nothing(rig, number, change, named):
    before = await rig.control("GET", "/config")
    for path, body in [("/config", change), (f"/numbers/{number.id}", {"behaviour": change})]:
        answer = await rig.control("PATCH", path, body, expect=400)
        assert named in (answer["error"]["field"] or "") + answer["error"]["message"]
    assert await rig.control("GET", "/config") == before
    assert rig.em.world.numbers[number.id].behaviour == {}


async def test_the_batch_size_is_for_all_numbers(rig, number):
    answer = await rig.control("PATCH", f"/numbers/{number.id}", {"behaviour": {"webhookBatchSize": 5}}, expect=400)
    assert answer["error"]["field"] == "behaviour.webhookBatchSize"


async def test_pages_of_other_origins_are_refused(rig):
    status, answer = await rig.call("POST", "/_emulator/reset", headers={"Origin": "https://evil.example"})
    assert (status, answer["error"]["rule"]) == (403, "same_origin")
    own = rig.base
    assert (await rig.call("GET", "/_emulator/numbers", headers={"Origin": own}))[0] == 200


async def test_reset_forgets_everything_and_stops_what_was_planned(rig, number):
    await rig.hears(number)
    await rig.send_text(number)
    await rig.settle()
    rig.callback.posts.clear()
    await rig.control("POST", "/reset")
    await rig.pass_time(times=5)
    assert rig.callback.posts == []
    assert await rig.control("GET", "/numbers") == {"numbers": []}
    again = await rig.number()
    await rig.hears(again)
    await rig.settle()
    assert len(rig.callback.posts) == 1


async def test_health_and_metrics(rig, number):
    await rig.hears(number)
    await rig.send_text(number)
    await rig.pass_time(times=3)
    assert (await rig.call("GET", "/healthz"))[1] == {"status": "ok", "numbers": 1, "pending": 0}
    _, text = await rig.call("GET", "/metrics")
    lines = text.splitlines()
    assert 'meta_emulator_sends_total{result="accepted"} 1' in lines
    assert 'meta_emulator_statuses_total{status="read"} 1' in lines
    assert 'meta_emulator_webhook_posts_total{answer="200"} 4' in lines
    assert "meta_emulator_webhooks_pending 0" in lines
    assert "# TYPE meta_emulator_webhooks_pending gauge" in lines


async def test_history_is_bounded(make_rig):
    rig = await make_rig(history_limit=100)
    number = await rig.number()
    for _ in range(60):
        await rig.hears(number)
    await rig.control("PATCH", "/config", {"pairLimit": False})
    wamids = [await rig.send_text(number, text=str(n)) for n in range(60)]
    assert len(rig.em.world.messages) == 100
    await rig.pass_time(times=4)
    assert [m["wamid"] for m in await rig.sent(number)] == wamids
