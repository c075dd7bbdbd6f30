"""ParkedEventService."""

from aerostic.messaging.v1 import parked_event_service_pb2
from aerostic.messaging.v1.parked_event_service_pb2_grpc import ParkedEventServiceServicer

from kit import pages
from kit.db import Database
from kit.principal import current_principal
from svc_messaging import convert, parked_events


class ParkedEventServer(ParkedEventServiceServicer):
    def __init__(self, db: Database) -> None:
        self._db = db

    async def ListParkedEvents(
        self, request: parked_event_service_pb2.ListParkedEventsRequest, context: object
    ) -> parked_event_service_pb2.ListParkedEventsResponse:
        page = pages.read(request, None, keys=parked_events.LIST.keys)
        async with self._db.begin(current_principal()) as tx:
            listed = await parked_events.list_page(tx, page, reason=request.reason)
        return parked_event_service_pb2.ListParkedEventsResponse(
            parked_events=[convert.parked_event_proto(row) for row in listed.rows],
            next_page_token=listed.next_page_token,
        )
