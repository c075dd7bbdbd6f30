"""Each stage of the validation order, its envelope, and that an earlier stage wins over a later one."""

import hashlib
import hmac

import pytest

TEXT = {"to": "+491701234567", "type": "text", "text": {"body": "Hello"}}
BUTTONS = [{"type": "reply", "reply": {"id": str(n), "title": f"B{n}"}} for n in range(4)]


def interactive(**more):
    body = {"type": "button", "body": {"text": "Pick"}, "action": {"buttons": BUTTONS[:2]}}
    return {"to": "+491701234567", "type": "interactive", "interactive": {**body, **more}}


def of_type(kind, content):
    return {"to": "+491701234567", "type": kind, kind: content}


async def refused(rig, number, body, **headers):
    path = f"/v24.0/{number.id}/messages"
    request = {"messaging_product": "whatsapp", **body}
    async with rig.http.post(rig.base + path, json=request, headers=headers or number.auth) as answer:
        return answer.status, (await answer.json())["error"], answer.headers


async def test_envelope_and_headers_of_an_error(rig, number):
    status, error, headers = await refused(rig, number, {**TEXT, "text": {"body": "x" * 4097}})
    assert status == 400
    assert error.pop("fbtrace_id") == headers["x-fb-trace-id"]
    assert error == {
        "message": "(#100) Invalid parameter",
        "type": "OAuthException",
        "code": 100,
        "error_data": {
            "messaging_product": "whatsapp",
            "details": "Param text['body'] must be at most 4096 characters long.",
        },
    }
    assert headers["facebook-api-version"] == "v24.0"
    assert headers["Content-Type"] == "application/json; charset=UTF-8"
    assert headers["Cache-Control"] == "private, no-cache, no-store, must-revalidate"


async def test_a_missing_token_is_104_and_a_garbled_one_190(rig, number):
    status, answer = await rig.call("POST", f"/v24.0/{number.id}/messages", json={})
    assert (status, answer["error"]["code"]) == (400, 104)
    status, error, headers = await refused(rig, number, TEXT, Authorization="Bearer nonsense")
    assert (status, error["code"], error["type"]) == (401, 190, "OAuthException")
    assert headers["WWW-Authenticate"] == f'OAuth "Facebook Platform" "invalid_token" "{error["message"]}"'


async def test_a_revoked_token_is_190_for_every_call(rig, number):
    await rig.control("DELETE", f"/numbers/{number.id}/tokens")
    status, error, headers = await refused(rig, number, TEXT)
    assert (status, error["code"], error["error_subcode"]) == (401, 190, 467)
    assert "invalid_token" in headers["WWW-Authenticate"]
    fresh = (await rig.control("POST", f"/numbers/{number.id}/tokens"))["accessToken"]
    status, _ = await rig.call("GET", f"/v24.0/{number.id}?access_token={fresh}")
    assert status == 200


async def test_an_expired_token_names_when(rig, number):
    rig.em.world.tokens[number.token].expires_at = rig.clock.now() - 1
    _, error, _ = await refused(rig, number, TEXT)
    assert (error["code"], error["error_subcode"]) == (190, 463)
    assert "Session has expired on" in error["message"]


async def test_an_unknown_number_and_a_foreign_token_look_the_same(rig, number):
    other = await rig.number()
    for path, auth in [(f"/v24.0/{other.id}/messages", number.auth), ("/v24.0/99999999999/messages", number.auth)]:
        status, answer = await rig.call("POST", path, headers=auth, json={"messaging_product": "whatsapp", **TEXT})
        error = answer["error"]
        assert (status, error["code"], error["error_subcode"]) == (400, 100, 33)
        assert error["type"] == "GraphMethodException"
        assert error["message"].startswith(f"Unsupported post request. Object with ID '{path.split('/')[2]}'")


async def test_a_token_without_the_scope_is_refused(rig, number):
    rig.em.world.tokens[number.token].scopes = ["whatsapp_business_management"]
    status, error, _ = await refused(rig, number, TEXT)
    assert (status, error["code"]) == (403, 10)
    rig.em.world.tokens[number.token].scopes = ["whatsapp_business_messaging"]
    status, answer = await rig.call("GET", f"/v24.0/{number.waba_id}/phone_numbers", headers=number.auth)
    assert (status, answer["error"]["code"]) == (403, 200)


async def test_registration_and_maintenance_come_before_the_content(rig, number):
    await rig.control("PATCH", f"/numbers/{number.id}", {"registered": False})
    status, error, _ = await refused(rig, number, {"to": "nonsense"})
    assert (status, error["message"]) == (400, "(#133010) Account not registered")
    await rig.control("PATCH", f"/numbers/{number.id}", {"registered": True, "maintenance": True})
    status, error, _ = await refused(rig, number, TEXT)
    assert (status, error["code"]) == (500, 131057)


