"""GET /docs, the API reference, and GET /openapi.json, of which it is made. Nothing of it comes from another host."""

from gateway.docs.pages import routes

__all__ = ["routes"]
