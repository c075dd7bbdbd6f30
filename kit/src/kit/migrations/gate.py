"""Wait until a database has the schema that this image needs: what runs before a service in an orchestrator.

`python -m kit.migrations.gate svc_auth.migrations AEROSTIC_AUTH_DATABASE_URL`; the second word names the setting that
holds the database's URL. The old release serves on meanwhile, as migrations only expand.
"""

import argparse
import asyncio
import importlib
import os
import sys
import time
from pathlib import Path

import asyncpg

from kit.db import Database, as_app_error
from kit.migrations.schema import SchemaOutdated, require_schema
from kit.settings import SECRETS_FOLDER

_PAUSE_SECONDS = 1.0


async def wait_for_schema(dsn: str, versions: Path, *, seconds: float) -> bool:
    """Whether the schema was there in time. A database that is away is waited for too."""
    deadline = time.monotonic() + seconds
    told = ""
    while True:
        reason = await _missing(dsn, versions)
        if not reason:
            return True
        if time.monotonic() > deadline:
            print(reason, file=sys.stderr)
            return False
        if reason != told:
            print(f"Waiting: {reason}", flush=True)
            told = reason
        await asyncio.sleep(_PAUSE_SECONDS)


async def _missing(dsn: str, versions: Path) -> str:
    try:
        db = await Database.connect(dsn, name="schema gate", connections=1)
        try:
            await require_schema(db, versions)
        finally:
            await db.close()
    except SchemaOutdated as outdated:
        return str(outdated)
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as absent:
        return f"The database does not let us in yet: {absent}"
    except Exception as error:
        if as_app_error(error) is None:
            raise
        return f"The database does not answer: {error!r}"
    return ""


def _value(setting: str) -> str:
    if setting in os.environ:
        return os.environ[setting]
    folder = os.environ.get(SECRETS_FOLDER)
    if folder and (path := Path(folder) / setting).exists():
        return path.read_text(encoding="utf-8").strip()
    sys.exit(f"{setting} is not set.")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m kit.migrations.gate")
    parser.add_argument("package", help="where the migrations are, such as svc_auth.migrations")
    parser.add_argument("setting", help="name of the setting with the database's URL")
    parser.add_argument("--seconds", type=float, default=600)
    given = parser.parse_args()
    versions: Path = importlib.import_module(given.package).VERSIONS
    if not asyncio.run(wait_for_schema(_value(given.setting), versions, seconds=given.seconds)):
        sys.exit(1)


if __name__ == "__main__":
    main()
