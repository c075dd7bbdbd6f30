"""Typed keys of what the web application and its requests carry."""

from aiohttp import web

from meta_emulator.emulator import Emulator

EMULATOR = web.AppKey("emulator", Emulator)

# The id printed in the error body and in the headers of one Graph answer.
TRACE_ID = web.RequestKey("trace_id", str)
# The x-business-use-case-usage header, set by management calls.
BUSINESS_USAGE = web.RequestKey("business_usage", str)
