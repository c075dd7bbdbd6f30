"""`python -m aerostic_operator run`."""

import asyncio
import socket
import time
from collections.abc import Coroutine
from typing import Any

import structlog

from aerostic_operator import watching
from aerostic_operator.controller import Controller, Kind
from aerostic_operator.events import Events
from aerostic_operator.kube import Kube, KubeError
from aerostic_operator.leadership import Leadership
from aerostic_operator.objects import Body
from aerostic_operator.settings import OperatorSettings
from aerostic_operator.tenants.first_admins import FirstAdmins
from aerostic_operator.tenants.fleet import Fleet
from aerostic_operator.tenants.kind import TenantKind
from aerostic_operator.tenants.platform import TenantPlatform
from aerostic_operator.tenants.workers import BadTemplate
from aerostic_operator.whatsapp_accounts.kind import WhatsAppAccountKind
from aerostic_operator.whatsapp_accounts.platform import NumberPlatform
from kit import process
from kit.errors import RemoteError
from kit.grpc_client import Channel
from kit.metrics import StatusServer
from kit.service_tokens import ServiceIdentity

NAME = "operator"
# Of events that were kept back; a pod has half a minute to end.
_FLUSH_SECONDS = 5

log = structlog.get_logger()


async def run(settings: OperatorSettings, stop: asyncio.Event) -> None:
    """Wait to be the leader, then act until told to stop or until somebody else may be the leader."""
    identity = ServiceIdentity(NAME, settings.service_key.get_secret_value())
    health = Health(settings.resync_seconds)
    async with (
        Kube() as kube,
        Channel(settings.tenants_target, identity) as tenants,
        Channel(settings.auth_target, identity) as auth,
        asyncio.TaskGroup() as tasks,
    ):
        status = tasks.create_task(StatusServer(settings.host, settings.metrics_port, health.why_not_ready).run(stop))
        namespace = settings.namespace or kube.namespace
        platform = TenantPlatform(tenants, auth)
        invitations = settings.invitations_namespace or namespace
        first_admins = FirstAdmins(kube, platform, namespace=invitations, app_url=settings.app_url)
        fleet = Fleet(kube, namespace=namespace, folder=settings.workers_folder)
        kinds: list[Kind] = [
            TenantKind(kube, platform, first_admins, fleet, imports=settings.imports),
            WhatsAppAccountKind(kube, platform, NumberPlatform(tenants)),
        ]
        events = Events(kube, is_busy=lambda: any(controller.is_busy for controller in controllers.values()))
        controllers = {kind.plural: Controller(kind, kube, events) for kind in kinds}
        leadership = Leadership(
            kube,
            namespace=namespace,
            name="aerostic-operator",
            identity=settings.identity or socket.gethostname(),
            life_seconds=settings.lease_seconds,
        )
        if await _unless(stop, leadership.acquire()):
            await lead(controllers, events, leadership, health, settings.resync_seconds, stop)
        await status


async def lead(
    controllers: dict[str, Controller],
    events: Events,
    leadership: Leadership,
    health: "Health",
    resync_seconds: float,
    stop: asyncio.Event,
) -> None:
    """Act until told to stop. Raises LeadershipLost."""

    def seen(plural: str, event: str | None, body: Body) -> None:
        controllers[plural].seen(event, body)

    async with asyncio.TaskGroup() as tasks:
        work = [
            tasks.create_task(leadership.hold()),
            tasks.create_task(watching.watch(controllers, seen)),
            tasks.create_task(events.run()),
            *(tasks.create_task(controller.run()) for controller in controllers.values()),
            *(tasks.create_task(survey(controller, health, resync_seconds)) for controller in controllers.values()),
        ]
        await stop.wait()
        for task in work:
            task.cancel()
    await leadership.release()
    await events.flush(_FLUSH_SECONDS)


async def survey(controller: Controller, health: "Health", seconds: float) -> None:
    """Compare everything with the platform, now and then; until cancelled."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await controller.survey()
        except (RemoteError, KubeError, BadTemplate) as error:
            log.warning("survey_failed", kind=controller.kind.kind, error=str(error))
            health.failed(controller.kind.kind, str(error))
        else:
            health.succeeded(controller.kind.kind)


class Health:
    """Whether the operator gets on with its work."""

    def __init__(self, seconds: float) -> None:
        self._patience = 10 * seconds
        self._well: dict[str, float] = {}
        self._errors: dict[str, str] = {}

    def succeeded(self, kind: str) -> None:
        self._well[kind] = time.monotonic()
        self._errors.pop(kind, None)

    def failed(self, kind: str, error: str) -> None:
        self._errors[kind] = error

    async def why_not_ready(self) -> str:
        """Empty when all is well, and while another operator is the leader."""
        late = [kind for kind, moment in self._well.items() if time.monotonic() - moment > self._patience]
        return "; ".join(f"{kind}: {self._errors.get(kind, 'not compared for long')}" for kind in late)


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Wait for the work; False if told to stop before it was done."""
    doing, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if doing.done():
        doing.result()
        return True
    doing.cancel()
    return False


def run_run(_arguments: list[str]) -> None:
    settings = OperatorSettings.load()
    process.run(lambda stop: run(settings, stop), name=NAME, settings=settings)


if __name__ == "__main__":
    process.dispatch({"run": run_run}, program="aerostic_operator")
