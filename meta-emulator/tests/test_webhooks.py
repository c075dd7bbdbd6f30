import asyncio

import pytest

from meta_emulator.webhooks import delivery


async def test_every_webhook_is_signed_and_escaped(rig, number):
    await rig.hears(number, message={"type": "text", "text": {"body": "Olá 😀 a/b"}})
    await rig.settle()
    (post,) = rig.callback.posts
    assert post.is_signed
    assert post.headers["User-Agent"] == "facebookexternalua"
    assert post.headers["Content-Type"] == "application/json"
    assert post.headers["X-Hub-Signature"].startswith("sha1=")
    assert rb"Ol\u00e1 \ud83d\ude00 a\/b" in post.body
    assert post.body.isascii()


async def test_without_subscription_nothing_leaves(rig):
    number = await rig.number(subscribed=False)
    answer = await rig.hears(number)
    assert answer["webhook"] == "not_subscribed"
    await rig.send_text(number)
    await rig.pass_time(times=5)
    assert rig.callback.posts == []
    assert (await rig.sent(number))[0]["status"] == "read"


async def test_subscribing_starts_and_unsubscribing_stops_webhooks(rig):
    number = await rig.number(subscribed=False)
    path = f"/v24.0/{number.waba_id}/subscribed_apps"
    assert await rig.call("GET", path, headers=number.auth) == (200, {"data": []})
    assert await rig.call("POST", path, headers=number.auth) == (200, {"success": True})
    _, listed = await rig.call("GET", path, headers=number.auth)
    assert listed["data"][0]["whatsapp_business_api_data"]["id"] == rig.settings.app_id
    assert (await rig.hears(number))["webhook"] == "queued"
    assert await rig.call("DELETE", path, headers=number.auth) == (200, {"success": True})
    assert (await rig.hears(number))["webhook"] == "not_subscribed"


async def test_an_override_is_verified_before_it_counts(rig, make_rig, number):
    other = type(rig.callback)(verify_token="other")
    await other.start()
    path = f"/v24.0/{number.waba_id}/subscribed_apps"
    try:
        wrong = {"override_callback_uri": other.url, "verify_token": "wrong"}
        status, answer = await rig.call("POST", path, headers=number.auth, json=wrong)
        assert (status, answer["error"]["code"]) == (400, 2200)
        assert "HTTP 403" in answer["error"]["message"]
        right = {**wrong, "verify_token": "other"}
        assert (await rig.call("POST", path, headers=number.auth, json=right))[0] == 200
        await rig.hears(number)
        await rig.settle()
        assert (len(rig.callback.posts), len(other.posts)) == (0, 1)

        own = {"webhook_configuration": {"override_callback_uri": rig.callback.url, "verify_token": "vibe"}}
        assert (await rig.call("POST", f"/v24.0/{number.id}", headers=number.auth, json=own))[0] == 200
        await rig.hears(number)
        await rig.settle()
        assert (len(rig.callback.posts), len(other.posts)) == (1, 1)
        _, got = await rig.call("GET", f"/v24.0/{number.id}?fields=webhook_configuration", headers=number.auth)
        assert got["webhook_configuration"] == {
            "application": rig.callback.url,
            "whatsapp_business_account": other.url,
            "phone_number": rig.callback.url,
        }
    finally:
        await other.runner.cleanup()


async def test_the_callback_must_echo_the_bare_challenge(rig):
    rig.callback.challenge_answer = '"123"'
    answer = await rig.control("POST", "/callback", {}, expect=422)
    assert answer["error"]["message"] == "the callback did not answer with the plain challenge."
    rig.callback.challenge_answer = None
    answer = await rig.control("POST", "/callback", {})
    assert answer == {"callbackUrl": rig.callback.url, "verified": True}
    answer = await rig.control("POST", "/callback", {"callbackUrl": "http://127.0.0.1:1/hook"}, expect=422)
    assert "could not be reached" in answer["error"]["message"]


