"""A customer's WhatsApp message reaches the team, and the answer reaches the customer."""

import asyncio
import base64

from devstack.workspace import until

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def word(message: dict) -> tuple[str, str]:
    return message["direction"], message["text"]["body"]


async def test_a_question_arrives_and_its_answer_is_read(shop) -> None:
    async with shop.stream() as live:
        wamid = await shop.customer_writes("16505550100", "Is it in stock?", name="Ana Souza")
        await live.until(lambda s: s.of_kind("messaging.message.received"), "the question on the live stream")
        conversation = await shop.conversation_with("16505550100")
        assert conversation["contact"]["name"] == "Ana Souza"
        assert conversation["unansweredCount"] == 1
        assert "windowExpireTime" in conversation
        answer = await shop.answer(conversation["id"], "Yes, in blue.")
        assert answer["status"] == "queued"
        await shop.message_reaches(answer["id"], "read")
        await live.until(
            lambda s: any(
                data["message"]["status"] == "read" and data["message"]["id"] == answer["id"]
                for data in s.of_kind("messaging.message.updated")
            ),
            "the read receipt on the live stream",
        )

    async def all_steps() -> list | None:
        # Words of Meta's may overtake each other, and our own note of what Meta accepted.
        messages = await shop.messages(conversation["id"])
        return messages if len(messages[-1]["statusHistory"]) == 5 else None

    question, reply = await until(all_steps, "every step of the answer")
    assert word(question) == ("inbound", "Is it in stock?")
    assert question["wamid"] == wamid
    assert question["status"] == "received"
    assert word(reply) == ("outbound", "Yes, in blue.")
    assert [change["status"] for change in reply["statusHistory"]] == [
        "queued", "accepted", "sent", "delivered", "read",
    ]  # fmt: skip
    [shown] = await shop.phone_shows()
    assert shown["text"]["body"] == "Yes, in blue."
    assert shown["wamid"] == reply["wamid"]
    assert (await shop.get(f"/v1/conversations/{conversation['id']}"))["unansweredCount"] == 0


async def test_the_same_request_id_sends_once(shop) -> None:
    await shop.customer_writes("16505550101", "Hello")
    conversation = await shop.conversation_with("16505550101")
    answers = await asyncio.gather(
        *(shop.answer(conversation["id"], "Hello, how can we help?", requestId="greeting-1") for _ in range(5))
    )
    assert len({answer["id"] for answer in answers}) == 1
    await shop.message_reaches(answers[0]["id"], "read")
    assert len(await shop.phone_shows()) == 1


async def test_messages_of_one_conversation_reach_the_phone_in_order(shop) -> None:
    await shop.customer_writes("16505550102", "Tell me a story")
    conversation = await shop.conversation_with("16505550102")
    texts = [f"Line {number}" for number in range(12)]
    sent = [await shop.answer(conversation["id"], text) for text in texts]
    await shop.message_reaches(sent[-1]["id"], "sent", "delivered", "read")
    assert [shown["text"]["body"] for shown in await shop.phone_shows()] == texts


async def test_what_a_customer_writes_in_a_row_is_one_conversation_in_order(shop) -> None:
    texts = [f"Part {number}" for number in range(10)]
    for text in texts:
        await shop.customer_writes("16505550103", text)
    conversation = await shop.conversation_with("16505550103")

    async def all_there() -> list | None:
        messages = await shop.messages(conversation["id"])
        return messages if len(messages) == len(texts) else None

    messages = await until(all_there, "all ten parts")
    assert sorted(message["text"]["body"] for message in messages) == sorted(texts)
    assert len([c for c in await shop.conversations() if c["contact"]["waId"] == "16505550103"]) == 1


