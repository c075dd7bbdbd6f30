"""ConversationService."""

import uuid
from datetime import UTC, datetime

from aerostic.messaging.v1 import conversation_pb2, conversation_service_pb2
from aerostic.messaging.v1.conversation_service_pb2_grpc import ConversationServiceServicer

from kit import answers, pages
from kit.db import Database, Row
from kit.principal import current_principal
from svc_messaging import conversations, convert


class ConversationServer(ConversationServiceServicer):
    def __init__(self, db: Database) -> None:
        self._db = db

    async def ListConversations(
        self, request: conversation_service_pb2.ListConversationsRequest, context: object
    ) -> conversation_service_pb2.ListConversationsResponse:
        principal = current_principal()
        tenant_id = principal.require_tenant()
        page = pages.read(request, tenant_id, keys=conversations.LIST.keys)
        contact_id = uuid.UUID(request.contact_id) if request.contact_id else None
        async with self._db.begin(principal) as tx:
            listed = await conversations.list_page(tx, tenant_id, page, state=request.state, contact_id=contact_id)
        now = datetime.now(UTC)
        return answers.either(
            lambda: conversation_service_pb2.ListConversationsResponse(
                conversations=[convert.conversation_proto(row, now) for row in listed.rows],
                next_page_token=listed.next_page_token,
                previous_page_token=listed.previous_page_token,
            ),
            lambda: {
                "conversations": [convert.conversation_json(row, now) for row in listed.rows],
                **listed.tokens_json,
            },
        )

    async def GetConversation(
        self, request: conversation_service_pb2.GetConversationRequest, context: object
    ) -> conversation_pb2.Conversation:
        principal = current_principal()
        async with self._db.begin(principal) as tx:
            row = await conversations.get(tx, principal.require_tenant(), uuid.UUID(request.conversation_id))
        return _answer(row)

    async def CloseConversation(
        self, request: conversation_service_pb2.CloseConversationRequest, context: object
    ) -> conversation_pb2.Conversation:
        principal = current_principal()
        async with self._db.begin(principal) as tx:
            row = await conversations.close(tx, principal.require_tenant(), uuid.UUID(request.conversation_id))
        return _answer(row)


def _answer(row: Row) -> conversation_pb2.Conversation:
    now = datetime.now(UTC)
    return answers.either(lambda: convert.conversation_proto(row, now), lambda: convert.conversation_json(row, now))
