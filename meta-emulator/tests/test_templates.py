import pytest

TO = {"to": "+491701234567", "type": "template"}


def template(name, *components, code="en_US"):
    return {**TO, "template": {"name": name, "language": {"code": code}, "components": list(components)}}


def body(*texts):
    return {"type": "body", "parameters": [{"type": "text", "text": text} for text in texts]}


def named(**values):
    parameters = [{"type": "text", "parameter_name": name, "text": text} for name, text in values.items()]
    return {"type": "body", "parameters": parameters}


def button(sub_type, parameter, index="0"):
    return {"type": "button", "sub_type": sub_type, "index": index, "parameters": [parameter]}


IMAGE = {"type": "header", "parameters": [{"type": "image", "image": {"link": "http://127.0.0.1:1/a.png"}}]}
URL = button("url", {"type": "text", "text": "tulips"})


@pytest.mark.parametrize(
    ("request_", "text", "pricing"),
    [
        ({**TO, "template": {"name": "hello_world", "language": {"code": "en_US"}}}, "Welcome", "utility"),
        (template("order_on_its_way", body("Ana", "A-1")), "Hi Ana, your order A-1 is on its way.", "utility"),
        (template("greeting", body("Ana")), "Hi Ana, how can we help", "marketing"),
        (template("appointment_reminder", named(day="Friday", first_name="Ana")), "Hi Ana, see you on", "utility"),
        (
            template("login_code", body("123456"), button("url", {"type": "text", "text": "123456"})),
            "*123456* is your",
            "authentication",
        ),
    ],
)
async def test_an_approved_template_is_sent_outside_the_window(rig, number, request_, text, pricing):
    status, answer = await rig.post_message(number, **request_)
    assert status == 200, answer
    assert answer["messages"][0]["message_status"] == "accepted"
    (sent,) = await rig.sent(number)
    assert sent["rendered"]["body"].startswith(text)
    await rig.pass_time()
    (first,) = rig.callback.statuses()
    assert first["pricing"] == {"billable": True, "pricing_model": "PMP", "type": "regular", "category": pricing}


async def test_a_utility_template_inside_the_window_is_free(rig, number):
    await rig.hears(number)
    await rig.post_message(number, **template("order_on_its_way", body("Ana", "A-1")))
    await rig.pass_time()
    assert rig.callback.statuses()[0]["pricing"]["type"] == "free_customer_service"


async def test_media_header_and_url_button_are_filled(rig, number):
    await rig.control("PATCH", "/config", {"fetchLinks": False})
    status, _ = await rig.post_message(number, **template("spring_offer", IMAGE, body("20%"), URL))
    assert status == 200
    rendered = (await rig.sent(number))[0]["rendered"]
    assert rendered["header"]["type"] == "image"
    assert rendered["buttons"][0]["url"] == "https://shop.example.com/spring/tulips"


async def test_quick_replies_answer_with_payload_or_label(rig, number):
    await rig.post_message(
        number,
        **template(
            "appointment_reminder",
            named(day="Friday", first_name="Ana"),
            button("QUICK_REPLY", {"type": "payload", "payload": "later"}, index=1),
        ),
    )
    first, second = (await rig.sent(number))[0]["rendered"]["buttons"]
    assert (first["payload"], second["payload"]) == ("Yes", "later")


@pytest.mark.parametrize(
    ("request_", "http_status", "code", "details"),
    [
        (template("nope"), 404, 132001, "template name (nope) does not exist in en_US"),
        (template("hello_world", code="en"), 404, 132001, "template name (hello_world) does not exist in en"),
        (
            template("greeting"),
            400,
            132000,
            "body: number of localizable_params (0) does not match the expected number of params (1)",
        ),
        (template("greeting", body("a", "b")), 400, 132000, "body: number of localizable_params (2)"),
        (template("hello_world", body("a")), 400, 132000, "(1) does not match the expected number of params (0)"),
        (template("greeting", body("a\nb")), 400, 132018, "new-line"),
        (template("greeting", body("a     b")), 400, 132018, "consecutive spaces"),
        (template("greeting", body("")), 400, 131008, "parameter 0 has no text"),
        (template("greeting", body("x" * 1020)), 400, 132005, "1024"),
        (
            template("greeting", {"type": "body", "parameters": [{"type": "image", "image": {}}]}),
            400,
            132012,
            "must be text, received image",
        ),
        (template("appointment_reminder", body("Ana", "Friday")), 400, 100, "Parameter name is missing"),
        (template("appointment_reminder", named(first_name="A", other="B")), 400, 100, "expected day"),
        (template("spring_offer", body("20%"), URL), 400, 132012, "expected IMAGE, received UNKNOWN"),
        (template("spring_offer", IMAGE, body("20%")), 400, 131008, "Button at index 0 of type URL"),
        (
            template("spring_offer", IMAGE, body("20%"), button("quick_reply", {"type": "payload", "payload": "x"})),
            400,
            132012,
            "button at index 0 is of type URL",
        ),
        (template("greeting", body("A"), URL), 400, 132000, "buttons: number of localizable_params (1)"),
        (template("appointment_reminder", named(first_name="A", day="B"), URL | {"index": 7}), 400, 132000, "index 7"),
        (template("greeting", body("A"), {"type": "carousel", "cards": []}), 400, 100, "carousel is not supported"),
        (
            template(
                "spring_offer",
                {"type": "header", "parameters": [{"type": "image", "image": {"id": "123456"}}]},
                body("20%"),
                URL,
            ),
            400,
            100,
            "image['id'] is not a valid",
        ),
    ],
)
async def test_what_does_not_fit_is_refused(rig, number, request_, http_status, code, details):
    status, answer = await rig.post_message(number, **request_)
    assert (status, answer["error"]["code"]) == (http_status, code), answer
    assert details in answer["error"]["error_data"]["details"]
    assert await rig.sent(number) == []