async def test_messaging_product_is_required_and_malformed_json_lacks_it(rig, number):
    path = f"/v24.0/{number.id}/messages"
    for body in (b"{", b"[]", b"null", b"\xff", b'{"to": "+491701234567"}', b"[" * 100_000):
        headers = {**number.auth, "Content-Type": "application/json"}
        status, answer = await rig.call("POST", path, data=body, headers=headers)
        assert (status, answer["error"]["message"]) == (
            400,
            "(#100) The parameter messaging_product is required.",
        )
    status, answer = await rig.call("POST", path, json={**TEXT, "messaging_product": "sms"}, headers=number.auth)
    assert answer["error"]["code"] == 100


@pytest.mark.parametrize(
    ("body", "code", "details"),
    [
        ({"type": "text", "text": {"body": "x"}}, 100, "parameter to is required"),
        ({"to": "+491701234567", "type": "poll", "poll": {}}, 131051, "poll"),
        ({"to": "+491701234567"}, 100, "parameter type is required"),
        ({**TEXT, "surprise": 1}, 100, 'Unexpected key "surprise"'),
        ({**TEXT, "image": {"id": "1"}}, 100, 'Unexpected key "image"'),
        ({**TEXT, "to": "12"}, 131009, "to is not a valid phone number"),
        ({**TEXT, "to": "+49 170 abc"}, 131009, "to is not a valid phone number"),
        ({**TEXT, "to": {}}, 100, "Param to must be a string"),
        ({**TEXT, "recipient_type": "group"}, 131009, "Groups"),
        ({**TEXT, "biz_opaque_callback_data": "x" * 513}, 100, "biz_opaque_callback_data"),
        ({**TEXT, "context": {"message_id": 5}}, 100, "context['message_id'] must be a string"),
        (of_type("text", {}), 131008, "text['body']"),
        (of_type("text", {"body": ""}), 131008, "text['body']"),
        (of_type("text", {"body": 5}), 100, "text['body'] must be a string"),
        (of_type("text", "hi"), 100, "text must be a JSON object"),
        (of_type("text", {"body": "x", "preview_url": "yes"}), 100, "preview_url"),
        (of_type("text", {"body": "x", "colour": "red"}), 100, 'Unexpected key "colour" on param "text"'),
        (of_type("image", {}), 131008, "image['id'] or image['link']"),
        (of_type("image", {"id": "1", "link": "https://a.example/x.png"}), 131009, "Exactly one"),
        (of_type("image", {"link": "ftp://a.example/x.png"}), 100, "not a valid URI"),
        (of_type("image", {"id": "123456"}), 100, "image['id'] is not a valid WhatsApp business account media"),
        (of_type("image", {"id": 123456}), 100, "image['id'] must be a string"),
        (of_type("image", {"link": "https://a.example/x.png", "caption": "c" * 1025}), 100, "caption"),
        (of_type("audio", {"link": "https://a.example/x.ogg", "caption": "c"}), 100, 'Unexpected key "caption"'),
        (of_type("sticker", {"link": "https://a.example/x", "caption": "c"}), 100, 'Unexpected key "caption"'),
        (of_type("location", {"latitude": 91, "longitude": 0}), 100, "location['latitude']"),
        (of_type("location", {"latitude": "north", "longitude": 0}), 100, "location['latitude']"),
        (of_type("location", {"latitude": 1}), 131008, "location['longitude']"),
        (of_type("contacts", []), 100, "contacts must have between 1"),
        (of_type("contacts", [{"name": {"first_name": "Ana"}}]), 131008, "formatted_name"),
        (of_type("contacts", [{"name": {"formatted_name": "A"}, "birthday": "1/2/99"}]), 100, "birthday"),
        (of_type("reaction", {"message_id": "wamid.x"}), 131008, "reaction['emoji']"),
        ({**of_type("reaction", {"message_id": "w", "emoji": "x"}), "context": {"message_id": "w"}}, 100, "context"),
        (interactive(type="flow"), 131009, "flow"),
        (interactive(type="dance"), 100, "interactive['type'] must be one of"),
        (interactive(body={"text": "x" * 1025}), 100, "interactive['body']['text']"),
        (interactive(action={"buttons": BUTTONS}), 100, "between 1 and 3"),
        (interactive(action={"buttons": [BUTTONS[0], BUTTONS[0]]}), 131009, "unique"),
        (interactive(header={"type": "video"}), 131008, "interactive['header']['video']"),
        (interactive(header={"type": "image", "image": {"id": "77777"}}), 100, "image['id'] is not a valid"),
        (interactive(type="list", action={"button": "Go", "sections": []}), 100, "sections"),
        (interactive(type="cta_url", action={"name": "cta_url", "parameters": {"display_text": "x"}}), 131008, "url"),
        (of_type("template", {"name": "hello_world"}), 131008, "template['language']"),
        (of_type("template", {"name": "hello_world", "language": "en"}), 100, "template['language']"),
    ],
)
async def test_schema_refuses(rig, number, body, code, details):
    await rig.control("PATCH", f"/numbers/{number.id}", {"accountError": 368})
    status, error, _ = await refused(rig, number, body)
    assert (status, error["code"]) == (400, code)
    text = error["message"] + error.get("error_data", {}).get("details", "")
    assert details in text
    assert await rig.sent(number) == []


