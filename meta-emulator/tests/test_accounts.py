import json

import pytest


async def test_the_number_prints_its_default_fields(rig, number):
    status, answer = await rig.call("GET", f"/v24.0/{number.id}", headers=number.auth)
    assert status == 200
    assert answer == {
        "verified_name": "Demo Business 1",
        "code_verification_status": "VERIFIED",
        "display_phone_number": "+1 555-010-0200",
        "quality_rating": "GREEN",
        "platform_type": "CLOUD_API",
        "throughput": {"level": "STANDARD"},
        "webhook_configuration": {"application": rig.callback.url},
        "id": number.id,
    }


async def test_fields_are_chosen_and_unknown_ones_refused_by_name(rig, number):
    path = f"/v24.0/{number.id}?fields="
    _, answer = await rig.call("GET", path + "id,verified_name,quality_score{score},throughput", headers=number.auth)
    assert answer == {
        "verified_name": "Demo Business 1",
        "quality_score": {"score": "GREEN"},
        "throughput": {"level": "STANDARD"},
        "id": number.id,
    }
    status, answer = await rig.call("GET", path + "verified_name,shoe_size", headers=number.auth)
    assert status == 400
    assert answer["error"]["message"] == (
        "(#100) Tried accessing nonexisting field (shoe_size) on node type (WhatsAppBusinessPhoneNumber)"
    )


async def test_a_high_throughput_number_says_so(rig):
    number = await rig.number(throughput=1000)
    _, answer = await rig.call("GET", f"/v24.0/{number.id}?fields=throughput", headers=number.auth)
    assert answer["throughput"] == {"level": "HIGH"}


async def test_what_meta_thinks_of_a_number_can_be_changed(rig, number):
    limits = "messaging_limit_tier,whatsapp_business_manager_messaging_limit"
    fields = f"status,quality_rating,name_status,{limits},throughput"
    path = f"/v24.0/{number.id}?fields={fields}"
    _, before = await rig.call("GET", path, headers=number.auth)
    assert (before["status"], before["quality_rating"], before["name_status"]) == ("CONNECTED", "GREEN", "APPROVED")
    change = {
        "status": "RESTRICTED",
        "qualityRating": "RED",
        "nameStatus": "DECLINED",
        "messagingLimit": "TIER_2K",
        "behaviour": {"throughputPerSecond": 1000},
    }
    shown = await rig.control("PATCH", f"/numbers/{number.id}", change)
    assert change.items() <= shown.items()
    _, after = await rig.call("GET", path, headers=number.auth)
    assert after == {
        "status": "RESTRICTED",
        "quality_rating": "RED",
        "name_status": "DECLINED",
        "messaging_limit_tier": "TIER_2K",
        "whatsapp_business_manager_messaging_limit": "TIER_2K",
        "throughput": {"level": "HIGH"},
        "id": number.id,
    }
    await rig.control("PATCH", f"/numbers/{number.id}", {"status": None})
    _, again = await rig.call("GET", path, headers=number.auth)
    assert again["status"] == "CONNECTED"
    refused = await rig.control("PATCH", f"/numbers/{number.id}", {"qualityRating": "PURPLE"}, expect=400)
    assert refused["error"]["field"] == "qualityRating"


async def test_health_is_that_of_the_worst_entity(rig, number):
    path = f"/v24.0/{number.id}?fields=health_status"
    _, answer = await rig.call("GET", path, headers=number.auth)
    assert answer["health_status"]["can_send_message"] == "AVAILABLE"
    await rig.control("PATCH", f"/numbers/{number.id}", {"accountError": 131031})
    _, answer = await rig.call("GET", path, headers=number.auth)
    assert answer["health_status"]["can_send_message"] == "BLOCKED"
    (blocked,) = [e for e in answer["health_status"]["entities"] if e["can_send_message"] == "BLOCKED"]
    assert (blocked["entity_type"], blocked["errors"][0]["error_code"]) == ("WABA", 131031)


