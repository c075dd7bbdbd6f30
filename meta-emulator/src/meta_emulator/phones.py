"""Phone numbers as WhatsApp sees them: digits with country code, and the few countries where two forms are one."""

import re

_PUNCTUATION = re.compile(r"[\s()+.\-]")
_DIGITS = re.compile(r"[1-9]\d{6,14}")

# Calling code to ISO country, for the prefix of a BSUID. Longest match wins; the list covers common markets.
_COUNTRIES = {
    "1": "US", "7": "RU", "20": "EG", "27": "ZA", "30": "GR", "31": "NL", "32": "BE", "33": "FR", "34": "ES",
    "36": "HU", "39": "IT", "40": "RO", "41": "CH", "43": "AT", "44": "GB", "45": "DK", "46": "SE", "47": "NO",
    "48": "PL", "49": "DE", "51": "PE", "52": "MX", "54": "AR", "55": "BR", "56": "CL", "57": "CO", "60": "MY",
    "61": "AU", "62": "ID", "63": "PH", "64": "NZ", "65": "SG", "66": "TH", "81": "JP", "82": "KR", "84": "VN",
    "90": "TR", "91": "IN", "92": "PK", "94": "LK", "212": "MA", "233": "GH", "234": "NG", "254": "KE",
    "256": "UG", "351": "PT", "353": "IE", "358": "FI", "380": "UA", "420": "CZ", "852": "HK", "880": "BD",
    "966": "SA", "971": "AE", "972": "IL",
}  # fmt: skip
# Where one user has two forms: prefix and length of the long one, and the place of the digit the short one lacks.
_LONG_FORMS = (("55", 13, 4, "9"), ("521", 13, 2, "1"), ("549", 13, 2, "9"))
_NORTH_AMERICA = 11


def parse(raw: str) -> str | None:
    """Digits of a number written with `+ - ( ) .` and spaces; None when that is no international number."""
    digits = _PUNCTUATION.sub("", raw)
    return digits if _DIGITS.fullmatch(digits) else None


def country(digits: str) -> str:
    """ISO country of a number; ZZ when its calling code is not in the list."""
    for length in (3, 2, 1):
        if found := _COUNTRIES.get(digits[:length]):
            return found
    return "ZZ"


def same_user(digits: str) -> list[str]:
    """The other form of a number that WhatsApp takes for the same user (9th digit in BR, 1 in MX, 9 in AR)."""
    for prefix, length, place, digit in _LONG_FORMS:
        country_code = prefix[:2]
        if digits.startswith(prefix) and len(digits) == length and digits[place] == digit:
            return [digits[:place] + digits[place + 1 :]]
        if digits.startswith(country_code) and len(digits) == length - 1:
            return [digits[:place] + digit + digits[place:]]
    return []


def display(digits: str) -> str:
    """How GET /{phone_number_id} prints it: `+1 555-010-0200`; other countries in plain `+` form."""
    if digits.startswith("1") and len(digits) == _NORTH_AMERICA:
        return f"+1 {digits[1:4]}-{digits[4:7]}-{digits[7:]}"
    return f"+{digits}"
