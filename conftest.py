"""Every room's tests run on the real engines; see `devstack.pytest_plugin` for the fixtures."""

pytest_plugins = ["devstack.pytest_plugin"]
