"""The contracts keep their promises: who may call, which way in, and a registered reason for every error."""

import importlib
import pkgutil
import re

import aerostic.auth.v1
import aerostic.messaging.v1
import aerostic.tenants.v1
import pytest
from aerostic.options.v1 import options_pb2
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import MethodDescriptor

from kit.errors import AppError

SERVICES = {"auth": aerostic.auth.v1, "tenants": aerostic.tenants.v1, "messaging": aerostic.messaging.v1}
STREAMING = {"UploadMedia", "DownloadMedia"}


def modules_of(package: object) -> list[object]:
    names = [info.name for info in pkgutil.iter_modules(package.__path__) if info.name.endswith("_pb2")]
    return [importlib.import_module(f"{package.__name__}.{name}") for name in names]


def methods() -> list[MethodDescriptor]:
    return [
        method
        for package in SERVICES.values()
        for module in modules_of(package)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]


METHODS = pytest.mark.parametrize("method", methods(), ids=lambda method: method.full_name)


@METHODS
def test_every_method_is_either_public_with_a_permission_or_internal(method: MethodDescriptor) -> None:
    options = method.GetOptions()
    has_http = options.HasExtension(annotations_pb2.http)
    is_internal = options.HasExtension(options_pb2.internal)
    permission = options.Extensions[options_pb2.permission]
    assert has_http != is_internal, "exactly one of google.api.http and internal"
    assert bool(permission) == has_http, "a permission where there is a way in from outside, and only there"
    if permission not in {"PUBLIC", "AUTHENTICATED", ""}:
        assert re.fullmatch(r"[a-z][A-Za-z]*(\.[a-z][A-Za-z]*)+", permission)


@METHODS
def test_some_role_is_granted_every_permission(method: MethodDescriptor) -> None:
    permission = method.GetOptions().Extensions[options_pb2.permission]
    grants = [
        grant
        for role in options_pb2.Role.DESCRIPTOR.values
        for grant in role.GetOptions().Extensions[options_pb2.grants]
    ]
    matches = [g for g in grants if g == permission or (g.endswith("*") and permission.startswith(g[:-1]))]
    assert matches or permission in {"PUBLIC", "AUTHENTICATED", ""}


@METHODS
def test_reads_say_that_they_have_no_side_effects(method: MethodDescriptor) -> None:
    reads = re.match(r"(Get|List|BatchGet|Resolve|Download)[A-Z]", method.name) is not None
    level = method.GetOptions().idempotency_level
    assert (level == descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS) == reads


@METHODS
def test_only_media_bytes_are_streamed(method: MethodDescriptor) -> None:
    is_streaming = method.client_streaming or method.server_streaming
    assert is_streaming == (method.name in STREAMING), "a stream needs an ADR (0006)"


@METHODS
def test_strings_of_requests_are_bounded(method: MethodDescriptor) -> None:
    unbounded = [
        f"{message.full_name}.{field.name}"
        for message in request_messages(method.input_type)
        for field in message.fields
        if field.type == field.TYPE_STRING and not is_bounded(field)
    ]
    assert not unbounded


def request_messages(message: object, seen: frozenset[str] = frozenset()) -> list[object]:
    if message.full_name in seen or message.full_name.startswith("google.protobuf."):
        return []
    inner = [field.message_type for field in message.fields if field.message_type is not None]
    return [message, *(found for each in inner for found in request_messages(each, seen | {message.full_name}))]


def is_bounded(field: object) -> bool:
    from buf.validate import validate_pb2

    rules = field.GetOptions().Extensions[validate_pb2.field]
    text = rules.repeated.items.string if field.is_repeated else rules.string
    named = {name.name for name, _ in text.ListFields()}
    return bool(named & {"max_len", "max_bytes", "uuid", "in", "pattern", "len"})


@pytest.mark.parametrize("service", SERVICES)
def test_every_raised_reason_is_registered_and_every_registered_reason_is_raised(service: str) -> None:
    package = importlib.import_module(f"svc_{service}")
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not info.name.endswith("__main__") and ".migrations." not in info.name:
            importlib.import_module(info.name)
    raised = {error.reason for error in all_subclasses(AppError) if error.__module__.startswith(f"svc_{service}.")}
    enum = importlib.import_module(f"aerostic.{service}.v1.error_reason_pb2").ErrorReason.DESCRIPTOR
    registered = {value.name.removeprefix("ERROR_REASON_") for value in enum.values if value.number}
    assert raised == registered


def all_subclasses(cls: type) -> set[type]:
    return {sub for direct in cls.__subclasses__() for sub in {direct, *all_subclasses(direct)}}
