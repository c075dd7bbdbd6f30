"""Meta's errors: the catalogue of codes, and the envelopes they travel in (whatsapp-cloud-api.md section 4)."""

from dataclasses import dataclass

from meta_emulator.model import Json
from meta_emulator.webhooks.payloads import ERRORS_HREF


@dataclass(frozen=True)
class Fact:
    """One row of the catalogue. `is_async`: told by a `failed` status after a 200."""

    http_status: int
    title: str
    details: str
    is_async: bool = False


_MAINTENANCE = "The account is in maintenance mode, which may be a throughput upgrade. Try again in a few minutes."
_PAIR = (
    "Message failed to send because there were too many messages sent from this phone number to the same phone "
    "number in a short period of time."
)
_SPAM = "Message failed to send because there are restrictions on how many messages can be sent from this phone number."
_WINDOW = (
    "Message failed to send because more than 24 hours have passed since the customer last replied to this number."
)
_ECOSYSTEM = "In order to maintain a healthy ecosystem engagement, the message failed to be delivered."

CATALOGUE: dict[int, Fact] = {
    0: Fact(401, "AuthException", "The app user could not be authenticated."),
    1: Fact(400, "API Unknown", "Invalid request or possible server error."),
    2: Fact(503, "API Service", "Temporary due to downtime or due to being overloaded."),
    3: Fact(500, "API Method", "Capability or permissions issue."),
    4: Fact(400, "Application request limit reached", "The app has reached its API call rate limit."),
    10: Fact(403, "Application does not have permission for this action", "A permission is missing or was removed."),
    100: Fact(400, "Invalid parameter", "The request included a parameter that is not supported or misspelled."),
    190: Fact(401, "Invalid OAuth access token", "The access token has expired or was revoked."),
    200: Fact(403, "Permissions error", "The token has no access to this business account."),
    368: Fact(403, "Temporarily blocked for policies violations", "The account is restricted for a policy violation."),
    80007: Fact(400, "Rate limit issues", "The WhatsApp Business Account has reached its rate limit."),
    130403: Fact(400, "Message blocked", "The business blocked this user.", is_async=True),
    130429: Fact(400, "Rate limit hit", "Cloud API message throughput has been reached."),
    130472: Fact(
        400, "User's number is part of an experiment", "User's number is part of an experiment", is_async=True
    ),
    130497: Fact(403, "Business account is restricted from messaging users in this country", "Country restriction."),
    131000: Fact(500, "Something went wrong", "Message failed to send due to an unknown error."),
    131005: Fact(403, "Access denied", "Permission is either not granted or has been removed."),
    131008: Fact(400, "Required parameter is missing", "The request is missing a required parameter."),
    131009: Fact(400, "Parameter value is not valid", "One or more parameter values are invalid."),
    131016: Fact(500, "Service unavailable", "A service is temporarily unavailable."),
    131021: Fact(400, "Recipient cannot be sender", "Sender and recipient phone number is the same."),
    131026: Fact(400, "Message undeliverable", "Message undeliverable.", is_async=True),
    131030: Fact(400, "Recipient phone number not in allowed list", "Add the recipient to the allowed list first."),
    131031: Fact(403, "Business Account locked", "The account has been locked."),
    131037: Fact(400, "Display name approval needed", "The display name of the number must be approved first."),
    131042: Fact(400, "Business eligibility payment issue", "There is no valid payment method.", is_async=True),
    131045: Fact(500, "Incorrect certificate", "The phone number's registration failed."),
    131047: Fact(400, "Re-engagement message", _WINDOW, is_async=True),
    131048: Fact(400, "Spam rate limit hit", _SPAM, is_async=True),
    131049: Fact(
        400, "This message was not delivered to maintain healthy ecosystem engagement.", _ECOSYSTEM, is_async=True
    ),
    131050: Fact(400, "User stopped marketing messages", "The user opted out of marketing messages.", is_async=True),
    131051: Fact(400, "Unsupported message type", "Message type is currently not supported."),
    131053: Fact(400, "Media upload error", "The media could not be processed.", is_async=True),
    131056: Fact(400, "(Business Account, Consumer Account) pair rate limit hit", _PAIR),
    131057: Fact(500, "Account in maintenance mode", _MAINTENANCE),
    131062: Fact(
        400,
        "Business-scoped User ID (BSUID) recipients are not supported for this message.",
        "Send this message to a phone number.",
    ),
    131064: Fact(400, "Messaging limited", "Sending is limited because of template classification violations."),
    132000: Fact(400, "Number of parameters does not match the expected number of params", ""),
    132001: Fact(404, "Template name does not exist in the translation", ""),
    132005: Fact(400, "Translated text too long", "The filled-in template text exceeds 1024 characters."),
    132007: Fact(400, "Template content violates policy", "The template content violates a WhatsApp policy."),
    132012: Fact(400, "Parameter format does not match format in the created template", ""),
    132015: Fact(400, "Template is paused", "The template is paused due to low quality and cannot be sent."),
    132016: Fact(400, "Template is disabled", "The template was paused too often and is disabled permanently."),
    132018: Fact(400, "Template parameter is not valid", ""),
    133005: Fact(400, "Two step verification PIN mismatch", "The two-step verification PIN is wrong."),
    133008: Fact(400, "Too many two step verification PIN guesses", "Wait 12 hours before you try again."),
    133010: Fact(400, "Account not registered", "The phone number is not registered on the platform."),
    133016: Fact(400, "Account register limit", "Registered or deregistered too often in 72 hours."),
    135000: Fact(400, "Generic user error", "Message failed to send because of an unknown error with the request."),
    137000: Fact(400, "Identity key hash mismatch", "The user's identity key has changed.", is_async=True),
}


