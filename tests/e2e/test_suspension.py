"""A suspended workspace sends nothing and loses nothing: what customers write is kept, what waited goes out later."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from devstack.workspace import Refused, Workspace, refusal, until

REASON = {"reason": "The invoice is open."}
SUSPENDED = (403, "TENANT_SUSPENDED")


@asynccontextmanager
async def suspended(super_admin: Workspace, shop: Workspace):
    path = f"/v1/admin/tenants/{shop.tenant_id}"
    tenant = await super_admin.post(f"{path}:suspend", REASON)
    assert (tenant["state"], tenant["suspensionReason"]) == ("suspended", REASON["reason"])
    yield
    tenant = await super_admin.post(f"{path}:resume", {})
    assert tenant["state"] == "active"


async def meets(call) -> tuple[int, str] | None:
    """Status and code of the problem; None where the call is accepted."""
    refused = await refusal(call)
    return (refused.status, refused.code) if refused else None


async def becomes(make_call, expected: tuple[int, str] | None, what: str) -> None:
    """The word of a suspension travels as an event, and what was known before it serves for seconds at most."""

    async def check() -> bool | None:
        met = await meets(make_call())
        assert met in {None, SUSPENDED}
        return met == expected or None

    await until(check, what, seconds=20)


async def test_a_suspended_workspace_cannot_send_keeps_receiving_and_goes_on_afterwards(shop, super_admin) -> None:
    await shop.customer_writes("16505550500", "Before")
    conversation = await shop.conversation_with("16505550500")
    async with suspended(super_admin, shop):
        await becomes(lambda: shop.answer(conversation["id"], "Too early"), SUSPENDED, "the refusal of a send")
        known = ids(await shop.messages(conversation["id"]))
        template = {"name": "hello_world", "language": "en_US"}
        assert await meets(shop.post("/v1/messages", {"to": "+16505550501", "template": template})) == SUSPENDED
        assert ids(await shop.messages(conversation["id"])) == known
        # Its people may read what customers write meanwhile.
        await shop.customer_writes("16505550500", "Meanwhile")

        async def arrived() -> bool | None:
            return any(text(each) == "Meanwhile" for each in await shop.messages(conversation["id"])) or None

        await until(arrived, "what the customer wrote meanwhile")
        assert (await shop.get("/v1/tenant"))["suspensionReason"] == REASON["reason"]

    await becomes(lambda: shop.answer(conversation["id"], "After"), None, "a send that is accepted again")
    await delivers_what_it_has(shop)


async def test_messages_that_were_queued_wait_for_the_resumption(product, shop, other_shop, super_admin) -> None:
    customers = [f"1650555052{number}" for number in range(4)]
    await asyncio.gather(*(shop.customer_writes(wa_id, "Everything, please") for wa_id in customers))
    conversations = [await shop.conversation_with(wa_id) for wa_id in customers]
    await other_shop.customer_writes(customers[0], "Me too")
    elsewhere = await other_shop.conversation_with(customers[0])
    texts = [f"Part {number}" for number in range(6)]
    async with AsyncExitStack() as suspension:
        # Without a sender all of them are still queued when the suspension comes, however fast the machine is.
        async with without(product, "messaging-sender"):
            sending = [shop.answer(each["id"], text) for text in texts for each in conversations]
            queued = await asyncio.gather(*sending)
            await suspension.enter_async_context(suspended(super_admin, shop))
            later = await other_shop.answer(elsewhere["id"], "Of course")
        await other_shop.message_reaches(later["id"], "read")
        assert await shop.phone_shows() == []
        statuses = [(await shop.get(f"/v1/messages/{message['id']}"))["status"] for message in queued]
        assert statuses == ["queued"] * len(queued)
    for message in queued:
        await shop.message_reaches(message["id"], "sent", "delivered", "read")
    await delivers_what_it_has(shop)
    assert sorted(text(each) for each in await shop.phone_shows()) == sorted(texts * len(customers))


async def test_a_suspension_stops_a_sender_in_the_middle(product, super_admin) -> None:
    # Twenty messages a second, so that some may wait when the suspension comes; whichever do must not be lost.
    async with Workspace.create(product.url("gateway"), product.url("meta-emulator"), throughput=20) as shop:
        customers = [f"1650555053{number}" for number in range(6)]
        await asyncio.gather(*(shop.customer_writes(wa_id, "Everything, please") for wa_id in customers))
        conversations = [await shop.conversation_with(wa_id) for wa_id in customers]
        sending = [shop.answer(each["id"], f"Part {part}") for part in range(10) for each in conversations]
        queued = await asyncio.gather(*sending)
        async with suspended(super_admin, shop):
            await stands_still(shop)

            async def others_wait() -> bool | None:
                messages = [await shop.get(f"/v1/messages/{message['id']}") for message in queued]
                sent = {each["wamid"] for each in await shop.phone_shows()}
                return {each["status"] for each in messages if each.get("wamid") not in sent} <= {"queued"} or None

            # A slow machine may have sent one more between two looks.
            await until(others_wait, "all that the phone does not show being queued")
        for message in queued:
            await shop.message_reaches(message["id"], "sent", "delivered", "read")
        await delivers_what_it_has(shop)


async def test_a_suspended_workspace_lets_nobody_sign_in(shop, super_admin) -> None:
    credentials = {"email": shop.email, "password": shop.password}
    async with suspended(super_admin, shop):
        await becomes(lambda: shop.post("/v1/auth/login", credentials), SUSPENDED, "the refusal of a log-in")
        refresh = shop.post("/v1/auth/refresh", {"refreshToken": shop.refresh_token})
        assert await meets(refresh) == SUSPENDED
        connecting = shop.post(
            "/v1/whatsapp-accounts", {k: shop.number[k] for k in ("wabaId", "phoneNumberId", "accessToken")}
        )
        assert await meets(connecting) == SUSPENDED

    await becomes(lambda: shop.post("/v1/auth/login", credentials), None, "the log-in after the resumption")


async def test_another_workspace_does_not_notice(shop, other_shop, super_admin) -> None:
    await other_shop.customer_writes("16505550503", "Hello")
    conversation = await other_shop.conversation_with("16505550503")
    async with suspended(super_admin, shop):
        answer = await other_shop.answer(conversation["id"], "Hello!")
        await other_shop.message_reaches(answer["id"], "read")


async def test_suspending_and_resuming_twice_say_so(shop, super_admin) -> None:
    path = f"/v1/admin/tenants/{shop.tenant_id}"
    assert await meets(super_admin.post(f"{path}:resume", {})) == (400, "TENANT_NOT_SUSPENDED")
    async with suspended(super_admin, shop):
        again = super_admin.post(f"{path}:suspend", {"reason": "Another one."})
        assert await meets(again) == (400, "TENANT_ALREADY_SUSPENDED")
        assert (await super_admin.get(path))["suspensionReason"] == REASON["reason"]


@pytest.mark.parametrize("reason", [None, "", " \u200b", "x" * 501, 7])
async def test_a_suspension_needs_a_reason(shop, super_admin, reason) -> None:
    path = f"/v1/admin/tenants/{shop.tenant_id}"
    with pytest.raises(Refused) as refused:
        await super_admin.post(f"{path}:suspend", {"reason": reason})
    assert (refused.value.status, refused.value.code) == (400, "INVALID_REQUEST")
    assert {error["field"] for error in refused.value.problem["errors"]} == {"reason"}
    assert (await super_admin.get(path))["state"] == "active"


async def test_paths_of_super_admins_are_closed_to_everybody_else(shop) -> None:
    path = f"/v1/admin/tenants/{shop.tenant_id}"
    calls = [
        ("GET", "/v1/admin/tenants", None),
        ("GET", path, None),
        ("POST", f"{path}:suspend", REASON),
        ("POST", f"{path}:resume", {}),
        ("GET", "/v1/admin/parked-events", None),
    ]
    agent = await colleague(shop)
    for method, place, body in calls:
        assert await meets(shop.call(method, place, body)) == (403, "PERMISSION_DENIED")
        as_agent = {"Authorization": f"Bearer {agent}"}
        assert await meets(shop.call(method, place, body, headers=as_agent)) == (403, "PERMISSION_DENIED")
        nobody = Workspace(shop.http, shop.api, shop.emulator)
        assert await meets(nobody.call(method, place, body)) == (401, "TOKEN_MISSING")
    assert (await shop.get("/v1/tenant"))["state"] == "active"


async def test_a_super_admin_has_no_workspace_to_act_in(shop, super_admin) -> None:
    await shop.customer_writes("16505550504", "For the shop alone")
    conversation = await shop.conversation_with("16505550504")
    for call in (
        super_admin.get("/v1/conversations"),
        super_admin.get(f"/v1/conversations/{conversation['id']}"),
        super_admin.answer(conversation["id"], "Hello from above"),
        super_admin.get("/v1/tenant"),
    ):
        status, code = await meets(call)
        assert status == 403
        assert code in {"PERMISSION_DENIED", "TENANT_REQUIRED"}
    assert len(await shop.messages(conversation["id"])) == 1


async def colleague(shop: Workspace) -> str:
    """The access token of an agent of the same workspace."""
    person = {"email": f"agent-{shop.email}", "password": shop.password}
    await shop.post("/v1/members", {**person, "name": "Agent", "role": "agent"})
    return (await shop.post("/v1/auth/login", person))["accessToken"]


@asynccontextmanager
async def without(product, process: str):
    await product.take_down(process)
    try:
        yield
    finally:
        await product.bring_back(process)


async def stands_still(shop: Workspace) -> None:
    """Wait until what the sender had claimed before the word of the suspension came has reached the phone."""
    shown, since, now = -1, 0.0, asyncio.get_running_loop().time

    async def still() -> bool | None:
        nonlocal shown, since
        count = len(await shop.phone_shows())
        if count != shown:
            shown, since = count, now()
        return now() - since > 2 or None

    await until(still, "the end of sending")


async def delivers_what_it_has(shop: Workspace) -> None:
    """Every message that the product took reaches the phone, once."""
    taken = [
        (await shop.message_reaches(message["id"], "sent", "delivered", "read"))["wamid"]
        for conversation in await shop.conversations()
        for message in await shop.messages(conversation["id"])
        if message["direction"] == "outbound"
    ]
    shown = [each["wamid"] for each in await shop.phone_shows()]
    assert sorted(shown) == sorted(set(shown))
    assert set(taken) <= set(shown)


def ids(messages: list[dict]) -> list[str]:
    """What was sent before the suspension was noticed goes on its way meanwhile."""
    return [message["id"] for message in messages]


def text(message: dict) -> str:
    return message.get("text", {}).get("body", "")
