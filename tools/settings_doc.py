"""Writes docs/settings.md: every setting of every process, from the classes that read them. `make docs` runs it.

A test holds that the page is current and that no settings class is missing here.
"""

import importlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretBytes, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "settings.md"

# Process or command → the class that it reads, by its full name.
READERS = {
    "svc-auth serve": "svc_auth.settings.ServeSettings",
    "svc-auth commands": "svc_auth.settings.DatabaseSettings",
    "svc-auth migrate": "svc_auth.settings.MigrateSettings",
    "svc-tenants serve": "svc_tenants.settings.ServeSettings",
    "svc-tenants commands": "svc_tenants.settings.KeySettings",
    "svc-tenants migrate": "svc_tenants.settings.MigrateSettings",
    "svc-messaging serve": "svc_messaging.settings.ServeSettings",
    "svc-messaging inbox": "svc_messaging.settings.InboxSettings",
    "svc-messaging sender": "svc_messaging.settings.SenderSettings",
    "svc-messaging migrate": "svc_messaging.settings.MigrateSettings",
    "svc-messaging redrive": "svc_messaging.settings.RedriveSettings",
    "svc-webhooks ingest": "svc_webhooks.settings.IngestSettings",
    "gateway serve": "gateway.settings.GatewaySettings",
    "meta-emulator": "meta_emulator.settings.Settings",
    "operator run": "aerostic_operator.settings.OperatorSettings",
}
_SHARED = "Shared by several rooms"
_INTRO = """\
# Settings

Every process reads its settings from the environment, once, at its start. It refuses values that break a rule, and
names under its own prefix that nothing reads, each with one line that says so. What is marked *Secret* appears in no
log.

This page is made from the code by `make docs`. What `make up` needs is less, and stands in
[.env.example](../.env.example).
"""


@dataclass(slots=True)
class Row:
    """One setting. Where processes differ in what they say of it, each way once."""

    name: str
    defaults: list[str] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    meanings: list[str] = field(default_factory=list)
    readers: list[str] = field(default_factory=list)


def load(full_name: str) -> type[BaseSettings]:
    module, _, name = full_name.rpartition(".")
    found: type[BaseSettings] = getattr(importlib.import_module(module), name)
    return found


def rows() -> dict[str, Row]:
    """By name."""
    found: dict[str, Row] = {}
    for reader, full_name in READERS.items():
        cls = load(full_name)
        schemas = cls.model_json_schema()["properties"]
        for field_name, about in cls.model_fields.items():
            row = found.setdefault(variable(cls, field_name), Row(variable(cls, field_name)))
            _note(row.defaults, _default(about))
            _note(row.rules, _rule(schemas.get(about.validation_alias or field_name, {})))
            _note(row.meanings, f"{about.description}{'. *Secret*' if is_secret(about) else ''}")
            _note(row.readers, reader)
    return found


def _note(told: list[str], text: str) -> None:
    if text not in told:
        told.append(text)


def variable(cls: type[BaseSettings], field_name: str) -> str:
    """The name in the environment."""
    alias = cls.model_fields[field_name].validation_alias
    return alias if isinstance(alias, str) else f"{cls.model_config.get('env_prefix', '')}{field_name}".upper()


def page() -> str:
    sections: dict[str, list[Row]] = {}
    for row in rows().values():
        rooms = {reader.split()[0] for reader in row.readers}
        sections.setdefault(rooms.pop() if len(rooms) == 1 else _SHARED, []).append(row)
    titles = [_SHARED, *(title for title in sections if title != _SHARED)]
    return "\n".join([_INTRO, *(_section(title, sections[title]) for title in titles)])


def _section(title: str, found: Iterable[Row]) -> str:
    lines = [f"## {title}", "", "| name | default | values | meaning | read by |", "|---|---|---|---|---|"]
    for row in sorted(found, key=lambda row: row.name):
        told = (" or ".join(row.defaults), "; ".join(row.rules), "; ".join(row.meanings), _readers(row.readers))
        cells = (f"`{row.name}`", *(_escaped(text) for text in told))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _escaped(text: str) -> str:
    return text.replace("|", "&#124;").replace("<", "&lt;")


def _readers(readers: Iterable[str]) -> str:
    """Commands by their rooms: "svc-messaging inbox, sender"."""
    if not set(READERS) - {"meta-emulator"} - set(readers):
        return "every process"
    by_room: dict[str, list[str]] = {}
    for reader in readers:
        room, _, command = reader.partition(" ")
        by_room.setdefault(room, []).append(command)
    return "; ".join(f"{room} {', '.join(commands)}".strip() for room, commands in by_room.items())


def _default(about: FieldInfo) -> str:
    if about.is_required():
        return "**required**"
    value = about.default
    if isinstance(value, SecretStr | SecretBytes):
        value = value.get_secret_value() and "set"
    if value in ("", b"", None, [], ()):
        return "empty"
    return f"`{value if isinstance(value, str | Path) else json.dumps(value)}`"


def _rule(schema: Mapping[str, Any]) -> str:
    """The values that are taken, as far as a schema says it."""
    if choices := schema.get("enum"):
        return " or ".join(f"`{choice}`" for choice in choices)
    bounds = (("minimum", "from"), ("exclusiveMinimum", "above"), ("maximum", "to"), ("exclusiveMaximum", "below"))
    told = [f"{word} {schema[key]}" for key, word in bounds if key in schema]
    if pattern := schema.get("pattern"):
        told.append(f"`{pattern}`")
    return " ".join(told) or {"boolean": "`true` or `false`"}.get(schema.get("type", ""), "")


def is_secret(about: FieldInfo) -> bool:
    return "Secret" in repr(about.annotation)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
