"""What the customer's phone shows of a chat: only what has reached it."""


async def chat_of(rig, number) -> dict:
    [customer] = (await rig.control("GET", f"/customers?phoneNumberId={number.id}"))["customers"]
    return customer["chat"]


async def test_a_chat_counts_what_has_reached_the_phone_and_was_not_seen(rig, number):
    heard = await rig.hears(number)
    customer = {"phoneNumberId": number.id, "customerId": heard["customerId"]}
    await rig.control("PATCH", f"/customers/{heard['customerId']}", {"online": False, "readReceipts": False})
    sent = await rig.send_text(number)
    await rig.pass_time(times=4)
    chat = await chat_of(rig, number)
    assert (chat["unread"], chat["lastMessage"]["wamid"]) == (0, heard["wamid"])
    await rig.control("PATCH", f"/customers/{heard['customerId']}", {"online": True})
    await rig.pass_time(times=4)
    chat = await chat_of(rig, number)
    assert (chat["unread"], chat["lastMessage"]["wamid"]) == (1, sent)
    # Without read receipts the business never learns that it was seen, but it was.
    await rig.control("PATCH", "/chat", {**customer, "opened": True})
    assert (await chat_of(rig, number))["unread"] == 0
    assert [step["status"] for step in (await rig.sent(number))[0]["statuses"]] == ["sent", "delivered"]


async def test_a_reaction_of_the_business_reaches_the_phone(rig, number):
    heard = await rig.hears(number)
    reaction = {"message_id": heard["wamid"], "emoji": "👍"}
    status, answer = await rig.post_message(number, to="+491701234567", type="reaction", reaction=reaction)
    assert status == 200
    await rig.pass_time(times=2)
    chat = await chat_of(rig, number)
    assert (chat["unread"], chat["lastMessage"]["wamid"]) == (0, answer["messages"][0]["id"])
