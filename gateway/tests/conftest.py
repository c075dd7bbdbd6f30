"""The gateway as it runs, before services that are played by a recorder behind real gRPC servers."""

import sys
from pathlib import Path

import pytest
import pytest_asyncio

sys.path.insert(0, str(Path(__file__).parent))

import gateway_rig

from devstack.ports import PortClaims


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(nats_server):
    async with gateway_rig.run(nats_server.url) as rig:
        yield rig


@pytest.fixture
def api(running):
    """A gateway with default settings, for tests that break nothing."""
    running.reset()
    return running


@pytest.fixture
def port():
    """One where nobody listens yet, and nobody else will."""
    claims = PortClaims()
    yield claims.claim()
    claims.release()


@pytest.fixture
def start(nats_server):
    """A gateway of one's own: `async with start(body_seconds=0.2) as api`."""
    return lambda **settings: gateway_rig.run(nats_server.url, **settings)
