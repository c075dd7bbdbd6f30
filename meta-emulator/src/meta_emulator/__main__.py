"""`python -m meta_emulator`: serve until SIGINT or SIGTERM."""

import asyncio
import logging
import signal
import sys

from aiohttp import web

from meta_emulator import app, lifecycle, settings, store
from meta_emulator.emulator import Emulator

log = logging.getLogger("meta_emulator")


async def serve(em: Emulator) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, em.stopping.set)
    await lifecycle.start(em)
    runner = web.AppRunner(app.build(em), access_log=None, shutdown_timeout=2.0)
    try:
        await runner.setup()
        site = web.TCPSite(runner, em.settings.host, em.settings.port)
        await site.start()
        host, port = runner.addresses[0][:2]
        log.info("listening url=http://%s:%d callback=%s", host, port, em.callback_url)
        await em.stopping.wait()
    finally:
        em.feed.close()
        await runner.cleanup()
        await lifecycle.stop(em)
    if em.crash is not None:
        raise em.crash


def main() -> int:
    try:
        chosen = settings.load()
    except settings.SettingsRefused as refused:
        print(f"meta-emulator: {refused}", file=sys.stderr)
        return 2
    logging.basicConfig(level=chosen.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        asyncio.run(serve(Emulator(chosen)))
    except (store.StateUnreadable, OSError) as refused:
        print(f"meta-emulator: {refused}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
