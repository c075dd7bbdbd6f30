"""A workspace that is erased: its people are out at once, and in the end nothing anywhere knows it."""

import asyncio
import re

import asyncpg
import nats
import pytest

from devstack import seed
from devstack.stack import Stack
from devstack.workspace import Refused, Workspace, refusal, until
from kit.streams import DEAD, EVENTS, SEND

SERVICES = ("auth", "tenants", "messaging")
# What stays, by design: the record of the erasure, and the marks that let nothing come back.
KEPT = {"tenants.tenant_erasures", "auth.erased_tenants", "messaging.erased_tenants", "messaging.erased_numbers"}


async def tables_with(product, text: str) -> set[str]:
    """Tables of all services of which any row holds this text anywhere, whatever its columns are called."""
    found = set()
    for service in SERVICES:
        connection = await asyncpg.connect(product.database(service).superuser_url)
        try:
            tables = await connection.fetch(
                "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            )
            for (table,) in tables:
                if await connection.fetchval(
                    f"SELECT EXISTS (SELECT FROM {table} t WHERE t::text LIKE $1)", f"%{text}%"
                ):
                    found.add(f"{service}.{table}")
        finally:
            await connection.close()
    return found


async def events_of(product, tenant_id: str) -> int:
    bus = await nats.connect(product.settings["AEROSTIC_NATS_URL"])
    try:
        jetstream, count = bus.jetstream(), 0
        for stream in (EVENTS, SEND, DEAD):
            info = await jetstream.stream_info(stream, subjects_filter=">")
            count += sum(n for subject, n in (info.state.subjects or {}).items() if tenant_id in subject)
        return count
    finally:
        await bus.close()


async def with_a_history(shop: Workspace) -> str:
    """A conversation with answers and a picture; gives its id."""
    await shop.customer_writes("16505550700", "Before", name="Xanthippe Unmistakable")
    conversation = await shop.conversation_with("16505550700")
    for number in range(3):
        sent = await shop.answer(conversation["id"], f"Unmistakable answer {number}")
        await shop.message_reaches(sent["id"], "sent", "delivered", "read")
    return conversation["id"]


async def erase(super_admin: Workspace, shop: Workspace) -> str:
    """Ask for it; gives the path of the erasure."""
    path = f"/v1/admin/tenants/{shop.tenant_id}"
    slug = (await super_admin.get(path))["slug"]
    erasure = await super_admin.call("DELETE", f"{path}?confirmSlug={slug}")
    assert (erasure["tenantId"], erasure["state"]) == (shop.tenant_id, "erasing")
    return f"/v1/admin/tenant-erasures/{shop.tenant_id}"


async def done(super_admin: Workspace, path: str) -> dict:
    async def check():
        try:
            erasure = await super_admin.get(path)
        except Refused as refused:
            # Away, or so busy coming back that it took too long.
            if refused.status in {503, 504}:
                return None
            raise
        return erasure if erasure["state"] == "done" else None

    return await until(check, "the end of the erasure", seconds=60)


async def test_a_slip_or_the_workspace_s_own_admin_erases_nothing(shop, super_admin) -> None:
    path = f"/v1/admin/tenants/{shop.tenant_id}"
    slip = await refusal(super_admin.call("DELETE", f"{path}?confirmSlug=another"))
    assert (slip.status, slip.code) == (400, "SLUG_NOT_CONFIRMED")
    missing = await refusal(super_admin.call("DELETE", path))
    assert (missing.status, missing.code) == (400, "INVALID_REQUEST")
    own = await refusal(shop.call("DELETE", f"{path}?confirmSlug=another"))
    assert own.status == 403
    assert (await shop.get("/v1/tenant"))["state"] == "active"


async def test_nothing_anywhere_knows_it_afterwards_and_others_keep_all(product, shop, other_shop, super_admin) -> None:
    await with_a_history(shop)
    kept = await with_a_history(other_shop)
    assert {"messaging.messages", "messaging.contacts", "tenants.whatsapp_accounts", "auth.memberships"} <= (
        await tables_with(product, shop.tenant_id)
    )
    async with shop.stream() as live:
        path = await erase(super_admin, shop)
        await live.until(lambda live: live.is_over, "the end of the live stream")
    told = await done(super_admin, path)
    counts = {each["sort"]: int(each["count"]) for each in told["erasedCounts"]}
    assert (counts["messaging.messages"], counts["messaging.contacts"], counts["auth.users"]) == (4, 1, 1)
    assert await tables_with(product, shop.tenant_id) - {"tenants.outbox"} <= KEPT
    assert await tables_with(product, shop.phone_number_id) <= KEPT
    assert await tables_with(product, shop.email) == set()
    # A last event says that it is gone; the purge came before.
    assert await events_of(product, shop.tenant_id) <= 1
    login = await refusal(shop.post("/v1/auth/login", {"email": shop.email, "password": shop.password}))
    assert login.code == "CREDENTIALS_WRONG"
    assert len(await other_shop.messages(kept)) == 4
    again = await other_shop.answer(kept, "Still here")
    await other_shop.message_reaches(again["id"], "read")


async def test_what_customers_write_afterwards_is_acknowledged_and_not_kept(product, shop, super_admin) -> None:
    await with_a_history(shop)
    path = await erase(super_admin, shop)
    written = [f"Unmistakable late word {n}" for n in range(5)]
    for text in written:
        await shop.customer_writes("16505550700", text)
    await done(super_admin, path)
    await shop.customer_writes("16505550700", "Unmistakable very late word")
    await asyncio.sleep(1)
    assert await tables_with(product, "late word") == set()


async def isolated(product, tenant_id: str) -> None:
    """As the operator has it from the Tenant's spec; until its work waits in partitions of its own."""
    tenants = await asyncpg.connect(product.database("tenants").superuser_url)
    await tenants.execute("UPDATE tenants SET isolation = 'dedicated' WHERE id = $1::uuid", tenant_id)
    await tenants.close()
    messaging = await asyncpg.connect(product.database("messaging").superuser_url)
    settled = "SELECT true FROM placements WHERE tenant_id = $1::uuid AND settled_at IS NOT NULL"
    await until(lambda: messaging.fetchval(settled, tenant_id), "the move to partitions of its own", seconds=60)
    await messaging.close()


async def test_a_dedicated_workspace_goes_while_its_customers_write(product, shop, other_shop, super_admin) -> None:
    await isolated(product, shop.tenant_id)
    await with_a_history(shop)
    kept = await with_a_history(other_shop)
    stop, count = asyncio.Event(), 0

    async def write() -> None:
        nonlocal count
        while not stop.is_set():
            await shop.customer_writes("16505550700", f"Unmistakable own word {count}")
            await other_shop.customer_writes("16505550700", f"Somebody else's word {count}")
            count += 1

    writing = asyncio.create_task(write())
    path = await erase(super_admin, shop)
    await done(super_admin, path)
    stop.set()
    await writing

    async def arrived() -> bool | None:
        return len(await other_shop.messages(kept)) == 4 + count or None

    await until(arrived, "all that the other one's customers wrote", seconds=60)
    assert await tables_with(product, shop.tenant_id) - {"tenants.outbox"} <= KEPT
    assert await tables_with(product, "own word") == set()
    assert await events_of(product, shop.tenant_id) <= 1


async def test_a_long_send_ends_with_the_workspace(product, shop, super_admin) -> None:
    conversation = await with_a_history(shop)
    few = asyncio.Semaphore(10)

    async def send(n: int) -> None:
        # One conversation's messages are written one after the other.
        async with few:
            await shop.answer(conversation, f"Unmistakable bulk {n}")

    await asyncio.gather(*(send(n) for n in range(200)))
    path = await erase(super_admin, shop)
    await done(super_admin, path)
    assert await tables_with(product, "Unmistakable bulk") == set()
    bodies = [str(each) for each in await shop.phone_shows()]
    for n in range(200):
        assert sum(bool(re.search(rf"Unmistakable bulk {n}\b", body)) for body in bodies) <= 1


@pytest.mark.timeout(300)  # it starts a product of its own
async def test_kills_in_the_middle_only_delay_it(tmp_path) -> None:
    overrides = {"AEROSTIC_TENANTS_ERASURE_SETTLE_SECONDS": "1"}
    async with (
        Stack(tmp_path, overrides=overrides, free_ports=True) as stack,
        Workspace.create(stack.url("gateway"), stack.url("meta-emulator")) as shop,
        seed.super_admin(stack) as super_admin,
    ):
        await with_a_history(shop)
        path = await erase(super_admin, shop)
        for process in ("svc-tenants", "messaging-server", "svc-auth", "nats", "postgres"):
            await stack.kill(process)
            await asyncio.sleep(0.2)
        await done(super_admin, path)
        assert await tables_with(stack, shop.tenant_id) - {"tenants.outbox"} <= KEPT
