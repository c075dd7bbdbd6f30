"""Which partition a key belongs to.

A partition is the unit of order: everything about one contact of one number goes through one partition, and a
partition has one active consumer. The function is part of the data's meaning: changing it, or a partition count,
while messages are queued may reorder them, so the counts are settings of the installation and not of a process.
"""

import zlib


def partition_of(key: str, count: int) -> int:
    """The partition of a key, from 0 to count - 1. The same on every machine and in every version."""
    return zlib.crc32(key.encode()) % count