async def test_an_image_of_the_customer_can_be_downloaded(shop) -> None:
    image = {"mime_type": "image/png", "caption": "This one", "data": base64.b64encode(PIXEL).decode()}
    await shop.customer_sends("16505550104", {"type": "image", "image": image})
    conversation = await shop.conversation_with("16505550104")

    async def fetched() -> dict | None:
        [message] = await shop.messages(conversation["id"])
        return message if message["media"]["state"] == "ready" else None

    message = await until(fetched, "the image")
    assert message["media"]["caption"] == "This one"
    url = f"{shop.api}/v1/media/{message['media']['mediaId']}/content"
    async with shop.http.get(url, headers={"Authorization": f"Bearer {shop.token}"}) as response:
        assert response.status == 200
        assert response.content_type == "image/png"
        assert await response.read() == PIXEL


async def test_an_uploaded_image_reaches_the_phone_as_a_quote(shop) -> None:
    wamid = await shop.customer_writes("16505550105", "Show me")
    conversation = await shop.conversation_with("16505550105")
    headers = {"Authorization": f"Bearer {shop.token}", "Content-Type": "image/png"}
    async with shop.http.post(f"{shop.api}/v1/media", data=PIXEL, headers=headers) as response:
        media = await response.json()
        assert response.status == 200, media
    [question] = await shop.messages(conversation["id"])
    sent = await shop.post(
        f"/v1/conversations/{conversation['id']}/messages",
        {"image": {"mediaId": media["id"], "caption": "Here"}, "replyToMessageId": question["id"]},
    )
    await shop.message_reaches(sent["id"], "read")
    [shown] = await shop.phone_shows()
    assert shown["type"] == "image"
    assert shown["image"]["caption"] == "Here"
    assert shown["context"]["message_id"] == wamid


async def test_a_template_starts_a_conversation(shop) -> None:
    template = {"name": "hello_world", "language": "en_US"}
    sent = await shop.post("/v1/messages", {"to": "+16505550106", "template": template})
    assert sent["type"] == "template"
    await shop.message_reaches(sent["id"], "read")
    [shown] = await shop.phone_shows()
    assert shown["template"]["name"] == "hello_world"
    await shop.customer_writes("16505550106", "Hi!")

    async def both() -> list | None:
        messages = await shop.messages(sent["conversationId"])
        return messages if len(messages) == 2 else None

    await until(both, "the customer's answer in the same conversation")


async def test_a_refused_template_fails_with_metas_reason(shop) -> None:
    template = {"name": "never_approved", "language": "en_US"}
    sent = await shop.post("/v1/messages", {"to": "+16505550107", "template": template})
    failed = await shop.message_reaches(sent["id"], "failed")
    assert failed["failure"]["metaCode"] == 132001
    assert failed["failure"]["detail"]
    assert failed["failure"]["advice"]


async def test_a_stream_resumes_without_gap_or_repetition(shop) -> None:
    async with shop.stream() as live:
        await shop.customer_writes("16505550108", "one")
        await live.until(lambda s: s.of_kind("messaging.message.received"), "the first message")
        await asyncio.sleep(0.5)
        last, before = live.events[-1][0], list(live.events)
    conversation = await shop.conversation_with("16505550108")

    for text in ("two", "three"):
        await shop.customer_writes("16505550108", text)

        async def is_stored(text=text) -> bool | None:
            return word((await shop.messages(conversation["id"]))[-1]) == ("inbound", text) or None

        # Two that are on their way together may overtake each other.
        await until(is_stored, f"{text} being stored")
    async with shop.stream(last_event_id=last) as live:
        await live.until(lambda s: len(s.of_kind("messaging.message.received")) == 2, "the two missed messages")
        await shop.customer_writes("16505550108", "four")
        await live.until(lambda s: len(s.of_kind("messaging.message.received")) == 3, "the live one")
        received = [data["message"]["text"]["body"] for data in live.of_kind("messaging.message.received")]
        ids = [event_id for event_id, _, _ in [*before, *live.events]]
    assert received == ["two", "three", "four"]
    assert len(ids) == len(set(ids))
