"""Which tests share a worker: those of a module, all that run the whole product, and all on a Kubernetes control plane.

A product is nine processes and two engines: two of them at a time would only take turns on a small machine. They begin,
and the control plane comes last, since its programs are built meanwhile.

By path, in a scheduler of our own: marks of `xdist_group` come to nothing with pytest 9.2 (pytest-xdist issue 1386).
"""

from pathlib import PurePosixPath
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

_PRODUCT, _KUBE = "product", "kube"
# By a part of the module's path.
_GROUP_OF_PART = {
    **dict.fromkeys(("e2e", "chaos", "browser"), _PRODUCT),
    **dict.fromkeys(("operator", "devkube", "test_chart_on_cluster.py", "test_dedicated_workers.py"), _KUBE),
}
_PLACES = {_PRODUCT: 0, _KUBE: 2}


def group_of(nodeid: str) -> str:
    """The tests of a group run on one worker, in order."""
    module = nodeid.partition("::")[0]
    return next((_GROUP_OF_PART[part] for part in PurePosixPath(module).parts if part in _GROUP_OF_PART), module)


class Groups(LoadScopeScheduling):  # type: ignore[misc]
    """Gives a worker a group at a time, in the order in which they were collected."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Groups:
    return Groups(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Raises UsageError where a test would start a second control plane."""
    stray = [item.nodeid for item in items if "kube" in _fixtures(item) and group_of(item.nodeid) != _KUBE]
    if stray:
        raise pytest.UsageError(f"uses the control plane, but is not in its group: {stray[0]}")
    items.sort(key=lambda item: _PLACES.get(group_of(item.nodeid), 1))


def _fixtures(item: pytest.Item) -> tuple[str, ...]:
    return tuple(getattr(item, "fixturenames", ()))
