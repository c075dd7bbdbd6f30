"""DeadLetterService."""

import structlog
from aerostic.messaging.v1 import dead_letter_service_pb2 as pb
from aerostic.messaging.v1.dead_letter_service_pb2_grpc import DeadLetterServiceServicer

from kit import dead_letters, pages
from kit.bus import Bus, as_text
from kit.dead_letters import DeadLetter
from kit.principal import current_principal
from svc_messaging.errors import DeadLetterNotFound

log = structlog.get_logger()

_HEAD_BYTES = 4096
_RETRIES_MAX = 500


class DeadLetterServer(DeadLetterServiceServicer):
    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def ListDeadLetters(self, request: pb.ListDeadLettersRequest, context: object) -> pb.ListDeadLettersResponse:
        page = pages.read(request, None, keys={"id": int})
        place = page.cursor["id"] if page.cursor else 0
        letters = await dead_letters.after(
            self._bus, place, most=page.size + 1, stream=request.stream, consumer=request.consumer
        )
        answer = pb.ListDeadLettersResponse(dead_letters=[_proto(letter) for letter in letters[: page.size]])
        if len(letters) > page.size:
            answer.next_page_token = page.token({"id": letters[page.size - 1].id})
        return answer

    async def RetryDeadLetter(self, request: pb.RetryDeadLetterRequest, context: object) -> pb.DeadLetter:
        letter = await dead_letters.find(self._bus, int(request.dead_letter_id))
        if letter is None:
            raise DeadLetterNotFound(int(request.dead_letter_id))
        await dead_letters.retry(self._bus, letter)
        log.info("dead_letter_retried", dead_letter=letter.id, user=str(current_principal().user_id))
        return _proto(letter)

    async def RetryDeadLetters(
        self, request: pb.RetryDeadLettersRequest, context: object
    ) -> pb.RetryDeadLettersResponse:
        letters = await dead_letters.retry_all(
            self._bus, stream=request.stream, consumer=request.consumer, most=_RETRIES_MAX
        )
        log.info("dead_letters_retried", count=len(letters), user=str(current_principal().user_id))
        return pb.RetryDeadLettersResponse(retried_count=len(letters))


def _proto(letter: DeadLetter) -> pb.DeadLetter:
    found = pb.DeadLetter(
        id=str(letter.id),
        stream=letter.stream,
        consumer=letter.consumer,
        sequence=letter.sequence,
        subject=letter.subject,
        reason=letter.reason,
        detail=letter.detail,
        size_bytes=len(letter.data),
        head=as_text(letter.data[:_HEAD_BYTES]),
    )
    found.create_time.FromDatetime(letter.created_at)
    return found
