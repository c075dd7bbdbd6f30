"""Rows to protos: the border between created_at and create_time."""

import json
from collections.abc import Sequence

from aerostic.tenants.v1 import (
    provisioning_service_pb2,
    tenant_erasure_pb2,
    tenant_pb2,
    tenant_service_pb2,
    usage_pb2,
    whatsapp_account_pb2,
    whatsapp_account_service_pb2,
)

from kit.db import Row
from svc_tenants.usage import Month

_COUNTS = ("messages_received", "messages_sent", "messages_delivered", "messages_failed")

ERASURE_STEPS = ("numbers", "auth", "messaging", "events", "check", "tenant")
"""In this order: first nothing new can come, last goes what the others need to know whose data it is."""


def tenant(row: Row) -> tenant_pb2.Tenant:
    message = tenant_pb2.Tenant(
        id=str(row["id"]),
        slug=row["slug"],
        display_name=row["display_name"],
        state=row["state"],
        suspension_reason=row["suspension_reason"],
        isolation=row["isolation"],
    )
    message.create_time.FromDatetime(row["created_at"])
    message.update_time.FromDatetime(row["updated_at"])
    return message


def tenant_state(row: Row) -> tenant_service_pb2.TenantState:
    return tenant_service_pb2.TenantState(
        tenant_id=str(row["tenant_id"]), state=row["state"], display_name=row["display_name"]
    )


def tenant_erasure(row: Row) -> tenant_erasure_pb2.TenantErasure:
    is_done = row["done_at"] is not None
    message = tenant_erasure_pb2.TenantErasure(
        tenant_id=str(row["tenant_id"]),
        slug=row["slug"],
        state="done" if is_done else "erasing",
        requester=row["requester"],
        remaining_steps=() if is_done else ERASURE_STEPS[ERASURE_STEPS.index(row["step"]) :],
        erased_counts=[
            tenant_erasure_pb2.ErasedCount(sort=sort, count=count)
            for sort, count in sorted(json.loads(row["erased"]).items())
        ],
        last_error=row["last_error"],
    )
    message.request_time.FromDatetime(row["requested_at"])
    message.progress_time.FromDatetime(row["progressed_at"])
    if is_done:
        message.done_time.FromDatetime(row["done_at"])
    return message


def whatsapp_account(row: Row) -> whatsapp_account_pb2.WhatsAppAccount:
    message = whatsapp_account_pb2.WhatsAppAccount(
        id=str(row["id"]),
        waba_id=row["waba_id"],
        phone_number_id=row["phone_number_id"],
        display_phone_number=row["display_phone_number"],
        verified_name=row["verified_name"],
        state=row["state"],
        quality_rating=row["quality_rating"],
        messages_per_second=row["messages_per_second"],
        checks=[whatsapp_account_pb2.Check(**check) for check in json.loads(row["checks"])],
        number_status=row["number_status"],
        name_status=row["name_status"],
        messaging_limit=row["messaging_limit"],
    )
    message.create_time.FromDatetime(row["created_at"])
    message.update_time.FromDatetime(row["updated_at"])
    if row["token_expires_at"] is not None:
        message.token_expire_time.FromDatetime(row["token_expires_at"])
    if row["checked_at"] is not None:
        message.check_time.FromDatetime(row["checked_at"])
    return message


def resolved_number(row: Row) -> whatsapp_account_service_pb2.ResolvedNumber:
    return whatsapp_account_service_pb2.ResolvedNumber(
        phone_number_id=row["phone_number_id"],
        tenant_id=str(row["tenant_id"]),
        whatsapp_account_id=str(row["whatsapp_account_id"]),
        waba_id=row["waba_id"],
        display_phone_number=row["display_phone_number"],
        tenant_state=row["tenant_state"],
    )


def tenant_record(row: Row, month: Month) -> provisioning_service_pb2.TenantRecord:
    used = usage_pb2.TenantUsage(month=str(month), **{key: row[key] for key in _COUNTS})
    return provisioning_service_pb2.TenantRecord(
        tenant=tenant(row), connected_numbers=row["connected_numbers"], usage=used
    )


def usage_by_day(month: Month, rows: Sequence[Row]) -> usage_pb2.TenantUsage:
    days = [usage_pb2.DayUsage(day=str(row["day"]), **{key: row[key] for key in _COUNTS}) for row in rows]
    total = {key: sum(row[key] for row in rows) for key in _COUNTS}
    return usage_pb2.TenantUsage(month=str(month), days=days, **total)


def number_record(row: Row) -> provisioning_service_pb2.NumberRecord:
    return provisioning_service_pb2.NumberRecord(
        tenant_id=str(row["tenant_id"]), account=whatsapp_account(row), token_version=row["token_version"]
    )
