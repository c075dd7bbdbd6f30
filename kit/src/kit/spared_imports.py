"""What other libraries import only in case it is there, and no process of ours uses through them: nats-py takes aiohttp
for WebSockets, structlog takes rich for tracebacks. Together they are a fifth of a process's start, and so of the time
between its death and its first answer.
"""

import importlib
import sys


def import_without(library: str, *extras: str) -> None:
    """Import a library as if these were not installed. Those that are imported already stay as they are."""
    hidden = [extra for extra in extras if extra not in sys.modules]
    # The import system's own way to say that a module cannot be had.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        importlib.import_module(library)
    finally:
        for extra in hidden:
            del sys.modules[extra]


import_without("nats", "aiohttp")
import_without("structlog", "rich")
