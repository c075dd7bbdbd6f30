"""Who may call what, as the contracts say it: permissions, internal callers and role grants, read from descriptors.

Fails closed: a method whose contract says nothing, or two things at once, is refused to everybody.
"""

import functools
import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import aerostic
from aerostic.options.v1 import options_pb2
from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions

from kit.errors import PermissionDenied, TokenMissing
from kit.principal import Principal

PUBLIC = "PUBLIC"
AUTHENTICATED = "AUTHENTICATED"


@dataclass(frozen=True, slots=True)
class Method:
    """What the contract says about one RPC."""

    descriptor: MethodDescriptor
    permission: str
    """A permission, PUBLIC or AUTHENTICATED; empty where the contract has none."""
    callers: frozenset[str] | None
    """Processes that may call an internal method, all if empty; None where the method is not internal."""
    http: http_pb2.HttpRule | None
    is_read_only: bool
    is_repeatable: bool
    """Whether a second call does no more than the first, so that a client may retry by itself."""

    @property
    def full_name(self) -> str:
        return self.descriptor.full_name

    @property
    def path(self) -> str:
        """As HTTP/2 and gRPC write it: "/package.Service/Method"."""
        return f"/{self.descriptor.containing_service.full_name}/{self.descriptor.name}"

    @classmethod
    def of(cls, descriptor: MethodDescriptor) -> "Method":
        options = descriptor.GetOptions()
        internal = options.HasExtension(options_pb2.internal)
        return cls(
            descriptor,
            permission=options.Extensions[options_pb2.permission],
            callers=frozenset(options.Extensions[options_pb2.internal].callers) if internal else None,
            http=options.Extensions[annotations_pb2.http] if options.HasExtension(annotations_pb2.http) else None,
            is_read_only=options.idempotency_level == MethodOptions.NO_SIDE_EFFECTS,
            is_repeatable=options.idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN,
        )


def authorize(principal: Principal, method: Method) -> None:
    """Return if the caller may call the method. Raises TokenMissing or PermissionDenied."""
    if (method.callers is None) == (not method.permission):
        raise PermissionDenied("This call is closed: its contract does not say who may make it.")
    if method.callers is not None:
        _authorize_process(principal, method.callers)
    elif method.permission != PUBLIC:
        _authorize_user(principal, method.permission)


def _authorize_process(principal: Principal, callers: frozenset[str]) -> None:
    if principal.kind == "anonymous":
        raise TokenMissing
    if principal.kind != "service" or (callers and principal.name not in callers):
        raise PermissionDenied("This call is not open to you.")


def _authorize_user(principal: Principal, permission: str) -> None:
    if principal.kind == "anonymous":
        raise TokenMissing
    if principal.kind != "user":
        raise PermissionDenied("This call is made by users only.")
    if permission != AUTHENTICATED and not granted(principal.role, permission):
        raise PermissionDenied(f"Your role does not allow this: {permission} is missing.", permission=permission)


def granted(role: str, permission: str) -> bool:
    """Whether a role has a permission. Unknown roles have none."""
    return any(_covers(grant, permission) for grant in role_grants().get(role, ()))


@functools.cache
def role_grants() -> dict[str, tuple[str, ...]]:
    """The permissions of each role, by its word; a grant may end in "*"."""
    options = [value.GetOptions() for value in options_pb2.Role.DESCRIPTOR.values if value.number]
    return {o.Extensions[options_pb2.word]: tuple(o.Extensions[options_pb2.grants]) for o in options}


def all_methods(services: Iterable[ServiceDescriptor] | None = None) -> Iterator[Method]:
    """Every RPC of these services; of all contracts without argument."""
    for service in contract_services() if services is None else services:
        for descriptor in service.methods:
            yield Method.of(descriptor)


@functools.cache
def contract_services() -> tuple[ServiceDescriptor, ...]:
    """All services of the generated contracts, in the order of their files' names."""
    return tuple(service for file in contract_files() for service in file.services_by_name.values())


def registered_reasons() -> dict[str, frozenset[str]]:
    """Reasons in each package's enum ErrorReason, as they are on the wire, by package."""
    enums = [enum for file in contract_files() if (enum := file.enum_types_by_name.get("ErrorReason"))]
    return {
        enum.file.package: frozenset(value.name.removeprefix("ERROR_REASON_") for value in enum.values if value.number)
        for enum in enums
    }


@functools.cache
def contract_files() -> tuple[FileDescriptor, ...]:
    """Every generated file; imports all of them."""
    # `aerostic` has no __init__.py, so that its packages may be installed from several places.
    roots = [Path(root) for root in aerostic.__path__]
    files = sorted(path.relative_to(root.parent) for root in roots for path in root.rglob("*_pb2.py"))
    modules = [importlib.import_module(".".join(file.with_suffix("").parts)) for file in files]
    return tuple(module.DESCRIPTOR for module in modules)


def _covers(grant: str, permission: str) -> bool:
    return permission.startswith(grant[:-1]) if grant.endswith("*") else permission == grant
