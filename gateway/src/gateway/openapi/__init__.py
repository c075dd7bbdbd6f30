"""The OpenAPI document, derived from what the gateway really serves: contracts, their comments and their rules."""

from gateway.openapi.assembly import document

__all__ = ["document"]
