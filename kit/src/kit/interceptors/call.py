"""One RPC under way, as the interceptors see it."""

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
from grpc.aio import ServicerContext

from kit.access import Method
from kit.errors import AppError
from kit.principal import ANONYMOUS, Principal

if TYPE_CHECKING:
    Context: TypeAlias = ServicerContext[bytes, bytes]
    Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]
else:  # generic in the type stubs only
    Context, Handler = ServicerContext, grpc.RpcMethodHandler


@dataclass(slots=True)
class Call:
    method: Method
    metadata: dict[str, list[str]]
    """What the caller sent beside the request, without binary values."""
    timeout_seconds: float
    started_at: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    principal: Principal = ANONYMOUS
    failure: AppError | None = None
    """What the caller will be told; None while all is well."""

    @property
    def seconds(self) -> float:
        """Time since the call arrived."""
        return asyncio.get_running_loop().time() - self.started_at

    def first(self, key: str) -> str | None:
        values = self.metadata.get(key)
        return values[0] if values else None


def text_metadata(context: Context) -> dict[str, list[str]]:
    """The call's metadata by key; binary values are left out, as none of ours is."""
    metadata: dict[str, list[str]] = {}
    for key, value in context.invocation_metadata() or ():
        if isinstance(value, str):
            metadata.setdefault(key, []).append(value)
    return metadata
