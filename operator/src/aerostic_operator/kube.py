"""The Kubernetes API, as far as the operator writes to it and asks it single questions; kopf watches."""

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp
import kopf

from aerostic_operator.objects import GROUP, VERSION, Json, Key

_CONNECTIONS = 12
_SECONDS = 20
_PAGE = 500
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _CONFLICT = 401, 403, 404, 409
_TOO_MANY = 429


class KubeError(Exception):
    """What the API server refused, or that it does not answer (status 0)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"Kubernetes API: {status} {message}")
        self.status = status
        self.message = message

    @property
    def is_conflict(self) -> bool:
        """Somebody else wrote in between, or the object is there already."""
        return self.status == _CONFLICT

    @property
    def is_forbidden(self) -> bool:
        """The operator has no right to that."""
        return self.status == _FORBIDDEN

    @property
    def is_refusal(self) -> bool:
        """The API server will not have it so: who asks again need not hurry."""
        return 400 <= self.status < 500 and self.status not in {_UNAUTHORIZED, _TOO_MANY}


class NotFound(KubeError):
    """There is no such object, or none any more."""


def credentials() -> kopf.ConnectionInfo:
    """Of the pod's service account, or of the kubeconfig outside of a cluster. Raises KubeError."""
    settings = kopf.OperatorSettings()
    for login in (kopf.login_with_service_account, kopf.login_with_kubeconfig):
        found: kopf.ConnectionInfo | None = login(settings=settings)
        if found is not None:
            return found
    raise KubeError(0, "no service account and no kubeconfig were found")


def path_of(plural: str, key: Key | None = None, *, namespace: str = "") -> str:
    """The URL of one of our objects, or of all of a kind."""
    namespace = key.namespace if key else namespace
    scope = f"namespaces/{namespace}/" if namespace else ""
    name = f"/{key.name}" if key else ""
    return f"/apis/{GROUP}/{VERSION}/{scope}{plural}{name}"


def secret_path(key: Key) -> str:
    return f"/api/v1/namespaces/{key.namespace}/secrets/{key.name}"


class Kube:
    """`async with Kube() as kube`. Few connections, shared by all who call; tokens are read anew when refused."""

    def __init__(self) -> None:
        self._info = credentials()
        self._http = aiohttp.ClientSession(
            self._info.server,
            connector=aiohttp.TCPConnector(ssl=self._info.as_ssl_context(), limit=_CONNECTIONS),
            timeout=aiohttp.ClientTimeout(total=_SECONDS),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    @property
    def namespace(self) -> str:
        """Where the operator itself lives, as its credentials say; empty where they do not."""
        return self._info.default_namespace or ""

    async def get(self, path: str) -> Json:
        """Raises NotFound."""
        return await self._call("GET", path)

    async def find(self, path: str) -> Json | None:
        try:
            return await self.get(path)
        except NotFound:
            return None

    async def items(self, path: str, *, selector: str = "", is_optional: bool = False) -> list[Json]:
        """All objects of a kind, in pages; with `selector` those with these labels. Of a kind that `is_optional` there
        are none where the cluster does not serve it.
        """
        found: list[Json] = []
        labels = f"&labelSelector={quote(selector)}" if selector else ""
        more = ""
        while True:
            try:
                page = await self.get(f"{path}?limit={_PAGE}{labels}{more}")
            except NotFound:
                if is_optional:
                    return found
                raise
            found += page["items"]
            token = page["metadata"].get("continue")
            if not token:
                return found
            more = f"&continue={quote(token)}"

    async def create(self, path: str, body: Mapping[str, Any]) -> Json:
        """Raises KubeError; of one that is there already `is_conflict`."""
        return await self._call("POST", path, body)

    async def replace(self, path: str, body: Mapping[str, Any]) -> Json:
        """With the resourceVersion that was read: a conflict where somebody wrote since."""
        return await self._call("PUT", path, body)

    async def merge(self, path: str, body: Mapping[str, Any]) -> Json:
        return await self._call("PATCH", path, body, kind="application/merge-patch+json")

    async def apply(self, path: str, body: Mapping[str, Any]) -> Json:
        """Create the object or make it so, whoever wrote it before."""
        path = f"{path}?fieldManager=aerostic-operator&force=true"
        return await self._call("PATCH", path, body, kind="application/apply-patch+yaml")

    async def delete(self, path: str) -> None:
        """What is gone already is fine."""
        try:
            await self._call("DELETE", path)
        except NotFound:
            return

    async def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, kind: str = "application/json"
    ) -> Json:
        try:
            answer = await self._send(method, path, body, kind)
            if answer[0] == _UNAUTHORIZED:
                # Tokens of service accounts are replaced within the hour.
                self._info = credentials()
                answer = await self._send(method, path, body, kind)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise KubeError(0, repr(error)) from error
        status, text = answer
        if status >= 400:
            raise (NotFound if status == _NOT_FOUND else KubeError)(status, _words(text))
        found: Json = json.loads(text)
        return found

    async def _send(self, method: str, path: str, body: Mapping[str, Any] | None, kind: str) -> tuple[int, str]:
        headers = {**self._info.as_http_headers(), "Content-Type": kind}
        data = None if body is None else json.dumps(body)
        async with self._http.request(method, path, data=data, headers=headers) as answer:
            return answer.status, await answer.text()


def _words(text: str) -> str:
    """The API server's own sentence, where it is one that answers."""
    try:
        message = json.loads(text)["message"]
    except (ValueError, KeyError, TypeError):
        message = text
    return str(message)[:500]
