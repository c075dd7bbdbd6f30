"""A strict stand-in for graph.facebook.com: Graph API, signed webhooks, a phone page and fault injection."""
