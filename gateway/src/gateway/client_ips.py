"""Whose address a request comes from, behind proxies of our own or not."""

import functools
import ipaddress
from collections.abc import Iterable, Sequence

from starlette.requests import Request

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

METADATA_KEY = "aerostic-client-ip"
"""How services are told, in metadata of calls that the gateway makes under its own name."""
_IN_SCOPE = "aerostic.client_ip"
_REMEMBERED_MAX = 4096


class ClientIps:
    """Believes X-Forwarded-For as far as our own proxies wrote it."""

    def __init__(self, trusted_proxies: Iterable[str]) -> None:
        self._trusted: Sequence[Network] = [ipaddress.ip_network(network) for network in trusted_proxies]

    def of(self, request: Request) -> str:
        """The client's address in canonical text; empty where it has none (a Unix socket)."""
        known: str | None = request.scope.get(_IN_SCOPE)
        if known is None:
            known = request.scope[_IN_SCOPE] = self._find(request)
        return known

    def _find(self, request: Request) -> str:
        found = _parse(request.client.host) if request.client else None
        if found is None:
            return ""
        if not self._is_trusted(found):
            return str(found)
        # Each proxy appends the peer it saw, so the list is read from its end, while our own proxies vouch for it.
        forwarded = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
        while self._is_trusted(found) and forwarded and (named := _parse(forwarded.pop())):
            found = named
        return str(found)

    def is_proxied(self, request: Request) -> bool:
        """Whether one of our proxies passed the request on, so that its X-Forwarded headers are to be believed."""
        peer = _parse(request.client.host) if request.client else None
        return peer is not None and self._is_trusted(peer)

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


@functools.lru_cache(_REMEMBERED_MAX)
def _parse(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    # A dual-stack socket shows IPv4 peers as ::ffff:192.0.2.1; throttling must see one client, not two.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
