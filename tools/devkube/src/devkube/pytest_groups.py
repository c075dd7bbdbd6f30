"""Which tests share a worker: those of a module, all that run the whole product, and all on a Kubernetes control plane.

A product is nine processes and two engines: two of them at a time would only take turns on a small machine. These two
take longest, so they begin; the control plane only once its programs are built, which others need not wait for.

By path, in a scheduler of our own: marks of `xdist_group` come to nothing with pytest 9.2 (pytest-xdist issue 1386).
"""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from devkube import engine

_PRODUCT, _KUBE = "product", "kube"
# By a part of the module's path.
_GROUP_OF_PART = {
    **dict.fromkeys(("e2e", "chaos", "browser"), _PRODUCT),
    **dict.fromkeys(("operator", "devkube", "test_chart_on_cluster.py", "test_dedicated_workers.py"), _KUBE),
}


def group_of(nodeid: str) -> str:
    """The tests of a group run on one worker, in order."""
    module = nodeid.partition("::")[0]
    return next((_GROUP_OF_PART[part] for part in PurePosixPath(module).parts if part in _GROUP_OF_PART), module)


class Groups(LoadScopeScheduling):  # type: ignore[misc]
    """Gives a worker a group at a time."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)

    def _assign_work_unit(self, node: Any) -> None:
        self.workqueue.move_to_end(next_group(list(self.workqueue), is_kube_built=engine.is_built()), last=False)
        super()._assign_work_unit(node)


def next_group(waiting: Sequence[str], *, is_kube_built: bool) -> str:
    if _PRODUCT in waiting:
        return _PRODUCT
    if _KUBE in waiting and is_kube_built:
        return _KUBE
    return next((group for group in waiting if group != _KUBE), _KUBE)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Groups:
    return Groups(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Raises UsageError where a test would start a second control plane."""
    stray = [item.nodeid for item in items if "kube" in _fixtures(item) and group_of(item.nodeid) != _KUBE]
    if stray:
        raise pytest.UsageError(f"uses the control plane, but is not in its group: {stray[0]}")


def _fixtures(item: pytest.Item) -> tuple[str, ...]:
    return tuple(getattr(item, "fixturenames", ()))
