"""Values of webhook changes, and the envelope around them (whatsapp-cloud-api.md 2.4 to 2.7). All pure."""

import hashlib

from meta_emulator.model import Customer, Json, Message, Number, Step, Template, Update

ERRORS_HREF = "https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes"


def inbound_value(number: Number, customer: Customer, message: Json) -> Json:
    return {**_head(number), "contacts": [contact(number, customer)], "messages": [message]}


def contact(number: Number, customer: Customer) -> Json:
    """The sender as the business may know it: the phone is absent for a user who hides it behind a username."""
    profile = {"name": customer.name}
    if customer.username:
        profile["username"] = f"@{customer.username}"
    found: Json = {"profile": profile}
    if customer.shares_phone:
        found["wa_id"] = customer.digits
    found["user_id"] = customer.user_ids[number.waba_id]
    return found


def status_value(number: Number, customer: Customer, message: Message, step: Step, *, version: str) -> Json:
    """One status. v24 added contacts and dropped `conversation`; failures carry errors and no contacts."""
    is_new_shape = version >= "v24.0"
    value: Json = _head(number)
    if is_new_shape and step.status != "failed":
        value["contacts"] = [contact(number, customer)]
    value["statuses"] = [_status(number, customer, message, step, is_new_shape=is_new_shape)]
    return value


def template_status_value(template: Template) -> Json:
    return {
        "event": template.status,
        "message_template_id": int(template.id),
        "message_template_name": template.name,
        "message_template_language": template.language.replace("_", "-"),
        "reason": template.rejected_reason,
        "message_template_category": template.category,
    }


def account_error_value(number: Number, error: Json) -> Json:
    return {**_head(number), "errors": [error]}


def envelope(updates: list[Update]) -> Json:
    """Pack updates in order: one entry per WABA, one change per number and kind, as Meta batches them."""
    entries: dict[tuple[str, int | None], Json] = {}
    values: dict[tuple[str, str, str], Json] = {}
    for update in updates:
        entry = entries.get((update.waba_id, update.entry_time))
        if entry is None:
            entry = entries[update.waba_id, update.entry_time] = {"id": update.waba_id}
            if update.entry_time is not None:
                entry["time"] = update.entry_time
            entry["changes"] = []
        kind = next((kind for kind in ("messages", "statuses") if kind in update.value), "")
        key = (update.waba_id, update.value.get("metadata", {}).get("phone_number_id", ""), kind)
        if kind and key in values:
            _merge(values[key], update.value, kind)
            continue
        value = {name: list(part) if isinstance(part, list) else part for name, part in update.value.items()}
        entry["changes"].append({"value": value, "field": update.field})
        if kind:
            values[key] = value
    return {"object": "whatsapp_business_account", "entry": list(entries.values())}


def _head(number: Number) -> Json:
    return {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": number.digits, "phone_number_id": number.id},
    }


def _status(number: Number, customer: Customer, message: Message, step: Step, *, is_new_shape: bool) -> Json:
    status: Json = {"id": message.wamid, "status": step.status, "timestamp": str(int(step.time))}
    if customer.shares_phone:
        status["recipient_id"] = customer.digits
    if message.by_user_id or not customer.shares_phone:
        status["recipient_user_id"] = customer.user_ids[number.waba_id]
    if message.callback_data is not None:
        status["biz_opaque_callback_data"] = message.callback_data
    if step.errors:
        status["errors"] = step.errors
    if _is_priced(message, step):
        if not is_new_shape:
            status["conversation"] = _conversation(message, step)
        status["pricing"] = {
            "billable": message.pricing_type == "regular",
            "pricing_model": "PMP",
            "type": message.pricing_type,
            "category": message.category,
        }
    return status


def _is_priced(message: Message, step: Step) -> bool:
    """Pricing stands on `sent` and on the first of delivered and read."""
    if step.status in {"sent", "delivered"}:
        return True
    return step.status == "read" and not message.has("delivered")


def _conversation(message: Message, step: Step) -> Json:
    # v23 and older: each message has a conversation of its own.
    found: Json = {"id": hashlib.sha256(message.wamid.encode()).hexdigest()[:32]}
    if step.status == "sent":
        found["expiration_timestamp"] = str(int(step.time) + 86400)
    found["origin"] = {"type": message.category}
    return found


def _merge(into: Json, value: Json, kind: str) -> None:
    into[kind].extend(value[kind])
    known = into.setdefault("contacts", [])
    known.extend(contact for contact in value.get("contacts", []) if contact not in known)
    if not known:
        del into["contacts"]
