"""A customer's WhatsApp message reaches the team, and the answer reaches the customer: by REST alone.

Run `make up` in one shell and `python3 examples/quickstart.py` in another. Needs nothing but Python 3.11. The customer
and Meta are played by the emulator; with a real WhatsApp number, steps 2 and 3 take the ids and the token that Meta
gave you, and the customer is a person with a phone.
"""

import json
import os
import secrets
import threading
import time
import urllib.request
from typing import Any

API = os.environ.get("AEROSTIC_URL", "http://127.0.0.1:8080")
EMULATOR = os.environ.get("AEROSTIC_EMULATOR_URL", "http://127.0.0.1:8090")
WAIT_SECONDS = 30


def call(method: str, url: str, body: dict[str, Any] | None = None, *, token: str = "") -> dict[str, Any]:
    """One JSON call. An error prints the problem that the platform describes."""
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as response:
            answer: dict[str, Any] = json.load(response)
            return answer
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{method} {url}: {error.code} {error.read().decode()}") from None


def follow(token: str, seen: list[tuple[str, dict[str, Any]]], connected: threading.Event) -> None:
    """Collect what the live stream brings."""
    request = urllib.request.Request(f"{API}/v1/stream", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=WAIT_SECONDS * 4) as stream:
        connected.set()
        kind = ""
        for raw in stream:
            line = raw.decode().rstrip("\n")
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                seen.append((kind, json.loads(line.removeprefix("data: "))["data"]))


def wait_for(what: str, find: Any) -> Any:
    """Look until something is there; say so when it does not come."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if (found := find()) is not None:
            return found
        time.sleep(0.02)
    raise SystemExit(f"{what} did not happen within {WAIT_SECONDS} seconds.")


def main() -> None:
    print("1. Register a workspace")
    name = f"Quickstart {secrets.token_hex(3)}"
    account = {
        "workspaceName": name,
        "name": "First Admin",
        "email": f"admin-{secrets.token_hex(6)}@example.com",
        "password": secrets.token_urlsafe(12),
    }
    session = call("POST", f"{API}/v1/auth/register", account)
    token = session["accessToken"]
    print(f"   {name}, signed in as {session['user']['email']} ({session['role']})")

    print("2. Get a WhatsApp number (the emulator plays Meta)")
    number = call("POST", f"{EMULATOR}/_emulator/numbers", {})
    print(f"   {number['displayPhoneNumber']}, phone number id {number['phoneNumberId']}")

    print("3. Connect it")
    credentials = {key: number[key] for key in ("wabaId", "phoneNumberId", "accessToken")}
    connected = call("POST", f"{API}/v1/whatsapp-accounts", credentials, token=token)
    for check in connected["checks"]:
        print(f"   {check['state']}: {check['step']} - {check['detail']}")

    print("4. Follow the live stream")
    events: list[tuple[str, dict[str, Any]]] = []
    listening = threading.Event()
    threading.Thread(target=follow, args=(token, events, listening), daemon=True).start()
    if not listening.wait(WAIT_SECONDS):
        raise SystemExit("The live stream does not answer.")

    print("5. The customer writes")
    customer = {"waId": f"1650{secrets.randbelow(10**7):07}", "name": "Ana Souza"}
    question = {"type": "text", "text": {"body": "Is it in stock?"}}
    started = time.monotonic()
    call(
        "POST",
        f"{EMULATOR}/_emulator/inbound",
        {"phoneNumberId": number["phoneNumberId"], "from": customer, "message": question},
    )
    received = wait_for(
        "The message on the live stream",
        lambda: next((data["message"] for kind, data in events if kind == "messaging.message.received"), None),
    )
    took = (time.monotonic() - started) * 1000
    print(f'   "{received["text"]["body"]}" is on the live stream after {took:.0f} ms')
    conversation = call("GET", f"{API}/v1/conversations/{received['conversationId']}", token=token)
    print(f"   from {conversation['contact']['name']}; free answers until {conversation['windowExpireTime']}")

    print("6. Answer")
    answer = {"text": {"body": "Yes, in blue and green."}, "requestId": secrets.token_hex(8)}
    path = f"{API}/v1/conversations/{conversation['id']}/messages"
    message = call("POST", path, answer, token=token)
    again = call("POST", path, answer, token=token)
    print(f"   {message['status']}; the same call again gives the same message: {again['id'] == message['id']}")

    print("7. Watch it arrive")
    reached: list[str] = [message["status"]]

    def has_been_read() -> bool | None:
        for kind, data in events:
            if kind == "messaging.message.updated" and data["message"]["id"] == message["id"]:
                for change in data["message"]["statusHistory"]:
                    if change["status"] not in reached:
                        reached.append(change["status"])
                        print(f"   {change['status']}")
        return True if "read" in reached else None

    wait_for("The read receipt", has_been_read)
    phone = call("GET", f"{EMULATOR}/_emulator/messages?phoneNumberId={number['phoneNumberId']}")
    bodies = [sent["text"]["body"] for sent in phone["messages"]]
    print(f"8. The customer's phone shows: {bodies}")


if __name__ == "__main__":
    main()
