"""Which RPC answers which method and path: derived from google.api.http, additional bindings included."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from google.api import http_pb2
from google.protobuf.message import Message

from gateway.backends import message_class
from gateway.transcode import paths, query
from gateway.transcode.paths import Template
from kit.access import Method

WHOLE_BODY = "*"
_ANY = "{}"


@dataclass(frozen=True, slots=True)
class Binding:
    """One way to call an RPC by HTTP."""

    method: Method
    verb: str
    template: Template
    body: str
    """The field that the body fills, "*" for all that the path leaves, empty for none."""
    is_additional: bool

    @property
    def request_class(self) -> type[Message]:
        return message_class(self.method.descriptor.input_type)

    @property
    def path_fields(self) -> frozenset[str]:
        """Fields at the top of the request that the path sets, which therefore nothing else may."""
        return frozenset(variable for variable in self.template.variables if "." not in variable)

    @property
    def unqueried_fields(self) -> frozenset[str]:
        """Fields that are no query parameters, since path or body set them."""
        return self.path_fields | ({self.body} if self.body else frozenset())


@dataclass(slots=True)
class Route:
    """A path with the bindings of its HTTP methods."""

    template: Template
    bindings: dict[str, Binding] = field(default_factory=dict)

    @property
    def allow(self) -> str:
        return ", ".join(sorted(self.bindings))


class Table:
    """All routes, found by the segment after the version: there are dozens, and few that begin alike."""

    def __init__(self, routes: Sequence[Route]) -> None:
        """`routes` in the order in which to try them."""
        self.routes = tuple(routes)
        heads = {_head(route.template.text) for route in routes}
        self._by_head = {head: self._beginning(head) for head in heads}
        self._others = self._beginning(_ANY)

    def of(self, raw_path: str) -> Sequence[Route]:
        """Those that could be meant by a path, in order."""
        return self._by_head.get(_head(raw_path), self._others)

    def _beginning(self, head: str) -> Sequence[Route]:
        return [route for route in self.routes if _head(route.template.text) in {head, _ANY}]


class ContractUnsupported(Exception):
    """A contract asks for something that this gateway does not do. Found at start."""


def bindings(methods: Iterable[Method]) -> Iterator[Binding]:
    """All bindings of public methods. Raises ContractUnsupported."""
    for method in methods:
        if method.http is not None:
            yield _binding(method, method.http, is_additional=False)
            for rule in method.http.additional_bindings:
                yield _binding(method, rule, is_additional=True)


def table(bound: Iterable[Binding]) -> Table:
    """Raises ContractUnsupported for two answers to one question."""
    routes: dict[str, Route] = {}
    for binding in bound:
        # {id} and {contact_id} in the same place are one path.
        route = routes.setdefault(binding.template.pattern.pattern, Route(binding.template))
        if other := route.bindings.get(binding.verb):
            names = f"{other.method.full_name} and {binding.method.full_name}"
            raise ContractUnsupported(f"{names} both answer {binding.verb} {binding.template.text}")
        route.bindings[binding.verb] = binding
    return Table(sorted(routes.values(), key=lambda route: route.template.rank))


def _head(path: str) -> str:
    """Of a path or a template: "conversations" in /v1/conversations/{id}:close; _ANY where it is a variable."""
    segments = path.split("/", 3)
    head = segments[2].partition(":")[0] if len(segments) > 2 else ""
    return _ANY if "{" in head else head


def _binding(method: Method, rule: http_pb2.HttpRule, *, is_additional: bool) -> Binding:
    verb = rule.WhichOneof("pattern")
    if verb is None or verb == "custom" or rule.response_body:
        raise ContractUnsupported(f"{method.full_name}: custom methods and response_body are not supported")
    template = paths.parse(getattr(rule, verb))
    binding = Binding(method, verb.upper(), template, rule.body, is_additional)
    descriptor = method.descriptor.input_type
    for variable in template.variables:
        if not query.settable(descriptor, variable):
            raise ContractUnsupported(f"{method.full_name}: {variable} of its path is no single field of its request")
    body_field = descriptor.fields_by_name.get(rule.body)
    if rule.body not in {"", WHOLE_BODY} and (body_field is None or body_field.message_type is None):
        raise ContractUnsupported(f"{method.full_name}: its body {rule.body} is no message of its request")
    return binding
