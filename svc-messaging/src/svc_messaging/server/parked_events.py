"""ParkedEventService."""

import uuid

import structlog
from aerostic.messaging.v1 import parked_event_service_pb2 as pb
from aerostic.messaging.v1.parked_event_service_pb2_grpc import ParkedEventServiceServicer

from kit import pages
from kit.db import Database
from kit.principal import current_principal
from svc_messaging import convert, parked_events

log = structlog.get_logger()


class ParkedEventServer(ParkedEventServiceServicer):
    def __init__(self, db: Database) -> None:
        self._db = db

    async def ListParkedEvents(
        self, request: pb.ListParkedEventsRequest, context: object
    ) -> pb.ListParkedEventsResponse:
        page = pages.read(request, None, keys=parked_events.LIST.keys)
        async with self._db.begin(current_principal()) as tx:
            listed = await parked_events.list_page(
                tx, page, reason=request.reason, state=request.state, phone_number_id=request.phone_number_id
            )
        return pb.ListParkedEventsResponse(
            parked_events=[convert.parked_event_proto(row) for row in listed.rows],
            next_page_token=listed.next_page_token,
        )

    async def RetryParkedEvent(self, request: pb.RetryParkedEventRequest, context: object) -> pb.ParkedEvent:
        caller = current_principal()
        async with self._db.begin(caller) as tx:
            row = await parked_events.retry(tx, uuid.UUID(request.parked_event_id))
        log.info("parked_event_retried", parked_event=request.parked_event_id, user=str(caller.user_id))
        return convert.parked_event_proto(row)

    async def RetryParkedEvents(
        self, request: pb.RetryParkedEventsRequest, context: object
    ) -> pb.RetryParkedEventsResponse:
        caller = current_principal()
        async with self._db.begin(caller) as tx:
            count = await parked_events.retry_all(tx, reason=request.reason, phone_number_id=request.phone_number_id)
        log.info("parked_events_retried", count=count, reason=request.reason, user=str(caller.user_id))
        return pb.RetryParkedEventsResponse(retried_count=count)
