"""Paths of the control API."""

from aiohttp import web

from meta_emulator.control import conversation, faults, numbers, people, platform, replay, watch
from meta_emulator.control.errors import Handler, answered

_ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/_emulator/numbers", numbers.create),
    ("GET", "/_emulator/numbers", numbers.list_all),
    ("GET", "/_emulator/numbers/{number}", numbers.get),
    ("PATCH", "/_emulator/numbers/{number}", numbers.change),
    ("POST", "/_emulator/numbers/{number}/tokens", numbers.issue_token),
    ("PATCH", "/_emulator/numbers/{number}/tokens", numbers.change_tokens),
    ("DELETE", "/_emulator/numbers/{number}/tokens", numbers.revoke_token),
    ("POST", "/_emulator/inbound", conversation.receive),
    ("GET", "/_emulator/messages", conversation.sent),
    ("GET", "/_emulator/chat", conversation.chat),
    ("PATCH", "/_emulator/chat", conversation.change_chat),
    ("POST", "/_emulator/customers", people.create),
    ("GET", "/_emulator/customers", people.list_all),
    ("PATCH", "/_emulator/customers/{customer}", people.change),
    ("POST", "/_emulator/faults", faults.create),
    ("GET", "/_emulator/faults", faults.list_all),
    ("DELETE", "/_emulator/faults", faults.clear),
    ("DELETE", "/_emulator/faults/{fault}", faults.delete),
    ("GET", "/_emulator/config", platform.get_config),
    ("PATCH", "/_emulator/config", platform.change_config),
    ("POST", "/_emulator/callback", platform.set_callback),
    ("GET", "/_emulator/webhooks", platform.webhooks),
    ("POST", "/_emulator/webhooks/retry", platform.retry_webhooks),
    ("POST", "/_emulator/templates", platform.create_template),
    ("GET", "/_emulator/templates", platform.list_templates),
    ("PATCH", "/_emulator/templates/{template}", platform.change_template),
    ("POST", "/_emulator/replay", replay.replay),
    ("POST", "/_emulator/reset", platform.reset),
    ("GET", "/_emulator/events", watch.events),
    ("GET", "/_emulator/media/{media}", watch.media_content),
)


def add(app: web.Application) -> None:
    for method, path, handler in _ROUTES:
        app.router.add_route(method, path, answered(handler))
    app.router.add_get("/healthz", platform.health)
    app.router.add_get("/metrics", platform.metrics)
