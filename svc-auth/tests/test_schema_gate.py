"""The schema gate lets a service begin when its schema is there, and not before."""

import asyncio

from kit.migrations import migrate
from kit.migrations.gate import wait_for_schema
from svc_auth.migrations import VERSIONS


async def test_it_waits_until_the_migrations_have_run(postgres) -> None:
    database = postgres.empty_database("auth")
    waiting = asyncio.create_task(wait_for_schema(database.app_url, VERSIONS, seconds=90))
    _, still_waiting = await asyncio.wait({waiting}, timeout=0.5)
    assert still_waiting
    await migrate(database.owner_url, VERSIONS)
    assert await waiting
    database.drop()


async def test_it_gives_up_and_says_why(postgres, capsys) -> None:
    database = postgres.empty_database("auth")
    assert not await wait_for_schema(database.app_url, VERSIONS, seconds=0)
    assert "older than this program" in capsys.readouterr().err
    database.drop()


async def test_a_database_that_does_not_exist_yet_is_waited_for(postgres, capsys) -> None:
    database = postgres.empty_database("auth")
    database.drop()
    assert not await wait_for_schema(database.app_url, VERSIONS, seconds=0)
    assert "does not let us in yet" in capsys.readouterr().err
