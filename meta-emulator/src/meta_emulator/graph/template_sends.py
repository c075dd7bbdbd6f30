"""Step 8: does the template exist, may it be sent, do the parameters fit; and the text the phone will show."""

import re
from typing import Any

from meta_emulator.emulator import Emulator
from meta_emulator.graph.errors import GraphError, invalid_parameter
from meta_emulator.model import Json, Number, Template

_BODY_MAX = 1024
_VARIABLE = re.compile(r"\{\{\s*([A-Za-z0-9_]+)\s*\}\}")
_BAD_TEXT = re.compile(r"[\n\t]| {5,}")
_TEXT_TYPES = ("text", "currency", "date_time")
_MEDIA_FORMATS = ("image", "video", "document", "location")
_BUTTON_PARAMETERS = {"URL": "text", "OTP": "text", "COPY_CODE": "coupon_code", "QUICK_REPLY": "payload"}


def check(em: Emulator, number: Number, request: Json) -> tuple[Template, Json]:
    """The template of a send and its rendered form: header, body, footer, buttons."""
    template = _find(em, number.waba_id, request["name"], request["language"]["code"])
    parts = {str(component["type"]).upper(): component for component in template.components}
    given = _given(request.get("components") or [], parts)
    rendered: Json = {}
    if "HEADER" in parts:
        rendered["header"] = _header(template, parts["HEADER"], given["header"])
    if "BODY" in parts:
        text = _fill(template, "body", parts["BODY"].get("text", ""), given["body"])
        if len(text) > _BODY_MAX:
            raise GraphError(132005)
        rendered["body"] = text
    if "FOOTER" in parts:
        rendered["footer"] = parts["FOOTER"].get("text", "")
    if "BUTTONS" in parts:
        rendered["buttons"] = _buttons(parts["BUTTONS"]["buttons"], given["buttons"])
    return template, rendered


def variables(text: str) -> list[str]:
    """Names of the variables of a text, each once, in order."""
    return list(dict.fromkeys(_VARIABLE.findall(text)))


def _find(em: Emulator, waba_id: str, name: str, language: str) -> Template:
    for template in em.world.templates.values():
        if (template.waba_id, template.name, template.language) == (waba_id, name, language):
            if template.status == "PAUSED":
                raise GraphError(132015)
            if template.status == "DISABLED":
                raise GraphError(132016)
            if template.status == "APPROVED":
                return template
    raise GraphError(132001, details=f"template name ({name}) does not exist in {language}")


def _given(components: list[Json], parts: Json) -> dict[str, Any]:
    found: dict[str, Any] = {"header": [], "body": [], "buttons": {}}
    if "BUTTONS" not in parts and (count := sum(c["type"].lower() == "button" for c in components)):
        raise _count_mismatch("buttons", count, 0)
    for component in components:
        kind = component["type"].lower()
        if kind == "button":
            index = str(component.get("index", ""))
            if not index.isdigit():
                raise invalid_parameter("Param index of a button component must be a number from 0.")
            found["buttons"][int(index)] = component
        elif kind in {"header", "body"}:
            if kind.upper() not in parts and component.get("parameters"):
                raise _count_mismatch(kind, len(component["parameters"]), 0)
            found[kind] = component.get("parameters") or []
        else:
            raise invalid_parameter(f"Component type {component['type']} is not supported for this template.")
    return found


def _header(template: Template, header: Json, parameters: list[Json]) -> Json:
    wanted = str(header.get("format", "TEXT")).lower()
    if wanted == "text":
        return {"type": "text", "text": _fill(template, "header", header.get("text", ""), parameters)}
    got = parameters[0]["type"] if parameters else "unknown"
    if got != wanted:
        raise GraphError(132012, details=f"header: Format mismatch, expected {wanted.upper()}, received {got.upper()}")
    if len(parameters) != 1 or wanted not in _MEDIA_FORMATS or not isinstance(parameters[0].get(wanted), dict):
        raise _count_mismatch("header", len(parameters), 1)
    content = parameters[0][wanted]
    if wanted != "location" and ("id" in content) == ("link" in content):
        raise GraphError(131009, details=f"header: exactly one of {wanted}['id'] or {wanted}['link'] is required.")
    return {"type": wanted, wanted: content}


