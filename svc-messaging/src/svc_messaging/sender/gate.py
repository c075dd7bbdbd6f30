"""Whether a number may send now: connected, its workspace not suspended, its token not refused a moment ago."""

import asyncio

from svc_messaging.sender.credentials import Credentials, CredentialsCache

_SUSPENDED_SECONDS = 5.0
_REFUSED_SECONDS = 1.0
_REFUSED_TOKEN_SECONDS = 60.0


class Closed(Exception):
    """Nothing may be sent. After `seconds` it is worth another look."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"closed for {seconds} s")
        self.seconds = seconds


class Gate:
    """One number's."""

    def __init__(self, phone_number_id: str, credentials: CredentialsCache) -> None:
        self._number = phone_number_id
        self._cache = credentials
        self._loop = asyncio.get_running_loop()
        self._refused: tuple[int, float] | None = None  # token version, and until when it is not tried again

    async def credentials(self) -> Credentials:
        """What to send with now. Raises Closed, NotConnected or CredentialsUnavailable."""
        credentials = await self._cache.get(self._number)
        if credentials.tenant_suspended:
            raise Closed(_SUSPENDED_SECONDS)
        if self.is_refused(credentials):
            raise Closed(_REFUSED_SECONDS)
        self._refused = None
        return credentials

    def refuse(self, credentials: Credentials) -> None:
        """Meta says that this token is no longer good."""
        self._refused = (credentials.token_version, self._loop.time() + _REFUSED_TOKEN_SECONDS)
        self._cache.forget(self._number)

    def is_refused(self, credentials: Credentials) -> bool:
        """Whether Meta has said so just now."""
        if self._refused is None:
            return False
        version, until = self._refused
        return version == credentials.token_version and self._loop.time() < until
