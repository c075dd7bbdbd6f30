"""What callers of svc-tenants may be told, each reason registered in aerostic.tenants.v1.ErrorReason."""

import uuid

from grpc import StatusCode

from kit.errors import AppError


class TenantNotFound(AppError):
    code, reason = StatusCode.NOT_FOUND, "TENANT_NOT_FOUND"

    def __init__(self, tenant_id: uuid.UUID) -> None:
        super().__init__(f"There is no workspace {tenant_id}.")


class SlugTaken(AppError):
    code, reason = StatusCode.ALREADY_EXISTS, "SLUG_TAKEN"

    def __init__(self, slug: str) -> None:
        super().__init__(f"Another workspace has the slug {slug}.")


class TenantAlreadySuspended(AppError):
    code, reason = StatusCode.FAILED_PRECONDITION, "TENANT_ALREADY_SUSPENDED"

    def __init__(self) -> None:
        super().__init__("The workspace is suspended already.")


class TenantNotSuspended(AppError):
    code, reason = StatusCode.FAILED_PRECONDITION, "TENANT_NOT_SUSPENDED"

    def __init__(self) -> None:
        super().__init__("The workspace is not suspended.")


class TenantSuspended(AppError):
    code, reason = StatusCode.PERMISSION_DENIED, "TENANT_SUSPENDED"

    def __init__(self, suspension_reason: str) -> None:
        super().__init__(f"The workspace is suspended: {suspension_reason}")


class WhatsAppAccountNotFound(AppError):
    code, reason = StatusCode.NOT_FOUND, "WHATSAPP_ACCOUNT_NOT_FOUND"

    def __init__(self, account: uuid.UUID | str) -> None:
        """`account`: our id of it, or Meta's of its number."""
        super().__init__(f"This workspace has no WhatsApp account {account}.")


class NumberTaken(AppError):
    code, reason = StatusCode.ALREADY_EXISTS, "NUMBER_TAKEN"

    def __init__(self, phone_number_id: str) -> None:
        super().__init__(
            f"Another workspace has connected the number {phone_number_id}; it must disconnect it there first."
        )


class NumberNotConnected(AppError):
    code, reason = StatusCode.NOT_FOUND, "NUMBER_NOT_CONNECTED"

    def __init__(self, phone_number_id: str) -> None:
        super().__init__(f"No workspace has connected the number {phone_number_id}.")


class MetaRefused(AppError):
    """A step of connecting failed."""

    code, reason = StatusCode.FAILED_PRECONDITION, "META_REFUSED"

    def __init__(self, step: str, message: str, *, meta_code: int | None = None, meta_message: str = "") -> None:
        """`meta_code` and `meta_message`: Meta's own words, where it was Meta who refused."""
        super().__init__(message, step=step)
        if meta_code is not None:
            self.metadata["metaCode"] = str(meta_code)
        if meta_message:
            self.metadata["metaMessage"] = meta_message


class MetaUnreachable(AppError):
    code, reason = StatusCode.UNAVAILABLE, "META_UNREACHABLE"

    def __init__(self, step: str, detail: str) -> None:
        super().__init__(f"{detail} Nothing has changed; try again shortly.", step=step)


class TenantDeleting(AppError):
    code, reason = StatusCode.FAILED_PRECONDITION, "TENANT_DELETING"

    def __init__(self) -> None:
        super().__init__("The workspace is being erased, or was; that cannot be undone.")


class SlugNotConfirmed(AppError):
    code, reason = StatusCode.FAILED_PRECONDITION, "SLUG_NOT_CONFIRMED"

    def __init__(self, given: str) -> None:
        super().__init__(f"{given} is not the workspace's slug; nothing is erased.")


class TenantErasureNotFound(AppError):
    code, reason = StatusCode.NOT_FOUND, "TENANT_ERASURE_NOT_FOUND"

    def __init__(self, tenant_id: uuid.UUID) -> None:
        super().__init__(f"No workspace {tenant_id} was ever to be erased.")
