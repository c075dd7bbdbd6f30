"""What a process does not use is not imported at its start, and stays there for those who use it."""

import subprocess
import sys

import pytest


def run(code: str) -> str:
    # A process of its own, since this one has imported everything.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


SPARED = ("aiohttp", "rich", "opentelemetry.sdk", "asyncpg", "sqlalchemy", "alembic")


@pytest.mark.parametrize("process", ["svc_webhooks.__main__", "gateway.main"])
def test_what_takes_webhooks_imports_no_database_no_other_client_no_console_and_no_exporter(process: str) -> None:
    code = f"import sys, {process}; print([name for name in {SPARED} if name in sys.modules])"
    assert run(code) == "[]"


@pytest.mark.parametrize("first", ["import kit", "import aiohttp, rich, kit"])
def test_who_uses_them_imports_them_all_the_same(first: str) -> None:
    code = f"{first}\nimport kit.bus, aiohttp, rich, rich.traceback\nprint(aiohttp.ClientSession.__name__)"
    assert run(code) == "ClientSession"
