"""`python -m svc_auth serve|migrate|create-super-admin|rotate-keys`."""

import argparse
import asyncio
import contextlib
import sys
from datetime import timedelta

import structlog

from kit import streams
from kit.bus import Bus
from kit.crypto import KeyRing
from kit.db import Database, as_app_error
from kit.errors import AppError
from kit.grpc_client import Channel
from kit.grpc_server import Server, ServerOptions
from kit.interceptors.auth import Authenticator
from kit.keys import KeySource
from kit.metrics import StatusServer
from kit.migrations import migrate, require_schema
from kit.outbox import Relay
from kit.process import dispatch, run
from kit.service_tokens import ServiceIdentity, ServiceTrust
from kit.tokens import AccessTokenVerifier
from svc_auth import erasures, registrations, signing_in, signing_keys, throttle, users
from svc_auth.migrations import VERSIONS
from svc_auth.passwords import Passwords
from svc_auth.server import AuthServer, MemberServer, jwks
from svc_auth.server_erasure import ErasureServer
from svc_auth.server_invitations import InvitationServer
from svc_auth.settings import DatabaseSettings, MigrateSettings, ServeSettings
from svc_auth.signing_in import SELF, Parts
from svc_auth.workspaces import Workspaces

NAME = "svc-auth"
_CHORES_SECONDS = 5.0
_UNFINISHED_SECONDS = 10.0

log = structlog.get_logger()


def serve(_arguments: list[str]) -> None:
    settings = ServeSettings.load()
    run(lambda stop: _serve(settings, stop), name=NAME, settings=settings)


async def _serve(settings: ServeSettings, stop: asyncio.Event) -> None:
    dsn = settings.database_url.get_secret_value()
    db = await Database.connect(dsn, name=NAME, connections=settings.database_connections)
    await require_schema(db, VERSIONS)
    bus = await Bus.connect(settings.nats_url.get_secret_value(), name=NAME)
    await bus.ensure(streams.events(keep_days=settings.events_keep_days, replicas=settings.stream_replicas))
    tenants = Channel(settings.tenants_target, ServiceIdentity(NAME, settings.service_key.get_secret_value()))
    ring = KeyRing.parse(settings.key_encryption_keys.get_secret_value())
    passwords = Passwords(settings.bcrypt_cost)
    parts = Parts(db, ring, passwords, Workspaces(tenants), timedelta(days=settings.session_days))
    async with db.begin(SELF) as tx:
        await signing_keys.ensure(tx, ring)
    verifier = AccessTokenVerifier(KeySource(lambda: jwks(parts)))
    server = Server(
        f"{settings.host}:{settings.port}",
        [AuthServer(parts), MemberServer(parts), InvitationServer(parts), ErasureServer(db)],
        domain="auth.aerostic.io",
        authenticator=Authenticator(verifier, ServiceTrust.from_json(settings.service_trust)),
        translate=known_failure,
        options=ServerOptions(reflection=settings.reflection),
    )
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve(stop))
            tasks.create_task(StatusServer(settings.host, settings.metrics_port, lambda: _ready(db)).run(stop))
            tasks.create_task(Relay(dsn, bus).run(stop))
            tasks.create_task(_chores(parts, stop))
    finally:
        passwords.close()
        await tenants.close()
        await bus.close()
        await db.close()


def known_failure(error: BaseException) -> AppError | None:
    """What a failure of the database means to a caller; None where it is a bug of ours."""
    return as_app_error(error) or erasures.as_app_error(error)


async def _ready(db: Database) -> str:
    try:
        await db.fetchval("SELECT 1")
    except Exception as error:
        if as_app_error(error) is None:
            raise
        return "the database does not answer"
    return ""


async def _chores(parts: Parts, stop: asyncio.Event) -> None:
    """Finish what was cut off, rotate keys by age, and forget old failures."""
    while not stop.is_set():
        try:
            async with parts.db.begin(SELF) as tx:
                await signing_keys.ensure(tx, parts.ring)
                await throttle.sweep(tx)
                unfinished = await registrations.unfinished(tx, older_than_seconds=_UNFINISHED_SECONDS)
            for registration in unfinished:
                await signing_in.finish_registration(parts, registration)
                log.info("registration_finished", tenant=str(registration["id"]))
        except Exception as error:
            if not isinstance(error, AppError) and as_app_error(error) is None:
                raise
            log.warning("chores_wait", error=repr(error))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _CHORES_SECONDS)


def _migrate(_arguments: list[str]) -> None:
    settings = MigrateSettings.load()
    asyncio.run(migrate(settings.owner_database_url.get_secret_value(), VERSIONS))


def create_super_admin(arguments: list[str]) -> None:
    """Make an account that runs the installation; repeated, it sets the account's password anew."""
    parser = argparse.ArgumentParser(prog="python -m svc_auth create-super-admin")
    parser.add_argument("--email", required=True)
    parser.add_argument("--name", default="Super admin")
    parser.add_argument("--password-stdin", action="store_true", required=True, help="read the password from stdin")
    given = parser.parse_args(arguments)
    password = sys.stdin.readline().rstrip("\n")
    if len(password) < 8 or len(password.encode()) > 72:
        sys.exit("The password must have 8 characters at least, and 72 bytes in UTF-8 at most.")
    settings = DatabaseSettings.load()
    asyncio.run(_create_super_admin(settings, users.normalized(given.email), given.name, password))
    print(f"{given.email} may log in as super admin.")


async def _create_super_admin(settings: DatabaseSettings, email: str, name: str, password: str) -> None:
    db = await Database.connect(settings.database_url.get_secret_value(), name=f"{NAME} command", connections=1)
    password_hash = await Passwords(cost=12).hash(password)
    async with db.begin(SELF) as tx:
        await users.make_super_admin(tx, email=email, name=name, password_hash=password_hash)
    await db.close()


def rotate_keys(_arguments: list[str]) -> None:
    """Publish a new signing key; it takes over when every verifier has seen it."""
    kid = asyncio.run(_rotate_keys(DatabaseSettings.load()))
    minutes = signing_keys.PUBLISHED_BEFORE_SIGNING.total_seconds() / 60
    print(f"Key {kid} is published and signs in {minutes:.0f} minutes.")


async def _rotate_keys(settings: DatabaseSettings) -> str:
    db = await Database.connect(settings.database_url.get_secret_value(), name=f"{NAME} command", connections=1)
    async with db.begin(SELF) as tx:
        kid = await signing_keys.rotate(tx, KeyRing.parse(settings.key_encryption_keys.get_secret_value()))
    await db.close()
    return kid


COMMANDS = {
    "serve": serve,
    "migrate": _migrate,
    "create-super-admin": create_super_admin,
    "rotate-keys": rotate_keys,
}

if __name__ == "__main__":
    dispatch(COMMANDS, program="svc_auth")
