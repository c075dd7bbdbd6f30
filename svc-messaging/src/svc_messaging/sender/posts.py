"""Messages leave: POSTs of JSON to Meta, written in one piece (ADR 0018)."""

from kit.http_pool import HttpPool, Reply, Written


class Posts:
    """A bounded pool of connections to Meta."""

    def __init__(self, url: str, *, connections: int) -> None:
        self._pool = HttpPool(url, connections=connections)

    async def post(self, path: str, body: bytes, *, token: str, written: Written) -> Reply:
        """As HttpPool.exchange. Raises ValueError for what would begin another header."""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._pool.netloc}\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nAccept: application/json\r\nUser-Agent: aerostic\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        if not token.isprintable() or not path.isprintable() or " " in path:
            raise ValueError("a path and a token are one printable word each")
        return await self._pool.exchange(head.encode() + body, written=written)

    def close(self) -> None:
        self._pool.close()
