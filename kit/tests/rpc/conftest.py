"""Fixtures around the contract of echo_contract.py."""

import sys
from pathlib import Path

import pytest
import structlog

sys.path.insert(0, str(Path(__file__).parent))

import echo_contract
import echo_pb2_grpc as stubs

from devstack.ports import PortClaims
from kit.testing.rpc import serve


@pytest.fixture
def echo():
    return echo_contract.EchoServer()


@pytest.fixture
async def rpc(echo):
    async with serve(echo, translate=echo_contract.translate) as running:
        yield running


@pytest.fixture
def stub(rpc):
    return rpc.stub(stubs.EchoServiceStub)


@pytest.fixture
def port():
    """One where nobody listens yet, and nobody else will."""
    claims = PortClaims()
    yield claims.claim()
    claims.release()


@pytest.fixture
def log_lines():
    with structlog.testing.capture_logs() as lines:
        yield lines