async def test_list_limits_count_rows_of_all_sections(rig, number):
    rows = [{"id": f"r{n}", "title": f"Row {n}"} for n in range(11)]
    sections = [{"title": "A", "rows": rows[:6]}, {"title": "B", "rows": rows[6:]}]
    _, error, _ = await refused(rig, number, interactive(type="list", action={"button": "Go", "sections": sections}))
    assert (error["code"], error["error_data"]["details"]) == (
        131009,
        "A list has at most 10 rows in all its sections.",
    )


async def test_throughput_is_refused_with_130429_before_the_account_state(rig):
    number = await rig.number(throughput=3)
    await rig.control("PATCH", f"/numbers/{number.id}", {"accountError": 131031})
    for n in range(3):
        _, error, _ = await refused(rig, number, {**TEXT, "to": f"+49170123456{n}"})
        assert error["code"] == 131031
    status, error, _ = await refused(rig, number, TEXT)
    assert (status, error["code"]) == (400, 130429)
    await rig.control("PATCH", "/config", {"rateLimitHttpStatus": 429})
    status, error, _ = await refused(rig, number, TEXT)
    assert (status, error["code"]) == (429, 130429)
    rig.clock.advance(1.0)
    _, error, _ = await refused(rig, number, TEXT)
    assert error["code"] == 131031


async def test_pair_limit_is_per_recipient_and_refills(rig, number):
    await rig.control("PATCH", "/config", {"pairBurst": 2})
    await rig.send_text(number)
    await rig.send_text(number)
    _, error, _ = await refused(rig, number, TEXT)
    assert error["code"] == 131056
    await rig.send_text(number, to="+491709999999")
    await rig.pass_time(6)
    await rig.send_text(number)
    await rig.control("PATCH", f"/numbers/{number.id}", {"behaviour": {"pairLimit": False}})
    await rig.send_text(number)


async def test_recipient_checks(rig, number):
    _, error, _ = await refused(rig, number, {**TEXT, "to": f"+{number.digits}"})
    assert error["code"] == 131021
    await rig.control("PATCH", f"/numbers/{number.id}", {"allowedRecipients": ["+491701111111"]})
    _, error, _ = await refused(rig, number, TEXT)
    assert error["code"] == 131030
    await rig.send_text(number, to="491701111111")


async def test_a_foreign_or_invented_user_id_is_refused(rig, number):
    other = await rig.number()
    await rig.hears(other, userId="DE.123")
    for user_id in ("DE.123", "DE.999"):
        _, error, _ = await refused(rig, number, {"recipient": user_id, "type": "text", "text": {"body": "x"}})
        assert (error["code"], error["error_data"]["details"]) == (
            131009,
            "Parameter recipient is not a business-scoped user ID of this business.",
        )


async def test_versions(rig, number):
    for path, version in [("/v19.0/", "v21.0"), ("/v26.0/", "v26.0"), ("/", "v21.0")]:
        async with rig.http.get(f"{rig.base}{path}{number.id}", headers=number.auth) as answer:
            assert (answer.status, answer.headers["facebook-api-version"]) == (200, version)
    status, answer = await rig.call("GET", f"/v99.0/{number.id}", headers=number.auth)
    assert (status, answer["error"]["code"]) == (400, 2500)
    status, answer = await rig.call("GET", f"/v24.0/{number.id}/dances", headers=number.auth)
    assert (status, answer["error"]["message"]) == (400, "Unknown path components: /dances")


async def test_appsecret_proof_is_checked_when_given(rig, number):
    proof = hmac.new(rig.secret.encode(), number.token.encode(), hashlib.sha256).hexdigest()
    path = f"/v24.0/{number.id}?appsecret_proof="
    assert (await rig.call("GET", path + proof, headers=number.auth))[0] == 200
    status, answer = await rig.call("GET", path + "0" * 64, headers=number.auth)
    assert (status, answer["error"]["code"]) == (400, 100)


async def test_the_app_token_reaches_no_number(rig, number):
    status, answer = await rig.call("GET", f"/v24.0/{number.id}", params={"access_token": rig.app_token})
    assert (status, answer["error"]["error_subcode"]) == (400, 33)
