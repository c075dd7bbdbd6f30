"""Servicers behind a real server with all interceptors, and callers of every kind, for tests.

async with serve(ContactServer(db), translate=as_app_error) as rpc:
contacts = rpc.stub(ContactServiceStub)
agent = rpc.user(tenant_id=tenant_id, role="agent")
page = await agent.call(contacts.ListContacts, ListContactsRequest())
"""

import hashlib
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TypeVar

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor
from grpc.aio import StreamUnaryMultiCallable, UnaryStreamMultiCallable, UnaryUnaryMultiCallable

from kit.access import all_methods
from kit.grpc_client import Channel
from kit.grpc_server import DEFAULTS, Server, ServerOptions, unknown
from kit.interceptors.auth import Authenticator
from kit.interceptors.failures import Translate
from kit.keys import JwkSet, KeySource, encode_key
from kit.principal import Principal
from kit.service_tokens import ServiceIdentity, ServiceTrust
from kit.tokens import ACCESS_SECONDS, AccessTokenSigner, AccessTokenVerifier

S = TypeVar("S")
Request = TypeVar("Request")
Answer = TypeVar("Answer")

_CALL_SECONDS = 30.0


class Authority:
    """Stands where svc-auth and the key settings stand: signs tokens, and knows who is trusted."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        """`names`: processes to trust beside those that the contracts name."""
        self._signer = AccessTokenSigner("test", seed("users"))
        named = {name for method in all_methods() for name in method.callers or ()}
        self.identities = {name: ServiceIdentity(name, seed(name)) for name in {*named, *names}}
        self.keys = KeySource(self.jwks)
        self.trust = ServiceTrust({name: (identity.public_key_bytes,) for name, identity in self.identities.items()})
        self.authenticator = Authenticator(AccessTokenVerifier(self.keys), self.trust)

    async def jwks(self) -> JwkSet:
        """As svc-auth's GetJwks answers."""
        jwk = SimpleNamespace(kty="OKP", crv="Ed25519", kid="test", x=encode_key(self._signer.public_key_bytes))
        return SimpleNamespace(keys=[jwk])

    def user_token(self, principal: Principal, *, lifetime_seconds: float = ACCESS_SECONDS) -> str:
        return self._signer.sign(principal, lifetime_seconds=lifetime_seconds)


def make_user(
    *,
    tenant_id: uuid.UUID | None = None,
    role: str = "admin",
    user_id: uuid.UUID | None = None,
    session_id: uuid.UUID | None = None,
) -> Principal:
    """A user; what is not given is new."""
    return Principal.user(
        user_id=user_id or uuid.uuid4(), role=role, tenant_id=tenant_id, session_id=session_id or uuid.uuid4()
    )


def make_user_token(*, tenant_id: uuid.UUID | None = None, role: str = "admin") -> str:
    """An access token that every server of this module accepts."""
    return Authority().user_token(make_user(tenant_id=tenant_id, role=role))


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who calls. Raises RemoteError as kit.grpc_client does."""

    channel: Channel
    token: str
    principal: Principal

    async def call(
        self,
        method: "UnaryUnaryMultiCallable[Request, Answer]",
        request: Request,
        *,
        timeout: float = _CALL_SECONDS,
    ) -> Answer:
        return await self.channel.call(method, request, timeout=timeout, token=self.token)

    def stream(
        self, method: "UnaryStreamMultiCallable[Request, Answer]", request: Request, *, timeout: float = _CALL_SECONDS
    ) -> AsyncIterator[Answer]:
        return self.channel.stream(method, request, timeout=timeout, token=self.token)

    async def upload(
        self,
        method: "StreamUnaryMultiCallable[Request, Answer]",
        requests: AsyncIterator[Request],
        *,
        timeout: float = _CALL_SECONDS,
    ) -> Answer:
        return await self.channel.upload(method, requests, timeout=timeout, token=self.token)


@dataclass(frozen=True, slots=True)
class Rpc:
    """A running server and a channel to it."""

    server: Server
    channel: Channel
    authority: Authority

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def stub(self, stub: Callable[[grpc.aio.Channel], S]) -> S:
        return self.channel.stub(stub)

    def user(
        self, *, tenant_id: uuid.UUID | None = None, role: str = "admin", user_id: uuid.UUID | None = None
    ) -> Caller:
        """A signed-in user; without `tenant_id` one outside any workspace."""
        return self.as_user(make_user(tenant_id=tenant_id, role=role, user_id=user_id))

    def as_user(self, principal: Principal) -> Caller:
        return Caller(self.channel, self.authority.user_token(principal), principal)

    def service(self, name: str) -> Caller:
        """One of our processes."""
        return Caller(self.channel, self.authority.identities[name].token(), Principal.service(name))

    def anonymous(self) -> Caller:
        return self.bearer("")

    def bearer(self, token: str) -> Caller:
        """Whoever holds this token."""
        return Caller(self.channel, token, Principal("anonymous"))


@asynccontextmanager
async def serve(
    *servicers: object,
    translate: Translate = unknown,
    authority: Authority | None = None,
    authenticator: Authenticator | None = None,
    options: ServerOptions = DEFAULTS,
    domain: str = "test.aerostic.io",
    port: int = 0,
) -> AsyncIterator[Rpc]:
    """Serve on a loopback port, a free one by default, until the block ends.

    `authenticator` replaces the authority's, to test the real one of svc-auth.
    """
    authority = authority or Authority()
    server = Server(
        f"127.0.0.1:{port}",
        servicers,
        domain=domain,
        authenticator=authenticator or authority.authenticator,
        translate=translate,
        options=options,
    )
    await server.start()
    await server.ready()
    channel = Channel(f"127.0.0.1:{server.port}", services=_descriptors(server.services))
    try:
        yield Rpc(server, channel, authority)
    finally:
        await channel.close()
        await server.drain(seconds=5)


def seed(name: str) -> bytes:
    """The test key of this name: always the same, and trusted nowhere but in tests."""
    return hashlib.sha256(f"aerostic test key of {name}".encode()).digest()


def _descriptors(names: Iterable[str]) -> list[ServiceDescriptor]:
    return [descriptor_pool.Default().FindServiceByName(name) for name in names]
