"""`python -m gateway serve`."""

from gateway import main
from gateway.backends import NAME
from gateway.settings import GatewaySettings
from kit.process import dispatch, run


def serve(_arguments: list[str]) -> None:
    settings = GatewaySettings.load()
    run(lambda stop: main.serve(settings, stop), name=NAME, settings=settings)


if __name__ == "__main__":
    dispatch({"serve": serve}, program="gateway")
