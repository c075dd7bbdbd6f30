"""Secrets with the one-time tokens of first admins: the one thing that the operator tells nobody else."""

from urllib.parse import quote

from aerostic_operator import objects
from aerostic_operator.events import Note
from aerostic_operator.kube import Kube, secret_path
from aerostic_operator.objects import GROUP, Body, Json, Key
from aerostic_operator.tenants.model import Desired, Invite, Observed
from aerostic_operator.tenants.platform import TenantPlatform

_LABEL = f"{GROUP}/first-admin-of"


class FirstAdmins:
    """Invites them, and keeps their tokens in one namespace until they have joined."""

    def __init__(self, kube: Kube, platform: TenantPlatform, *, namespace: str, app_url: str) -> None:
        """`app_url`: the dashboard, for links; empty: no links."""
        self._kube = kube
        self._platform = platform
        self._namespace = namespace
        self._app_url = app_url

    async def having_secrets(self) -> set[str]:
        """Slugs of the tenants whose first admin has a Secret. Raises KubeError."""
        folder = f"/api/v1/namespaces/{self._namespace}/secrets"
        return {each["metadata"]["labels"][_LABEL] for each in await self._kube.items(folder, selector=_LABEL)}

    async def has_secret(self, slug: str) -> bool:
        return await self._kube.find(secret_path(self._key(slug))) is not None

    async def invite(self, body: Body, action: Invite) -> Note:
        """Raises RemoteError and KubeError."""
        admin, token = await self._platform.invite(action.tenant_id, action.email)
        if not token:
            return Note("FirstAdminJoined", f"{admin.email} is admin already.")
        key = self._key(body["spec"]["slug"])
        secret = self._secret(body, token=token, email=admin.email, expires=admin.expire_time)
        await self._kube.apply(secret_path(key), secret)
        return Note("FirstAdminInvited", f"The token for {admin.email} is in the Secret {key.name}.")

    async def forget(self, slug: str) -> Note:
        await self._kube.delete(secret_path(self._key(slug)))
        return Note("FirstAdminJoined", "The first admin has joined; the Secret with the token is removed.")

    def status(self, desired: Desired, observed: Observed) -> Json | None:
        """What the object's status tells of its first admin."""
        admin = observed.first_admin
        if admin is None or desired.owner_email is None:
            return None
        if admin.has_joined:
            return {"email": admin.email, "state": "joined"}
        key = self._key(desired.slug)
        where = {"secretName": key.name, "secretNamespace": key.namespace} if observed.has_secret else {}
        return {"email": admin.email, "state": "invited", "expireTime": admin.expire_time, **where}

    def _key(self, slug: str) -> Key:
        return Key(self._namespace, f"tenant-{slug}-first-admin")

    def _secret(self, body: Body, *, token: str, email: str, expires: str) -> Json:
        slug = body["spec"]["slug"]
        link = {"link": f"{self._app_url}/accept-invitation?token={quote(token)}"} if self._app_url else {}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": self._key(slug).name,
                "namespace": self._namespace,
                "labels": {_LABEL: slug},
                "ownerReferences": [objects.owner_reference(body)],
            },
            "stringData": {"token": token, "email": email, "expires": expires, **link},
        }
