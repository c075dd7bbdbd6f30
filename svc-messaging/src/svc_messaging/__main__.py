"""`python -m svc_messaging serve | inbox | sender | migrate | redrive | streams`."""

import asyncio

from kit import process
from kit.migrations import migrate
from svc_messaging.migrations import VERSIONS
from svc_messaging.settings import InboxSettings, MigrateSettings, SenderSettings, ServeSettings

# Each command imports its own process only: the sender needs no gRPC server, the server no HTTP client.


def run_serve(_arguments: list[str]) -> None:
    from svc_messaging.server import process as server  # noqa: PLC0415

    settings = ServeSettings.load()
    process.run(lambda stop: server.run(settings, stop), name=server.NAME, settings=settings)


def run_inbox(_arguments: list[str]) -> None:
    from svc_messaging.inbox import process as inbox  # noqa: PLC0415

    settings = InboxSettings.load()
    process.run(lambda stop: inbox.run(settings, stop), name=inbox.NAME, settings=settings)


def run_sender(_arguments: list[str]) -> None:
    from svc_messaging.sender import process as sender  # noqa: PLC0415

    settings = SenderSettings.load()
    process.run(lambda stop: sender.run(settings, stop), name=sender.NAME, settings=settings)


def run_migrate(_arguments: list[str]) -> None:
    asyncio.run(migrate(MigrateSettings.load().owner_database_url.get_secret_value(), VERSIONS))


def run_redrive(arguments: list[str]) -> None:
    from svc_messaging import redrive  # noqa: PLC0415

    redrive.main(arguments)


def run_streams(arguments: list[str]) -> None:
    from svc_messaging import stream_backups  # noqa: PLC0415

    stream_backups.main(arguments)


if __name__ == "__main__":
    process.dispatch(
        {
            "serve": run_serve,
            "inbox": run_inbox,
            "sender": run_sender,
            "migrate": run_migrate,
            "redrive": run_redrive,
            "streams": run_streams,
        },
        program="svc_messaging",
    )
