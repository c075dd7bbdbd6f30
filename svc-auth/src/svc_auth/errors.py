"""What svc-auth refuses, and why. Each reason stands in aerostic.auth.v1.ErrorReason."""

import grpc

from kit.errors import AppError, Violation


class EmailTaken(AppError):
    code, reason = grpc.StatusCode.ALREADY_EXISTS, "EMAIL_TAKEN"

    def __init__(self) -> None:
        must = "belongs to an account already: log in instead"
        super().__init__(f"email {must}.", violations=[Violation("email", "unique", must)])


class CredentialsWrong(AppError):
    code, reason = grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_WRONG"

    def __init__(self) -> None:
        super().__init__("E-mail or password is wrong.")


class LoginThrottled(AppError):
    code, reason = grpc.StatusCode.RESOURCE_EXHAUSTED, "LOGIN_THROTTLED"

    def __init__(self, seconds: float) -> None:
        super().__init__("Too many failed log-ins; wait before the next try.", retry_after=max(1.0, seconds))


class RefreshTokenInvalid(AppError):
    code, reason = grpc.StatusCode.UNAUTHENTICATED, "REFRESH_TOKEN_INVALID"

    def __init__(self) -> None:
        super().__init__("The refresh token is unknown, used, expired or revoked: log in again.")


class TenantSuspended(AppError):
    code, reason = grpc.StatusCode.PERMISSION_DENIED, "TENANT_SUSPENDED"

    def __init__(self) -> None:
        super().__init__("The workspace is suspended; its data is kept. Ask the operator of this installation.")


class TenantDeleting(AppError):
    code, reason = grpc.StatusCode.FAILED_PRECONDITION, "TENANT_DELETING"

    def __init__(self) -> None:
        super().__init__("The workspace is being erased.")


class NotAMember(AppError):
    code, reason = grpc.StatusCode.PERMISSION_DENIED, "NOT_A_MEMBER"

    def __init__(self) -> None:
        super().__init__("This account is no member of that workspace.")


class MemberExists(AppError):
    code, reason = grpc.StatusCode.ALREADY_EXISTS, "MEMBER_EXISTS"

    def __init__(self) -> None:
        must = "is a member of this workspace already"
        super().__init__(f"email {must}.", violations=[Violation("email", "unique", must)])


class RegistrationPending(AppError):
    code, reason = grpc.StatusCode.UNAVAILABLE, "REGISTRATION_PENDING"

    def __init__(self) -> None:
        super().__init__("The workspace is being set up; register again with the same data in a moment.", retry_after=2)


class InvitationInvalid(AppError):
    code, reason = grpc.StatusCode.PERMISSION_DENIED, "INVITATION_INVALID"

    def __init__(self) -> None:
        super().__init__("The invitation is unknown, used or expired; ask for a new one.")