def _fill(template: Template, place: str, text: str, parameters: list[Json]) -> str:
    names = variables(text)
    if len(parameters) != len(names):
        raise _count_mismatch(place, len(parameters), len(names))
    values: dict[str, str] = {}
    for position, parameter in enumerate(parameters):
        if parameter["type"] not in _TEXT_TYPES:
            details = f"{place}: parameter {position} must be text, received {parameter['type']}"
            raise GraphError(132012, details=details)
        values[_name_of(template, place, parameter, position)] = _value_of(place, parameter, position)
    if missing := [name for name in names if name not in values]:
        raise GraphError(100, details=f"{place}: parameter name is missing or unknown, expected {', '.join(missing)}")
    return _VARIABLE.sub(lambda match: values[match.group(1)], text)


def _name_of(template: Template, place: str, parameter: Json, position: int) -> str:
    if template.parameter_format == "POSITIONAL":
        return str(position + 1)
    name = parameter.get("parameter_name")
    if not isinstance(name, str) or not name:
        raise GraphError(100, details=f"{place}: Parameter name is missing or empty")
    return name


def _value_of(place: str, parameter: Json, position: int) -> str:
    source = parameter.get(parameter["type"])
    value = source.get("fallback_value") if isinstance(source, dict) else source
    if not isinstance(value, str) or not value:
        raise GraphError(131008, details=f"{place}: parameter {position} has no text")
    if _BAD_TEXT.search(value):
        details = f"{place}: Param text cannot have new-line/tab characters or more than 4 consecutive spaces"
        raise GraphError(132018, details=details)
    return value


def _buttons(buttons: list[Json], given: dict[int, Json]) -> list[Json]:
    for index in given:
        if index >= len(buttons):
            raise GraphError(132000, details=f"buttons: there is no button at index {index}")
    return [_button(button, index, given.get(index)) for index, button in enumerate(buttons)]


def _button(button: Json, index: int, component: Json | None) -> Json:
    kind = str(button["type"]).upper()
    rendered: Json = {"type": kind, "text": button.get("text", "")}
    parameters = (component or {}).get("parameters") or []
    if component is not None and str(component.get("sub_type", "")).upper() not in _sub_types(kind):
        details = f"buttons: button at index {index} is of type {kind}, received {component.get('sub_type')}"
        raise GraphError(132012, details=details)
    expected = _BUTTON_PARAMETERS.get(kind)
    is_needed = kind in {"OTP", "COPY_CODE"} or (kind == "URL" and bool(variables(button.get("url", ""))))
    if not parameters:
        if is_needed:
            raise GraphError(131008, details=f"buttons: Button at index {index} of type {kind} requires a parameter")
        rendered.update(_plain(button, kind))
        return rendered
    value = parameters[0].get(expected or "")
    if expected is None or parameters[0]["type"] != expected or not isinstance(value, str):
        details = f"buttons: button at index {index} takes a parameter of type {expected or 'none'}"
        raise GraphError(132012, details=details)
    if kind == "URL":
        if not is_needed:
            raise _count_mismatch("buttons", 1, 0)
        rendered["url"] = _VARIABLE.sub(lambda _: value, button["url"])
    else:
        rendered["payload" if kind == "QUICK_REPLY" else "code"] = value
    return rendered


def _plain(button: Json, kind: str) -> Json:
    """A button without parameters: a quick reply answers with its own label."""
    if kind == "QUICK_REPLY":
        return {"payload": button.get("text", "")}
    return {key: button[key] for key in ("url", "phone_number") if key in button}


def _sub_types(kind: str) -> tuple[str, ...]:
    return ("URL", "COPY_CODE") if kind == "OTP" else (kind,)


def _count_mismatch(place: str, got: int, expected: int) -> GraphError:
    details = f"{place}: number of localizable_params ({got}) does not match the expected number of params ({expected})"
    return GraphError(132000, details=details)
