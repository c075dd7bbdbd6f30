"""A product of its own for each module: it is killed piece by piece."""

from collections.abc import AsyncIterator

import pytest

from devstack.stack import Stack


@pytest.fixture(scope="module")
async def disturbed(tmp_path_factory) -> AsyncIterator[Stack]:
    async with Stack(tmp_path_factory.mktemp("chaos"), free_ports=True) as stack:
        yield stack
