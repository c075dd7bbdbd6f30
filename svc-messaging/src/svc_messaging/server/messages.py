"""MessageService."""

import uuid

from aerostic.messaging.v1 import message_pb2, message_service_pb2
from aerostic.messaging.v1.message_service_pb2_grpc import MessageServiceServicer

from kit import answers, pages
from kit.db import Database, Row
from kit.principal import current_principal
from svc_messaging import contacts, conversations, convert, messages, sending
from svc_messaging.queues import Queues
from svc_messaging.server import drafts
from svc_messaging.server.workspaces import Workspaces


class MessageServer(MessageServiceServicer):
    def __init__(self, db: Database, workspaces: Workspaces, queues: Queues) -> None:
        self._db = db
        self._workspaces = workspaces
        self._queues = queues

    async def ListMessages(
        self, request: message_service_pb2.ListMessagesRequest, context: object
    ) -> message_service_pb2.ListMessagesResponse:
        principal = current_principal()
        tenant_id, conversation_id = principal.require_tenant(), uuid.UUID(request.conversation_id)
        page = pages.read(request, tenant_id, keys=messages.LIST.keys)
        async with self._db.begin(principal) as tx:
            listed = await messages.list_page(tx, tenant_id, conversation_id, page)
            if not listed.rows:
                await conversations.require(tx, tenant_id, conversation_id)
        return answers.either(
            lambda: message_service_pb2.ListMessagesResponse(
                messages=[convert.message_proto(row) for row in listed.rows],
                next_page_token=listed.next_page_token,
                previous_page_token=listed.previous_page_token,
            ),
            lambda: {"messages": [convert.message_json(row) for row in listed.rows], **listed.tokens_json},
        )

    async def GetMessage(self, request: message_service_pb2.GetMessageRequest, context: object) -> message_pb2.Message:
        principal = current_principal()
        async with self._db.begin(principal) as tx:
            row = await messages.get(tx, principal.require_tenant(), uuid.UUID(request.message_id))
        return _answer(row)

    async def SendMessage(
        self, request: message_service_pb2.SendMessageRequest, context: object
    ) -> message_pb2.Message:
        principal = current_principal()
        tenant_id = principal.require_tenant()
        draft = drafts.of_send(request, principal.require_user())
        workspace = await self._workspaces.active(tenant_id)
        async with self._db.begin(principal) as tx:
            row = await sending.repeated(tx, tenant_id, draft)
            if row is None:
                conversation = await conversations.hold_open(tx, tenant_id, uuid.UUID(request.conversation_id))
                workspace.require_connected(conversation["phone_number_id"])
                row = await sending.queue(tx, conversation, draft, self._queues)
        return _answer(row)

    async def StartConversation(
        self, request: message_service_pb2.StartConversationRequest, context: object
    ) -> message_pb2.Message:
        principal = current_principal()
        tenant_id = principal.require_tenant()
        draft = drafts.of_start(request, principal.require_user())
        workspace = await self._workspaces.active(tenant_id)
        async with self._db.begin(principal) as tx:
            row = await sending.repeated(tx, tenant_id, draft)
            if row is None:
                account_id = uuid.UUID(request.whatsapp_account_id) if request.whatsapp_account_id else None
                number = workspace.number(account_id)
                contact_id = await contacts.ensure(tx, tenant_id, request.to)
                conversation = await conversations.ensure_open(
                    tx,
                    tenant_id,
                    contact_id,
                    whatsapp_account_id=number.account_id,
                    phone_number_id=number.phone_number_id,
                )
                row = await sending.queue(tx, conversation, draft, self._queues)
        return _answer(row)


def _answer(row: Row) -> message_pb2.Message:
    return answers.either(lambda: convert.message_proto(row), lambda: convert.message_json(row))