async def test_the_waba_and_its_numbers_newest_first(rig, number):
    _, waba = await rig.call("GET", f"/v24.0/{number.waba_id}", headers=number.auth)
    assert set(waba) == {"id", "name", "currency", "timezone_id", "message_template_namespace"}
    rig.clock.advance(1)
    second = await rig.number(wabaId=number.waba_id)
    path = f"/v24.0/{number.waba_id}/phone_numbers?fields=id,display_phone_number&limit=1"
    _, first_page = await rig.call("GET", path, headers=number.auth)
    assert [item["id"] for item in first_page["data"]] == [second.id]
    _, last_page = await rig.call("GET", first_page["paging"]["next"].removeprefix(rig.base))
    assert [item["id"] for item in last_page["data"]] == [number.id]
    assert "next" not in last_page["paging"]
    before = last_page["paging"]["cursors"]["before"]
    _, again = await rig.call("GET", f"{path}&before={before}", headers=number.auth)
    assert [item["id"] for item in again["data"]] == [second.id]


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "after=%21%21", "after=QQ"])
async def test_bad_paging_is_refused(rig, number, query):
    path = f"/v24.0/{number.waba_id}/phone_numbers?{query}"
    status, answer = await rig.call("GET", path, headers=number.auth)
    assert (status, answer["error"]["code"]) == (400, 100)


async def test_management_calls_report_usage_and_end_in_80007(rig, number):
    path = f"{rig.base}/v24.0/{number.waba_id}"
    async with rig.http.get(path, headers=number.auth) as answer:
        usage = json.loads(answer.headers["x-business-use-case-usage"])
    (entry,) = usage[number.waba_id]
    assert (entry["type"], entry["call_count"], entry["estimated_time_to_regain_access"]) == (
        "whatsapp_business_management",
        0,
        0,
    )
    for _ in range(4999):
        rig.em.limits.management_calls(number.waba_id, rig.clock.now())
    async with rig.http.get(path, headers=number.auth) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["code"] == 80007
        assert json.loads(answer.headers["x-business-use-case-usage"])[number.waba_id][0]["call_count"] == 100
    await rig.hears(number)
    await rig.send_text(number)
    rig.clock.advance(3600)
    async with rig.http.get(path, headers=number.auth) as answer:
        assert answer.status == 200


async def test_debug_token_tells_scopes_and_the_waba(rig, number):
    path = f"/v24.0/debug_token?input_token={number.token}"
    for caller in (number.auth, {"Authorization": f"Bearer {rig.app_token}"}):
        status, answer = await rig.call("GET", path, headers=caller)
        assert status == 200
        data = answer["data"]
        assert (data["app_id"], data["is_valid"], data["expires_at"]) == (rig.settings.app_id, True, 0)
        assert {"whatsapp_business_management", "whatsapp_business_messaging"} <= set(data["scopes"])
        assert data["granular_scopes"] == [
            {"scope": "whatsapp_business_management", "target_ids": [number.waba_id]},
            {"scope": "whatsapp_business_messaging", "target_ids": [number.waba_id]},
        ]


async def test_debug_token_shows_invalid_and_revoked_ones(rig, number):
    auth = {"Authorization": f"Bearer {rig.app_token}"}
    _, answer = await rig.call("GET", "/v24.0/debug_token?input_token=garbage", headers=auth)
    assert (answer["data"]["is_valid"], answer["data"]["scopes"]) == (False, [])
    await rig.control("DELETE", f"/numbers/{number.id}/tokens")
    _, answer = await rig.call("GET", f"/debug_token?input_token={number.token}", headers=auth)
    assert (answer["data"]["is_valid"], answer["data"]["error"]["subcode"]) == (False, 467)
    _, answer = await rig.call("GET", f"/debug_token?input_token={rig.app_token}", headers=auth)
    assert answer["data"]["type"] == "APP"
    status, answer = await rig.call("GET", "/v24.0/debug_token", headers=auth)
    assert (status, answer["error"]["code"]) == (400, 100)


