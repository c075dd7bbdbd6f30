"""The installation's JetStream streams: what is kept, how long, and under which subjects.

Every service that publishes to or reads a stream makes sure at start that it exists. Durability is the server's
setting `sync_interval: always`: a publish is acknowledged after its fsync.
"""

from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

_DAY = 24 * 3600
_ENVELOPE_BYTES_MAX = 8 * 1024 * 1024

META = "META"
"""Every verified webhook body of Meta: the raw journal. Subjects `meta.<partition>`."""
SEND = "SEND"
"""Messages waiting to be sent to Meta. Subjects `send.<lane>.<partition>`."""
EVENTS = "EVENTS"
"""What happened in the platform, as CloudEvents. Subjects `events.<service>.<resource>.<verb>.<tenant>`."""
DEAD = "DEAD"
"""What a consumer could not process, with the reason in its headers. Subjects `dead.<stream>.<consumer>`."""

ROUTES = "ROUTES"
"""Where webhooks are to wait. Its one subject holds the whole table (kit.routes)."""
ROUTES_META = "routes.meta"
_ROUTES_SECONDS = 300


def meta(*, keep_days: float = 7, bytes_max: int = 0, replicas: int = 1) -> StreamConfig:
    """`bytes_max`: of the whole journal; 0 leaves it to the disk."""
    return StreamConfig(
        name=META,
        subjects=["meta.*"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        num_replicas=replicas,
        max_age=keep_days * _DAY,
        max_bytes=bytes_max or -1,
        max_msg_size=_ENVELOPE_BYTES_MAX,
        # A full journal must refuse (Meta retries for days) rather than forget what was acknowledged.
        discard=DiscardPolicy.NEW,
        duplicate_window=120,
    )


def send(*, messages_max: int = 5_000_000, replicas: int = 1) -> StreamConfig:
    return StreamConfig(
        name=SEND,
        subjects=["send.*.*"],
        retention=RetentionPolicy.WORK_QUEUE,
        storage=StorageType.FILE,
        num_replicas=replicas,
        discard=DiscardPolicy.NEW,
        max_msgs=messages_max,
        duplicate_window=120,
        allow_atomic=True,
    )


def events(*, keep_days: float = 3, replicas: int = 1) -> StreamConfig:
    return StreamConfig(
        name=EVENTS,
        subjects=["events.*.*.*.*"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        num_replicas=replicas,
        max_age=keep_days * _DAY,
        discard=DiscardPolicy.OLD,
        duplicate_window=120,
        allow_direct=True,
        allow_atomic=True,
    )


def dead(*, keep_days: float = 30, replicas: int = 1) -> StreamConfig:
    return StreamConfig(
        name=DEAD,
        subjects=["dead.*.*"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        num_replicas=replicas,
        max_age=keep_days * _DAY,
        discard=DiscardPolicy.OLD,
    )


def routes(*, replicas: int = 1) -> StreamConfig:
    return StreamConfig(
        name=ROUTES,
        subjects=[ROUTES_META],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        num_replicas=replicas,
        max_msgs_per_subject=1,
        # It is confirmed again and again; who starts shall find no table from before an outage.
        max_age=_ROUTES_SECONDS,
        discard=DiscardPolicy.OLD,
    )