@pytest.mark.parametrize(("state", "code"), [("PAUSED", 132015), ("DISABLED", 132016), ("REJECTED", 132001)])
async def test_only_approved_templates_are_sent_and_the_change_is_told(rig, number, state, code):
    listed = await rig.control("GET", f"/templates?wabaId={number.waba_id}")
    hello = next(t for t in listed["templates"] if t["name"] == "hello_world")
    changed = await rig.control("PATCH", f"/templates/{hello['id']}", {"status": state})
    assert (changed["status"], changed["webhook"]) == (state, "queued")
    await rig.settle()
    (post,) = rig.callback.posts
    (entry,) = post.json["entry"]
    assert entry["time"] == int(rig.clock.now())
    assert entry["changes"][0]["field"] == "message_template_status_update"
    assert entry["changes"][0]["value"]["event"] == state
    assert entry["changes"][0]["value"]["message_template_id"] == int(hello["id"])
    _, answer = await rig.post_message(number, **template("hello_world"))
    assert answer["error"]["code"] == code


async def test_authentication_templates_refuse_user_ids(rig, number):
    await rig.hears(number, userId="DE.77")
    request = template("login_code", body("123456"), button("url", {"type": "text", "text": "123456"}))
    del request["to"]
    _, answer = await rig.post_message(number, recipient="DE.77", **request)
    assert answer["error"]["code"] == 131062


async def test_templates_can_be_added_and_are_listed_in_pages(rig, number):
    new = {
        "wabaId": number.waba_id,
        "name": "winter_sale",
        "language": "de",
        "category": "MARKETING",
        "components": [{"type": "BODY", "text": "Hallo {{1}}"}],
    }
    made = await rig.control("POST", "/templates", new)
    assert made["status"] == "APPROVED"
    assert (await rig.control("POST", "/templates", new, expect=409))["error"]["field"] == "name"
    status, _ = await rig.post_message(number, **template("winter_sale", body("Ana"), code="de"))
    assert status == 200

    names, url = [], f"/v24.0/{number.waba_id}/message_templates?limit=3&fields=name,language,status"
    while url:
        status, answer = await rig.call("GET", url, headers=number.auth)
        assert status == 200
        assert all(set(item) == {"name", "language", "status", "id"} for item in answer["data"])
        names += [item["name"] for item in answer["data"]]
        url = answer["paging"].get("next", "").removeprefix(rig.base)
    assert len(names) == len(set(names)) == 7
    assert names[-1] == "winter_sale"

    for query, expected in [("name=winter", ["winter_sale"]), ("language=de", ["winter_sale"]), ("status=PAUSED", [])]:
        _, answer = await rig.call("GET", f"/v24.0/{number.waba_id}/message_templates?{query}", headers=number.auth)
        assert [item["name"] for item in answer["data"]] == expected
    _, one = await rig.call("GET", f"/v24.0/{made['id']}?fields=status,quality_score", headers=number.auth)
    assert (one["status"], one["quality_score"]["score"]) == ("APPROVED", "GREEN")


async def test_each_waba_has_its_own_templates(rig, number):
    other = await rig.number()
    status, _ = await rig.call("GET", f"/v24.0/{other.waba_id}/message_templates", headers=number.auth)
    assert status == 400
    same = await rig.number(wabaId=number.waba_id)
    assert same.waba_id == number.waba_id
    assert len((await rig.control("GET", f"/templates?wabaId={number.waba_id}"))["templates"]) == 6
