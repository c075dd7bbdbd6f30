"""ContactService."""

import uuid

from aerostic.messaging.v1 import contact_pb2, contact_service_pb2
from aerostic.messaging.v1.contact_service_pb2_grpc import ContactServiceServicer

from kit import answers, pages
from kit.db import Database
from kit.principal import current_principal
from svc_messaging import contacts, convert


class ContactServer(ContactServiceServicer):
    def __init__(self, db: Database) -> None:
        self._db = db

    async def ListContacts(
        self, request: contact_service_pb2.ListContactsRequest, context: object
    ) -> contact_service_pb2.ListContactsResponse:
        principal = current_principal()
        tenant_id = principal.require_tenant()
        page = pages.read(request, tenant_id, keys=contacts.FOUND_KEYS if request.query else contacts.LIST.keys)
        async with self._db.begin(principal) as tx:
            if request.query:
                listed = await contacts.search(tx, tenant_id, request.query, page)
            else:
                listed = await contacts.list_page(tx, tenant_id, page)
        return answers.either(
            lambda: contact_service_pb2.ListContactsResponse(
                contacts=[convert.contact_proto(row) for row in listed.rows],
                next_page_token=listed.next_page_token,
                previous_page_token=listed.previous_page_token,
            ),
            lambda: {"contacts": [convert.contact_json(row) for row in listed.rows], **listed.tokens_json},
        )

    async def GetContact(self, request: contact_service_pb2.GetContactRequest, context: object) -> contact_pb2.Contact:
        principal = current_principal()
        async with self._db.begin(principal) as tx:
            row = await contacts.get(tx, principal.require_tenant(), uuid.UUID(request.contact_id))
        return answers.either(lambda: convert.contact_proto(row), lambda: convert.contact_json(row))
