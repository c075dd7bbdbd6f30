"""Rows to messages of aerostic.auth.v1."""

from aerostic.auth.v1 import auth_service_pb2 as pb
from aerostic.auth.v1 import invitation_service_pb2, user_pb2
from google.protobuf.duration_pb2 import Duration

from kit.db import Row
from kit.tokens import ACCESS_SECONDS
from svc_auth.signing_in import SignedIn
from svc_auth.workspaces import Workspace


def user(row: Row) -> user_pb2.User:
    message = user_pb2.User(id=str(row["id"]), email=row["email"], name=row["name"])
    message.create_time.FromDatetime(row["created_at"])
    return message


def member(row: Row) -> user_pb2.Member:
    message = user_pb2.Member(id=str(row["id"]), email=row["email"], name=row["name"], role=row["role"])
    message.create_time.FromDatetime(row["created_at"])
    return message


def new_member(user_row: Row, role: str) -> user_pb2.Member:
    """A user who has just become a member."""
    message = user_pb2.Member(id=str(user_row["id"]), email=user_row["email"], name=user_row["name"], role=role)
    message.create_time.FromDatetime(user_row["created_at"])
    return message


def first_admin(row: Row) -> invitation_service_pb2.FirstAdmin:
    message = invitation_service_pb2.FirstAdmin(tenant_id=str(row["tenant_id"]), email=row["email"], state=row["state"])
    if row["expires_at"] is not None:
        message.expire_time.FromDatetime(row["expires_at"])
    return message


def workspace(found: Workspace | None) -> user_pb2.Workspace | None:
    return user_pb2.Workspace(id=str(found.id), display_name=found.display_name) if found else None


def session_tokens(signed_in: SignedIn) -> pb.SessionTokens:
    return pb.SessionTokens(
        access_token=signed_in.access_token,
        refresh_token=signed_in.refresh_token,
        expires_in=Duration(seconds=ACCESS_SECONDS),
        user=user(signed_in.user),
        workspace=workspace(signed_in.workspace),
        role=signed_in.role,
    )
