"""What a process does not use is not imported at its start, and stays there for those who use it."""

import subprocess
import sys

import pytest


def run(code: str) -> str:
    # A process of its own, since this one has imported everything.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


def test_the_ingest_imports_neither_http_client_nor_console_nor_what_exports_traces() -> None:
    spared = ("aiohttp", "rich", "opentelemetry.sdk", "sqlalchemy", "alembic")
    code = f"import sys, svc_webhooks.__main__; print([name for name in {spared} if name in sys.modules])"
    assert run(code) == "[]"


@pytest.mark.parametrize("first", ["import kit", "import aiohttp, rich, kit"])
def test_who_uses_them_imports_them_all_the_same(first: str) -> None:
    code = f"{first}\nimport kit.bus, aiohttp, rich, rich.traceback\nprint(aiohttp.ClientSession.__name__)"
    assert run(code) == "ClientSession"
