import json
from pathlib import Path

import pytest

from meta_emulator.graph.errors import asynchronous
from meta_emulator.model import Customer, Message, Number, Step, Template, Update
from meta_emulator.webhooks import payloads, signing

GOLDEN = Path(__file__).parent / "golden"
SECRET = "test_app_secret"
SENT = "wamid.HBgNNTUxMTk4NzY1NDMyMRUCABEYEjAwMTEyMjMzNDQ1NTY2QUFCQgA="
RECEIVED = "wamid.HBgNNTUxMTk4NzY1NDMyMRUCABIYFDNBMDEyMzQ1Njc4OUFCQ0RFRjAxAA=="

NUMBER = Number(
    id="100000000000042",
    waba_id="200000000000077",
    digits="15550100200",
    display="+1 555-010-0200",
    verified_name="Demo",
    created_at=0,
)
USER_IDS = {"200000000000077": "BR.10000000000000000001"}
ANA = Customer(id="c", name="Ana Souza", digits="5511987654321", user_ids=USER_IDS)
HIDDEN_ANA = Customer(
    id="c", name="Ana Souza", digits="5511987654321", user_ids=USER_IDS, shares_phone=False, username="anasouza"
)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            b'{"object":"whatsapp_business_account","entry":[]}',
            "dec6a680679a968e7e0319355b23599cbfc54502c0784668e9618baa0c633756",
        ),
        (
            rb'{"a":"h\u00e9llo \ud83d\ude00 / <"}',
            "22a71303484de288d05052b2e3effaeeffdc8a60389d452a782b9e13d0665ea9",
        ),
        (
            '{"a":"héllo 😀 / <"}'.encode(),
            "3243df6df9d3da2ef7c2a681380f48ac733b6eb41f9534a0401b1c535339e109",
        ),
    ],
)
def test_signature_covers_the_exact_bytes(body, expected):
    assert signing.signature(body, SECRET) == f"sha256={expected}"
    assert signing.headers(body, SECRET)["X-Hub-Signature-256"] == f"sha256={expected}"


def test_wire_bytes_are_ascii_with_escaped_slashes():
    text = signing.encode({"a": "é 😀 a/b \\/ <%@"})
    assert text == r'{"a":"\u00e9 \ud83d\ude00 a\/b \\\/ <%@"}'
    assert json.loads(text) == {"a": "é 😀 a/b \\/ <%@"}


def message(**more):
    return Message(
        wamid=SENT, number_id=NUMBER.id, customer_id="c", outbound=True, type="text", body={}, time=0, **more
    )


def status(found, step, version, **more):
    return payloads.status_value(NUMBER, ANA, found, step, version=version, **more)


def inbound(customer, text):
    body = {"from_user_id": "BR.10000000000000000001", "id": RECEIVED, "timestamp": "1790000000"}
    if customer.shares_phone:
        body = {"from": customer.digits, **body}
    return payloads.inbound_value(NUMBER, customer, {**body, "type": "text", "text": {"body": text}})


WINDOW_CLOSED = asynchronous(131047)
TOO_FAST = asynchronous(
    130429,
    "Message failed to send because there were too many messages sent from this phone number in a short period of time",
)
TEMPLATE = Template(
    id="300000000000001",
    waba_id=NUMBER.waba_id,
    name="order_confirmation",
    language="en_US",
    category="UTILITY",
    components=[],
)
G3 = status(message(), Step("sent", 1790000003), "v23.0")
# The conversation id is Meta's to choose; everything else of G3 must match.
G3["statuses"][0]["conversation"]["id"] = "0f0e0d0c0b0a09080706050403020100"
BUILT = {
    "g1": inbound(ANA, "Olá 😀 / preço <10%>"),
    "g2": inbound(HIDDEN_ANA, "hi"),
    "g3": G3,
    "g4": status(
        message(callback_data="outbox-42", category="utility", pricing_type="regular"),
        Step("delivered", 1790000005),
        "v24.0",
    ),
    "g5": status(message(), Step("failed", 1790000004, [WINDOW_CLOSED]), "v24.0"),
    "g6": payloads.template_status_value(TEMPLATE),
    "g7": payloads.account_error_value(NUMBER, TOO_FAST),
}


@pytest.mark.parametrize("name", sorted(BUILT))
def test_golden_payload_is_built_and_signed_byte_for_byte(name):
    line = (GOLDEN / f"{name}.json").read_text()
    assert signing.signature(line.encode(), SECRET) == (GOLDEN / f"{name}.signature").read_text().strip()
    update = Update(
        url="",
        waba_id=NUMBER.waba_id,
        field="message_template_status_update" if name == "g6" else "messages",
        value=BUILT[name],
        entry_time=1790000010 if name == "g6" else None,
    )
    # The golden lines leave "/" unescaped; on our wire it is escaped.
    assert signing.encode(payloads.envelope([update])).replace("\\/", "/") == line
