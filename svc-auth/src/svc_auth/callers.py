"""Where a caller comes from, for the log-in throttle. Only the edge sees it; anybody else could name a victim's."""

from collections.abc import Iterable

from kit.principal import current_principal

_EDGE = "gateway"
_ADDRESS = "aerostic-client-ip"


def address(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The client's IP address; empty where nobody who may say so has said it."""
    caller = current_principal()
    if caller.kind != "service" or caller.name != _EDGE:
        return ""
    return next((str(value)[:64] for key, value in metadata if key == _ADDRESS), "")
