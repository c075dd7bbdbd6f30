"""Approved templates every new WABA starts with: without and with variables, media header, buttons, one-time code."""

from meta_emulator import ids
from meta_emulator.emulator import Emulator
from meta_emulator.model import Json, Template

_HELLO: list[Json] = [
    {"type": "HEADER", "format": "TEXT", "text": "Hello World"},
    {
        "type": "BODY",
        "text": "Welcome and congratulations!! This message demonstrates your ability to send a WhatsApp message "
        "notification from the Cloud API. Thank you for taking the time to test with us.",
    },
    {"type": "FOOTER", "text": "WhatsApp Business Platform sample message"},
]
_ORDER: list[Json] = [
    {
        "type": "BODY",
        "text": "Hi {{1}}, your order {{2}} is on its way.",
        "example": {"body_text": [["Ana", "A-1042"]]},
    },
    {"type": "FOOTER", "text": "Reply STOP to opt out"},
]
_GREETING: list[Json] = [
    {"type": "BODY", "text": "Hi {{1}}, how can we help you today?", "example": {"body_text": [["Ana"]]}},
]
_APPOINTMENT: list[Json] = [
    {
        "type": "BODY",
        "text": "Hi {{first_name}}, see you on {{day}}?",
        "example": {
            "body_text_named_params": [
                {"param_name": "first_name", "example": "Ana"},
                {"param_name": "day", "example": "Friday"},
            ]
        },
    },
    {
        "type": "BUTTONS",
        "buttons": [{"type": "QUICK_REPLY", "text": "Yes"}, {"type": "QUICK_REPLY", "text": "Another day"}],
    },
]
_OFFER: list[Json] = [
    {"type": "HEADER", "format": "IMAGE", "example": {"header_handle": ["4::aW1hZ2U="]}},
    {"type": "BODY", "text": "Spring is here: {{1}} off until Sunday.", "example": {"body_text": [["20%"]]}},
    {
        "type": "BUTTONS",
        "buttons": [
            {
                "type": "URL",
                "text": "See the offer",
                "url": "https://shop.example.com/spring/{{1}}",
                "example": ["https://shop.example.com/spring/tulips"],
            }
        ],
    },
]
_CODE: list[Json] = [
    {
        "type": "BODY",
        "text": "*{{1}}* is your verification code.",
        "add_security_recommendation": True,
        "example": {"body_text": [["123456"]]},
    },
    {
        "type": "BUTTONS",
        "buttons": [
            {
                "type": "OTP",
                "otp_type": "COPY_CODE",
                "text": "Copy code",
            }
        ],
    },
]

_DEMO: tuple[tuple[str, str, str, str, list[Json]], ...] = (
    ("hello_world", "en_US", "UTILITY", "POSITIONAL", _HELLO),
    ("order_on_its_way", "en_US", "UTILITY", "POSITIONAL", _ORDER),
    ("greeting", "en_US", "MARKETING", "POSITIONAL", _GREETING),
    ("appointment_reminder", "en_US", "UTILITY", "NAMED", _APPOINTMENT),
    ("spring_offer", "en_US", "MARKETING", "POSITIONAL", _OFFER),
    ("login_code", "en_US", "AUTHENTICATION", "POSITIONAL", _CODE),
)


def seed(em: Emulator, waba_id: str) -> None:
    for name, language, category, parameter_format, components in _DEMO:
        template = Template(
            id=ids.object_id(em.random, em.world.templates),
            waba_id=waba_id,
            name=name,
            language=language,
            category=category,
            parameter_format=parameter_format,
            components=components,
            created_at=em.now(),
        )
        em.world.templates[template.id] = template
