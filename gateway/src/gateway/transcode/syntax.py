"""Reads JSON bodies strictly: one meaning or none.

Standard parsers let duplicate keys, NaN and broken Unicode pass; whoever checks a request and whoever acts on it could
then see different things.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from kit.errors import InvalidRequest, Violation

DEPTH_MAX = 64
_NAME_CHARACTERS_MAX = 80


def parse_object(raw: bytes) -> dict[str, Any]:
    """The object that a body is; an empty body is an empty object. Raises InvalidRequest."""
    if not raw:
        return {}
    try:
        parsed = json.loads(raw.decode(), object_pairs_hook=_object, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise _wrong("", "json.utf8", f"must be UTF-8; byte {error.start} is not") from None
    except json.JSONDecodeError as error:
        where = f"{error.msg} at line {error.lineno} column {error.colno}"
        raise _wrong("", "json.syntax", f"must be JSON: {where}") from None
    except RecursionError:
        raise _too_deep("") from None
    except ValueError:
        # The interpreter refuses to read numbers of thousands of digits.
        raise _wrong("", "json.number", "must not have a number of that many digits") from None
    if not isinstance(parsed, dict):
        raise _wrong("", "json.type", "must be a JSON object")
    if violation := next(_violations(parsed, "", 1), None):
        raise InvalidRequest.of(violation)
    return parsed


def text_violation(text: str, path: str) -> Violation | None:
    """What makes a text unfit for storage anywhere: NUL, which PostgreSQL cannot hold, and half surrogate pairs."""
    if "\0" in text:
        return Violation(path, "string.nul", "must not contain the character U+0000")
    # Only the rare text with surrogates has to be looked at in detail.
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        return Violation(path, "string.unicode", "must be Unicode text: it contains half a surrogate pair")
    return None


def join(path: str, name: str) -> str:
    """The JSON path of a member, shortened where somebody sends a very long name."""
    shown = name if len(name) <= _NAME_CHARACTERS_MAX else f"{name[:_NAME_CHARACTERS_MAX]}…"
    return f"{path}.{shown}" if path else shown


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built = dict(pairs)
    if len(built) < len(pairs):
        counted = Counter(name for name, _ in pairs)
        duplicate = next(name for name, count in counted.items() if count > 1)
        raise _wrong(join("", duplicate), "json.duplicate_key", "must be given once")
    return built


def _refuse_constant(name: str) -> float:
    raise _wrong("", "json.number", f"must not contain {name}, which is no JSON")


def _violations(value: Any, path: str, depth: int) -> Iterator[Violation]:
    if depth > DEPTH_MAX:
        raise _too_deep(path)
    match value:
        case dict():
            for name, member in value.items():
                if violation := text_violation(name, path):
                    yield violation
                yield from _violations(member, join(path, name), depth + 1)
        case list():
            for index, item in enumerate(value):
                yield from _violations(item, f"{path}[{index}]", depth + 1)
        case str():
            if violation := text_violation(value, path):
                yield violation
        case float() if not math.isfinite(value):
            yield Violation(path, "json.number", "must be a number that a double can hold")


def _too_deep(path: str) -> InvalidRequest:
    return _wrong(path[:_NAME_CHARACTERS_MAX], "json.depth", f"must not be nested deeper than {DEPTH_MAX} levels")


def _wrong(field: str, rule: str, message: str) -> InvalidRequest:
    return InvalidRequest.of(Violation(field, rule, message))
