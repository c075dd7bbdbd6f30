"""The whole product, running as processes of its own, for tests that cross services."""

import pytest

from devstack.stack import Stack
from devstack.workspace import Workspace


@pytest.fixture(scope="session")
async def product(tmp_path_factory):
    """One product per test process, on free ports; shared, so tests use workspaces of their own."""
    folder = tmp_path_factory.mktemp("product")
    async with Stack(folder, free_ports=True) as stack:
        yield stack


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