class GraphError(Exception):
    """A refusal; the middleware turns it into the HTTP answer."""

    def __init__(
        self,
        code: int,
        *,
        details: str | None = None,
        message: str | None = None,
        http_status: int | None = None,
        subcode: int | None = None,
        kind: str = "OAuthException",
    ) -> None:
        fact = CATALOGUE.get(code)
        self.code = code
        self.message = message if message is not None else f"(#{code}) {fact.title if fact else 'Unknown error'}"
        self.details = details if details is not None else (fact.details if fact and message is None else "")
        self.http_status = http_status or (fact.http_status if fact else 400)
        self.subcode = subcode
        self.kind = kind
        super().__init__(self.message)

    def body(self, trace_id: str) -> Json:
        error: Json = {"message": self.message, "type": self.kind, "code": self.code}
        if self.details:
            error["error_data"] = {"messaging_product": "whatsapp", "details": self.details}
        if self.subcode is not None:
            error["error_subcode"] = self.subcode
        error["fbtrace_id"] = trace_id
        return {"error": error}


def asynchronous(code: int, details: str | None = None) -> Json:
    """The error object inside a `failed` status or `value.errors`."""
    fact = CATALOGUE.get(code, Fact(400, "Something went wrong", ""))
    return {
        "code": code,
        "title": fact.title,
        "message": fact.title,
        "error_data": {"details": details if details is not None else fact.details},
        "href": ERRORS_HREF,
    }


def invalid_parameter(details: str) -> GraphError:
    return GraphError(100, details=details)


def missing_object(object_id: str, verb: str = "post") -> GraphError:
    """A wrong id and a token without access look the same from outside."""
    message = (
        f"Unsupported {verb} request. Object with ID '{object_id}' does not exist, cannot be loaded due to missing "
        "permissions, or does not support this operation. Please read the Graph API documentation at "
        "https://developers.facebook.com/docs/graph-api"
    )
    return GraphError(100, message=message, http_status=400, subcode=33, kind="GraphMethodException")


def unknown_path(path: str) -> GraphError:
    return GraphError(2500, message=f"Unknown path components: {path}", http_status=400)
