"""What all numbers of a sender share."""

from collections.abc import Callable
from dataclasses import dataclass

from kit.db import Database
from kit.principal import Principal
from svc_messaging.sender.claimer import Claimer
from svc_messaging.sender.credentials import CredentialsCache
from svc_messaging.sender.graph import GraphClient
from svc_messaging.sender.media_out import MediaUploads
from svc_messaging.sender.recorder import Recorder


@dataclass(frozen=True, slots=True)
class Parts:
    """Made once by the process."""

    db: Database
    worker: Principal
    graph: GraphClient
    credentials: CredentialsCache
    uploads: MediaUploads
    claimer: Claimer
    recorder: Recorder
    is_lease_lost: Callable[[], bool]
    """Whether another process may be sending for the same numbers already."""
    lease_held_at: Callable[[], float]
    """A moment, by time.monotonic(), at which the lease was held for certain."""
