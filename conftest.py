"""Every room's tests run on the real engines; see `devstack.pytest_plugin` for the fixtures."""

# pytest names test modules after their folders. Some rooms are called like their package, so the packages must be
# imported before pytest takes their folders for them.
import operator

from hypothesis import HealthCheck, settings

import bench  # noqa: F401
import gateway  # noqa: F401
import kit  # noqa: F401

# The room operator/ is called like a module of the standard library. To pytest that is no package, and it would put the
# folder in its place for everybody.
operator.__path__ = []

# No example fails, or is too slow to be drawn, because of the machine that it runs on.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

pytest_plugins = ["devstack.pytest_plugin", "devkube.pytest_groups", "devkube.pytest_plugin"]
