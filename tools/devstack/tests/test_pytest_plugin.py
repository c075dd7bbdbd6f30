"""The engines of a test run: shared by its workers, and gone with it however it ends."""

import asyncpg
import pytest
from nats.aio.client import Client


async def test_empty_database_lets_the_owner_create_and_the_app_only_look(postgres):
    database = postgres.empty_database("kit")
    owner = await asyncpg.connect(database.owner_url)
    await owner.execute("CREATE TABLE thing (id int)")
    await owner.execute("GRANT SELECT ON thing TO kit_app")
    await owner.close()
    app = await asyncpg.connect(database.app_url)
    assert await app.fetch("SELECT * FROM thing") == []
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await app.execute("CREATE TABLE other (id int)")
    await app.close()
    database.drop()


async def test_a_role_cannot_enter_another_services_database(postgres):
    mine, other = postgres.empty_database("kit"), postgres.empty_database("elsewhere")
    intruder = postgres.server.url(other.name, role="kit_app", password=mine.passwords.app)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(intruder)


@pytest.mark.parametrize("attempt", [1, 2])
async def test_each_test_starts_without_streams(nats, attempt):
    client = Client()
    await client.connect(nats)
    assert await client.jsm().streams_info() == []
    await client.jetstream().add_stream(name="LEFT", subjects=["left.>"])
    await client.jetstream().publish("left.over", b"x")
    await client.close()
