"""Which partition a key belongs to.

A partition is the unit of order: everything about one contact of one number goes through one partition, and a
partition has one active consumer. The function is part of the data's meaning: changing it, or a partition count,
while messages are queued may reorder them, so the counts are settings of the installation and not of a process.
"""

import re
import zlib

_OWN = re.compile(r"(?<=\.)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}-(?=[0-9]+$)")


def partition_of(key: str, count: int) -> int:
    """The partition of a key, from 0 to count - 1. The same on every machine and in every version."""
    return zlib.crc32(key.encode()) % count


def name_of(partition: int, tenant_id: str = "") -> str:
    """As subjects and consumers name a partition: its number, or `<tenant>-<number>` where the tenant has partitions of
    its own (ADR 0025).
    """
    return f"{tenant_id}-{partition}" if tenant_id else str(partition)


def in_shared(subject: str) -> str:
    """The subject of the shared partition of the same number; other subjects stay as they are. Who reads there takes in
    or passes on what is a tenant's that has partitions of its own, while these may not be read any more.
    """
    return _OWN.sub("", subject)
