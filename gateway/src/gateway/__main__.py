"""`python -m gateway serve`."""

from kit.process import dispatch, run


def serve(_arguments: list[str]) -> None:
    # After kit, which makes all further imports quicker.
    from gateway import main  # noqa: PLC0415
    from gateway.backends import NAME  # noqa: PLC0415
    from gateway.settings import GatewaySettings  # noqa: PLC0415

    settings = GatewaySettings.load()
    run(lambda stop: main.serve(settings, stop), name=NAME, settings=settings)


if __name__ == "__main__":
    dispatch({"serve": serve}, program="gateway")
