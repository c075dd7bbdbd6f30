"""A client for the API server that knows URLs and JSON, and nothing of the objects behind them."""

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

Object = dict[str, Any]
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
# What kubectl reads.
_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

_SECONDS = 30


class ApiError(RuntimeError):
    """What the API server refused."""

    def __init__(self, status: int, message: str, reason: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.message = message
        self.reason = reason


@dataclass(frozen=True)
class Access:
    """How somebody reaches the API server: by a certificate or by a token."""

    url: str
    authority: Path
    certificate: Path | None = None
    key: Path | None = None
    token: str = ""

    def kubeconfig(self) -> Object:
        """What kubectl, helm and kopf read; JSON is YAML."""
        user: Object = {"token": self.token} if self.token else {}
        if self.certificate is not None:
            user = {"client-certificate": str(self.certificate), "client-key": str(self.key)}
        cluster = {"server": self.url, "certificate-authority": str(self.authority)}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "devkube", "cluster": cluster}],
            "users": [{"name": "devkube", "user": user}],
            "contexts": [{"name": "devkube", "context": {"cluster": "devkube", "user": "devkube"}}],
            "current-context": "devkube",
        }

    def ssl_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.authority))
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
        return context


class Api:
    """Calls with somebody's access: `async with Api(access) as api`. Paths begin with /api or /apis."""

    def __init__(self, access: Access) -> None:
        headers = {"Authorization": f"Bearer {access.token}"} if access.token else {}
        self._http = aiohttp.ClientSession(
            access.url, connector=aiohttp.TCPConnector(ssl=access.ssl_context()), headers=headers
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def get(self, path: str, **query: str) -> Object:
        return await self._json("GET", path, query=query)

    async def find(self, path: str) -> Object | None:
        """The object, or None where there is none."""
        try:
            return await self.get(path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def items(self, path: str, **query: str) -> list[Object]:
        found: list[Object] = (await self.get(path, **query))["items"]
        return found

    async def create(self, path: str, body: Mapping[str, Any], **query: str) -> Object:
        return await self._json("POST", path, body, query=query)

    async def patch(self, path: str, body: Mapping[str, Any] | str, *, kind: str = MERGE, **query: str) -> Object:
        return await self._json("PATCH", path, body, kind=kind, query=query)

    async def apply(self, path: str, body: Mapping[str, Any] | str, *, manager: str = "devkube") -> Object:
        """Server-side apply: create the object, given as it is or as YAML, or make it so."""
        return await self.patch(path, body, kind=APPLY, fieldManager=manager, force="true")

    async def delete(self, path: str, **query: str) -> None:
        """Delete an object or a whole collection; what is gone already is fine."""
        try:
            await self._json("DELETE", path, query=query)
        except ApiError as error:
            if error.status != 404:
                raise

    async def serves(self, group: str, plural: str) -> bool:
        """Whether clients find a kind among all that is served; it comes there some moments after its definition."""
        timeout = aiohttp.ClientTimeout(total=_SECONDS)
        async with self._http.get("/apis", headers={"Accept": _AGGREGATED}, timeout=timeout) as answer:
            await _refuse(answer)
            groups = (await answer.json(content_type=None))["items"]
        versions = [each for item in groups if item["metadata"]["name"] == group for each in item["versions"]]
        return any(each["resource"] == plural for version in versions for each in version.get("resources", ()))

    async def watch(self, path: str, **query: str) -> AsyncIterator[tuple[str, Object]]:
        """ADDED for all that is there, then every change, until the server ends the stream."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_SECONDS)
        async with self._http.get(path, params={"watch": "true", **query}, timeout=timeout) as answer:
            await _refuse(answer)
            async for line in answer.content:
                event = json.loads(line)
                yield event["type"], event["object"]

    async def _json(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | str | None = None,
        *,
        kind: str = "application/json",
        query: Mapping[str, str],
    ) -> Object:
        data = body if body is None or isinstance(body, str) else json.dumps(body)
        headers = {"Content-Type": kind}
        timeout = aiohttp.ClientTimeout(total=_SECONDS)
        async with self._http.request(
            method, path, data=data, headers=headers, params=query, timeout=timeout
        ) as answer:
            await _refuse(answer)
            found: Object = await answer.json()
            return found


async def _refuse(answer: aiohttp.ClientResponse) -> None:
    if answer.status < 400:
        return
    text = await answer.text()
    try:
        status = json.loads(text)
    except ValueError:
        status = {"message": text[:500]}
    raise ApiError(answer.status, status.get("message", ""), status.get("reason", answer.reason or ""))