async def test_a_token_ends_and_loses_a_permission_when_told_to(rig, number):
    path = f"/v24.0/debug_token?input_token={number.token}"
    app = {"Authorization": f"Bearer {rig.app_token}"}
    change = {
        "expiresInSeconds": 60,
        "dataAccessExpiresInSeconds": 120,
        "scopes": ["whatsapp_business_messaging"],
    }
    assert await rig.control("PATCH", f"/numbers/{number.id}/tokens", change) == {"changed": 1}
    data = (await rig.call("GET", path, headers=app))[1]["data"]
    now = int(rig.clock.now())
    assert (data["is_valid"], data["expires_at"], data["data_access_expires_at"]) == (True, now + 60, now + 120)
    assert data["scopes"] == ["whatsapp_business_messaging", "public_profile"]
    status, answer = await rig.call("GET", f"/v24.0/{number.waba_id}/phone_numbers", headers=number.auth)
    assert (status, answer["error"]["code"]) == (403, 200)
    rig.clock.advance(60)
    data = (await rig.call("GET", path, headers=app))[1]["data"]
    assert (data["is_valid"], data["error"]["subcode"]) == (False, 463)
    status, answer = await rig.call("GET", f"/v24.0/{number.waba_id}", headers=number.auth)
    assert (status, answer["error"]["code"]) == (401, 190)
    await rig.control("PATCH", f"/numbers/{number.id}/tokens", {"expiresInSeconds": None})
    data = (await rig.call("GET", path, headers=app))[1]["data"]
    assert (data["is_valid"], data["expires_at"]) == (True, 0)


async def test_a_business_token_does_not_see_others(rig, number):
    other = await rig.number()
    _, answer = await rig.call("GET", f"/v24.0/debug_token?input_token={other.token}", headers=number.auth)
    assert answer["data"]["is_valid"] is False


async def register(rig, number, **body):
    request = {"messaging_product": "whatsapp", **body}
    return await rig.call("POST", f"/v24.0/{number.id}/register", headers=number.auth, json=request)


async def test_register_sets_the_pin_and_checks_it_afterwards(rig):
    number = await rig.number(registered=False)
    assert (await register(rig, number))[1]["error"]["message"] == "(#100) The parameter pin is required."
    assert (await register(rig, number, pin="12"))[1]["error"]["code"] == 100
    assert await register(rig, number, pin="581063") == (200, {"success": True})
    _, facts = await rig.call("GET", f"/v24.0/{number.id}?fields=status,is_pin_enabled", headers=number.auth)
    assert (facts["status"], facts["is_pin_enabled"]) == ("CONNECTED", True)
    assert (await register(rig, number, pin="000000"))[1]["error"]["code"] == 133005
    assert await rig.call("POST", f"/v24.0/{number.id}", headers=number.auth, json={"pin": "150954"}) == (
        200,
        {"success": True},
    )
    assert (await register(rig, number, pin=150954))[0] == 200
    status, answer = await rig.call("POST", f"/v24.0/{number.id}", headers=number.auth, json={})
    assert (status, answer["error"]["code"]) == (400, 100)


async def test_too_many_registrations_are_refused_for_three_days(rig, number):
    for _ in range(10):
        assert (await register(rig, number, pin="581063"))[0] == 200
    assert (await register(rig, number, pin="581063"))[1]["error"]["code"] == 133016
    rig.clock.advance(72 * 3600)
    assert (await register(rig, number, pin="581063"))[0] == 200


async def test_a_deregistered_number_cannot_send(rig, number):
    path = f"/v24.0/{number.id}/deregister"
    assert await rig.call("POST", path, headers=number.auth) == (200, {"success": True})
    _, answer = await rig.post_message(number, to="491701234567", type="text", text={"body": "x"})
    assert answer["error"]["code"] == 133010


async def test_app_subscriptions_need_the_app_token_and_the_own_app(rig, number):
    path = f"/v24.0/{rig.settings.app_id}/subscriptions"
    _, answer = await rig.call("GET", path, headers=number.auth)
    assert answer["error"]["code"] == 15
    auth = {"Authorization": f"Bearer {rig.app_token}"}
    _, answer = await rig.call("GET", "/v24.0/99999999999/subscriptions", headers=auth)
    assert answer["error"]["error_subcode"] == 33
