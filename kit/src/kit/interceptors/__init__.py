"""What happens around every RPC, in this order: request id, tracing, metrics, errors, authentication, validation.

`pipeline` puts them together; each of the others is one concern. They wrap the handlers when a server is built, so
that a method cannot be served without them.
"""
