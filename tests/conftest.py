"""The whole product, running as processes of its own, for tests that cross services."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack import seed
from devstack.stack import Stack
from devstack.workspace import Workspace

_LOG_LINES_MAX = 40
_TELLING = re.compile(r"\[(warning|error|critical) *\]|parked|taken|\[(ERR|WRN)\]|FATAL|Traceback|Error\b")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The start of the product, which bounds its own waits, is no part of the time that its first test may take."""
    for item in items:
        if "product" in getattr(item, "fixturenames", ()) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(func_only=True))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call) -> Iterator[None]:
    """What the product's processes said of note lately stands beside the failure of a test that used them."""
    outcome = yield
    report = outcome.get_result()
    product = getattr(item, "funcargs", {}).get("product")
    if report.failed and isinstance(product, Stack):
        report.sections += [
            (log.name, told) for log in sorted((product.folder / "logs").glob("*.log")) if (told := _telling(log))
        ]


def _telling(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-2000:]
    return "\n".join([line[:300] for line in lines if _TELLING.search(line)][-_LOG_LINES_MAX:])


@pytest.fixture(scope="session")
async def product(tmp_path_factory):
    """One product per test process, on free ports; shared, so tests use workspaces of their own."""
    folder = tmp_path_factory.mktemp("product")
    # Erasures wait for what is under way anywhere; here nothing takes a minute.
    overrides = {"AEROSTIC_TENANTS_ERASURE_SETTLE_SECONDS": "1"}
    async with Stack(folder, overrides=overrides, free_ports=True) as stack:
        yield stack
        fell = {name: stack.restarts(name) for name in stack.services if stack.restarts(name)}
        assert not fell, f"These ended on their own and were started again, whatever the tests saw of it: {fell}"


@pytest.fixture
async def shop(product):
    """A fresh workspace with a number."""
    async with Workspace.create(product.url("gateway"), product.url("meta-emulator")) as workspace:
        yield workspace


@pytest.fixture
async def other_shop(product):
    """A second workspace, to be kept out of the first."""
    async with Workspace.create(product.url("gateway"), product.url("meta-emulator")) as workspace:
        yield workspace


@pytest.fixture
async def super_admin(product):
    """Who runs the installation, signed in; a Workspace without a tenant."""
    async with seed.super_admin(product) as admin:
        yield admin
