"""The fixture `kube`: one control plane for all tests of a run that ask for it, which share a worker.

Its programs are built in the background from the moment tests are collected, while others run. Where they cannot be
had, tests that need them are skipped and say why; in continuous integration (environment variable CI) they fail.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from devkube import engine
from devkube.cluster import Cluster

_BUILD_SECONDS = 1500
_TEST_SECONDS = 240


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let tests with a cluster come last: the programs are built meanwhile."""
    asking = [item for item in items if needs_cluster(item)]
    if not asking:
        return
    for item in asking:
        # The fixture bounds its own waits, the one for the build included.
        item.add_marker(pytest.mark.timeout(_TEST_SECONDS, func_only=True))
    items.sort(key=needs_cluster)
    if not engine.is_built():
        _build_in_background()


def needs_cluster(item: pytest.Item) -> bool:
    return "kube" in getattr(item, "fixturenames", ())


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kube(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    await require_engine()
    # Not below pytest's own folder, which it keeps: etcd alone takes more than a hundred megabytes.
    async with Cluster(tmp_path_factory.mktemp("kube")) as cluster:
        yield cluster


async def require_engine() -> Path:
    try:
        async with asyncio.timeout(_BUILD_SECONDS):
            return await asyncio.to_thread(engine.build)
    except engine.EngineMissing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"NOT TESTED on a Kubernetes API server: {missing}")


def _build_in_background() -> None:
    """Another process, which waits for nobody; the fixture waits for it, and says what went wrong."""
    quiet = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
    os.posix_spawn(sys.executable, [sys.executable, "-m", "devkube", "build"], os.environ, file_actions=quiet)
