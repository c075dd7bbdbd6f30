"""`python -m svc_messaging redrive`: what REST offers under /v1/admin, for whoever has a shell and no super admin."""

import argparse
import asyncio
import os

import structlog

from kit import dead_letters, logging
from kit.bus import Bus
from kit.db import Database
from kit.principal import Principal
from svc_messaging import parked_events
from svc_messaging.settings import RedriveSettings

log = structlog.get_logger()

_NAME = "messaging-redrive"
_LETTERS_MAX = 500


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m svc_messaging redrive")
    kinds = parser.add_subparsers(dest="kind", required=True)
    parked = kinds.add_parser("parked", help="have parked events taken in again; the inbox does it within seconds")
    parked.add_argument("--reason", default="", help='such as "poison"')
    parked.add_argument("--number", default="", help="Meta's phone_number_id")
    letters = kinds.add_parser("dead-letters", help="publish dead letters to their stream again")
    letters.add_argument("--stream", required=True, help='such as "META"')
    letters.add_argument("--consumer", default="", help='such as "inbox"')
    given = parser.parse_args(arguments)
    if given.kind == "parked" and not (given.reason or given.number):
        parser.error("name a --reason or a --number")
    settings = RedriveSettings.load()
    logging.configure(level="info", log_format=settings.log_format, service=_NAME)
    if given.kind == "parked":
        print(asyncio.run(_parked(settings, reason=given.reason, number=given.number)))
    else:
        print(asyncio.run(_dead_letters(settings, stream=given.stream, consumer=given.consumer)))


async def _parked(settings: RedriveSettings, *, reason: str, number: str) -> str:
    db = await Database.connect(settings.worker_database_url.get_secret_value(), name=_NAME, connections=2)
    count = 0
    try:
        while True:
            async with db.begin(Principal.service(_NAME)) as tx:
                marked = await parked_events.retry_all(tx, reason=reason, phone_number_id=number)
            count += marked
            if marked < parked_events.RETRIES_MAX:
                log.info("parked_events_retried", count=count, reason=reason, number=number, user=_operator())
                return f"{count} parked events are taken in again."
    finally:
        await db.close()


async def _dead_letters(settings: RedriveSettings, *, stream: str, consumer: str) -> str:
    bus = await Bus.connect(settings.nats_url.get_secret_value(), name=_NAME)
    count = 0
    try:
        # A letter that is given up again on the spot must not come round for ever.
        last = await dead_letters.newest(bus)
        while True:
            sent = await dead_letters.retry_all(bus, stream=stream, consumer=consumer, most=_LETTERS_MAX, up_to=last)
            count += len(sent)
            if len(sent) < _LETTERS_MAX:
                log.info("dead_letters_retried", count=count, stream=stream, user=_operator())
                return f"{count} dead letters are in {stream} again."
    finally:
        await bus.close()


def _operator() -> str:
    """Who runs the command, as far as the system says."""
    return os.environ.get("SUDO_USER") or os.environ.get("USER") or f"uid {os.getuid()}"
