"""Two workspaces side by side: neither sees anything of the other."""

import pytest

from devstack.workspace import Refused


async def test_ids_of_another_workspace_do_not_exist(shop, other_shop) -> None:
    await shop.customer_writes("16505550200", "Private")
    conversation = await shop.conversation_with("16505550200")
    [message] = await shop.messages(conversation["id"])
    foreign = {
        f"/v1/conversations/{conversation['id']}": "CONVERSATION_NOT_FOUND",
        f"/v1/conversations/{conversation['id']}/messages": "CONVERSATION_NOT_FOUND",
        f"/v1/messages/{message['id']}": "MESSAGE_NOT_FOUND",
        f"/v1/contacts/{conversation['contact']['id']}": "CONTACT_NOT_FOUND",
        f"/v1/whatsapp-accounts/{shop.account['id']}": "WHATSAPP_ACCOUNT_NOT_FOUND",
    }
    for path, reason in foreign.items():
        with pytest.raises(Refused) as refused:
            await other_shop.get(path)
        assert (refused.value.status, refused.value.code) == (404, reason), path
    with pytest.raises(Refused) as refused:
        await other_shop.answer(conversation["id"], "Let me in")
    assert refused.value.status == 404
    assert len(await shop.messages(conversation["id"])) == 1
    assert await other_shop.conversations() == []


async def test_one_customer_of_two_workspaces_is_two_contacts(shop, other_shop) -> None:
    await shop.customer_writes("16505550201", "To the first")
    await other_shop.customer_writes("16505550201", "To the second")
    first = await shop.conversation_with("16505550201")
    second = await other_shop.conversation_with("16505550201")
    assert first["contact"]["id"] != second["contact"]["id"]
    assert first["lastMessage"]["text"]["body"] == "To the first"
    assert second["lastMessage"]["text"]["body"] == "To the second"


async def test_a_stream_carries_only_its_own_workspace(shop, other_shop) -> None:
    async with shop.stream() as mine, other_shop.stream() as theirs:
        await shop.customer_writes("16505550202", "For the first only")
        await mine.until(lambda s: s.of_kind("messaging.message.received"), "the message")
        await other_shop.customer_writes("16505550203", "For the second only")
        await theirs.until(lambda s: s.of_kind("messaging.message.received"), "the other message")
        texts = [data["message"]["text"]["body"] for data in theirs.of_kind("messaging.message.received")]
    assert texts == ["For the second only"]


async def test_a_number_belongs_to_one_workspace(shop, other_shop) -> None:
    credentials = {key: shop.number[key] for key in ("wabaId", "phoneNumberId", "accessToken")}
    with pytest.raises(Refused) as refused:
        await other_shop.post("/v1/whatsapp-accounts", credentials)
    assert (refused.value.status, refused.value.code) == (409, "NUMBER_TAKEN")
