"""The contracts' comments. Generated code has none; they are in the descriptor image that is installed with it."""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

import aerostic
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet

IMAGE = "aerostic.binpb"

# Numbers of the fields of descriptor.proto that lead to what is commented.
_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6
_FIELDS, _NESTED, _NESTED_ENUMS, _ONEOFS = 2, 3, 4, 8
_METHODS = _VALUES = 2

_Path = tuple[int, ...]


class ImageMissing(Exception):
    """The contracts were built without their image."""


@functools.cache
def comments() -> Mapping[str, str]:
    """Texts by the full names of services, methods, messages, fields, oneofs, enums and their values."""
    image = FileDescriptorSet.FromString(_find().read_bytes())
    found: dict[str, str] = {}
    for file in image.file:
        names = dict(_names(file))
        for location in file.source_code_info.location:
            text = location.leading_comments or location.trailing_comments
            if text and (name := names.get(tuple(location.path))):
                found[name] = _flow(text)
    return found


def _find() -> Path:
    for root in aerostic.__path__:
        image = Path(root) / IMAGE
        if image.exists():
            return image
    raise ImageMissing(f"{IMAGE} is not beside the generated contracts; tools/gen_protos.py builds it")


def _names(file: FileDescriptorProto) -> Iterator[tuple[_Path, str]]:
    package = file.package
    for number, message in enumerate(file.message_type):
        yield from _message_names(message, (_MESSAGES, number), package)
    for number, enum in enumerate(file.enum_type):
        yield from _enum_names(enum, (_ENUMS, number), package)
    for number, service in enumerate(file.service):
        name = f"{package}.{service.name}"
        yield (_SERVICES, number), name
        for each, method in enumerate(service.method):
            yield (_SERVICES, number, _METHODS, each), f"{name}.{method.name}"


def _message_names(message: DescriptorProto, path: _Path, above: str) -> Iterator[tuple[_Path, str]]:
    name = f"{above}.{message.name}"
    yield path, name
    for number, field in enumerate(message.field):
        yield (*path, _FIELDS, number), f"{name}.{field.name}"
    for number, oneof in enumerate(message.oneof_decl):
        yield (*path, _ONEOFS, number), f"{name}.{oneof.name}"
    for number, nested in enumerate(message.nested_type):
        yield from _message_names(nested, (*path, _NESTED, number), name)
    for number, enum in enumerate(message.enum_type):
        yield from _enum_names(enum, (*path, _NESTED_ENUMS, number), name)


def _enum_names(enum: EnumDescriptorProto, path: _Path, above: str) -> Iterator[tuple[_Path, str]]:
    name = f"{above}.{enum.name}"
    yield path, name
    for number, value in enumerate(enum.value):
        yield (*path, _VALUES, number), f"{name}.{value.name}"


def _flow(text: str) -> str:
    """Lines joined to paragraphs: where the source wraps says nothing."""
    paragraphs = text.strip().split("\n\n")
    return "\n\n".join(" ".join(line.strip() for line in paragraph.splitlines()) for paragraph in paragraphs)
