"""Webhooks as Meta sends them: payloads, exact bytes, signatures, packing, retries."""