async def test_the_app_token_may_move_the_callback(rig):
    path = f"/v24.0/{rig.settings.app_id}/subscriptions"
    body = {"object": "whatsapp_business_account", "callback_url": rig.callback.url, "verify_token": "nope"}
    auth = {"Authorization": f"Bearer {rig.app_token}"}
    assert (await rig.call("POST", path, headers=auth, json=body))[1]["error"]["code"] == 2200
    body["verify_token"] = "vibe"
    assert await rig.call("POST", path, headers=auth, json=body) == (200, {"success": True})
    assert (await rig.call("GET", path, headers=auth))[1]["data"][0]["callback_url"] == rig.callback.url


@pytest.mark.parametrize("answer", [500, 404, 204, 301])
async def test_anything_but_200_is_retried_with_the_same_bytes(rig, number, answer):
    rig.callback.answers = [answer] * 4
    await rig.hears(number)
    await rig.settle()
    # The first retry is immediate, the next follow after Meta's minutes, scaled by 1/60.
    await rig.pass_time(0)
    assert len(rig.callback.posts) == 2
    for wait in (1, 2):
        await rig.pass_time(wait - 0.1)
        seen = len(rig.callback.posts)
        await rig.pass_time(0.2)
        assert len(rig.callback.posts) == seen + 1
    assert (await rig.control("GET", "/webhooks"))["pending"] == 1
    await rig.pass_time(4)
    assert len(rig.callback.posts) == 5
    assert len({post.body for post in rig.callback.posts}) == 1
    state = await rig.control("GET", "/webhooks")
    assert (state["pending"], state["delivered"], state["retries"], state["dropped"]) == (0, 1, 4, 0)


async def test_waits_grow_up_to_the_cap_and_end_in_a_drop(make_rig):
    rig = await make_rig(webhook_retry_factor=1.0, webhook_retry_max_seconds=14400, webhook_give_up_seconds=10_000)
    number = await rig.number()
    rig.callback.answers = [503] * 100
    await rig.hears(number)
    await rig.settle()
    waits = []
    while rig.em.world.deliveries:
        (when, _), *_ = rig.em.schedule.pending()
        waits.append(round(when - rig.clock.now()))
        await rig.pass_time(when - rig.clock.now())
    assert waits == [60, 120, 240, 480, 900, 1800, 3600, 7200]
    assert (await rig.control("GET", "/webhooks"))["dropped"] == 1


async def test_waiting_webhooks_can_be_sent_at_once(rig, number):
    rig.callback.answers = [500] * 2
    await rig.hears(number)
    await rig.settle()
    await rig.pass_time(0)
    assert (await rig.control("GET", "/webhooks"))["failing"][0]["lastAnswer"] == "500"
    assert await rig.control("POST", "/webhooks/retry") == {"retrying": 1}
    await rig.settle()
    assert len(rig.callback.posts) == 3
    assert (await rig.control("GET", "/webhooks"))["pending"] == 0


async def test_an_unreachable_callback_is_retried_too(make_rig):
    rig = await make_rig(callback_url="http://127.0.0.1:1/hook")
    number = await rig.number()
    await rig.hears(number)
    await rig.settle()
    (failing,) = (await rig.control("GET", "/webhooks"))["failing"]
    assert failing["lastAnswer"] == "unreachable"


async def test_a_callback_that_never_answers_times_out(make_rig):
    rig = await make_rig(webhook_timeout_seconds=0.05)
    number = await rig.number()
    rig.callback.delay = 5
    await rig.hears(number)
    await rig.until(lambda: bool(rig.em.schedule.pending()))
    (failing,) = (await rig.control("GET", "/webhooks"))["failing"]
    assert failing["lastAnswer"] == "timeout"


async def test_updates_are_packed_up_to_the_batch_size(rig, number):
    other = await rig.number()
    await rig.control("PATCH", "/config", {"webhookBatchSize": 100, "pairLimit": False})
    await rig.hears(number)
    await rig.hears(other)
    await rig.settle()
    rig.callback.posts.clear()
    for sender in (number, other):
        for _ in range(60):
            await rig.send_text(sender)
    await rig.pass_time()
    assert len(rig.callback.statuses()) == 120
    sizes = [len(value["statuses"]) for value in rig.callback.values()]
    assert max(sizes) > 10
    assert len(rig.callback.posts) <= 3
    assert all(post.is_signed for post in rig.callback.posts)
    for post in rig.callback.posts:
        assert sum(len(value["statuses"]) for value in post.values) <= 100
    both = next(post.json for post in rig.callback.posts if len(post.json["entry"]) == 2)
    assert {entry["id"] for entry in both["entry"]} == {number.waba_id, other.waba_id}


async def test_a_batch_over_three_megabytes_is_split(rig, number):
    await rig.control("PATCH", "/config", {"webhookBatchSize": 1000})
    business = rig.em.world.numbers[number.id]
    for n in range(12):
        message = {"id": f"wamid.{n}", "type": "text", "text": {"body": "é" * 100_000}}  # six bytes each on the wire
        delivery.emit(rig.em, business, {"metadata": {"phone_number_id": number.id}, "messages": [message]})
    await rig.settle()
    assert sorted(message["id"] for message in rig.callback.messages()) == sorted(f"wamid.{n}" for n in range(12))
    assert max(len(post.body) for post in rig.callback.posts) <= delivery.PAYLOAD_BYTES_MAX
    assert 3 <= len(rig.callback.posts) <= 4


async def test_posts_run_in_parallel_up_to_the_bound(make_rig):
    rig = await make_rig(webhook_parallelism=4)
    number = await rig.number()
    rig.callback.delay = 0.02
    for n in range(12):
        message = {"id": f"wamid.{n}", "type": "text", "text": {"body": "x"}}
        delivery.emit(rig.em, rig.em.world.numbers[number.id], {"messages": [message]})
    assert len(rig.em.queue.senders) == 4
    await rig.settle()
    assert len(rig.callback.posts) == 12


async def test_a_restart_resumes_undelivered_webhooks_and_planned_statuses(make_rig, tmp_path):
    rig = await make_rig(state_file=tmp_path / "state.json", seed=None)
    number = await rig.number()
    await rig.hears(number)
    await rig.settle()
    rig.callback.answers = [500] * 2
    heard = await rig.hears(number)
    wamid = await rig.send_text(number)
    await rig.settle()
    await rig.pass_time(0)
    await rig.restart()
    await rig.pass_time(times=4)
    assert heard["wamid"] in [message["id"] for message in rig.callback.messages()]
    assert [s["status"] for s in rig.callback.statuses()] == ["sent", "delivered", "read"]
    (sent,) = await rig.sent(number)
    assert (sent["wamid"], sent["status"]) == (wamid, "read")
    assert (await rig.control("GET", "/webhooks"))["pending"] == 0


async def test_a_post_under_way_when_it_stops_goes_out_again(make_rig, tmp_path):
    rig = await make_rig(state_file=tmp_path / "state.json", seed=None)
    number = await rig.number()
    rig.callback.delay = 20
    heard = await rig.hears(number)
    await rig.until(lambda: bool(rig.em.world.deliveries))
    await rig.stop()
    rig.callback.delay = 0
    await rig.start_anew()
    await rig.settle()
    assert heard["wamid"] in [message["id"] for message in rig.callback.messages()]


async def test_a_sent_inbound_message_shows_delivered_once_the_app_took_it(rig, number):
    rig.callback.answers = [500, 500]
    heard = await rig.hears(number)
    path = f"/chat?phoneNumberId={number.id}&customerId={heard['customerId']}"
    await rig.settle()
    assert (await rig.control("GET", path))["messages"][0]["status"] == "sent"
    await rig.pass_time(1)
    assert (await rig.control("GET", path))["messages"][0]["status"] == "delivered"


async def test_a_slow_watcher_is_cut_off_and_a_quick_one_sees_events(rig, number):
    async with rig.http.get(f"{rig.base}/_emulator/events") as stream:
        assert await stream.content.readline() == b": hello\n"
        await rig.hears(number)
        async with asyncio.timeout(60):
            seen = b""
            while b'"type": "reached"' not in seen:
                seen += await stream.content.readline()
        assert b'"type": "message"' in seen
        (subscriber,) = rig.em.feed._subscribers
        for n in range(subscriber.events.maxsize + 1):
            rig.em.feed.publish({"type": "noise", "n": n})
        assert not rig.em.feed.is_watched
        async with asyncio.timeout(60):
            rest = await stream.content.read()
        assert b"noise" not in rest
