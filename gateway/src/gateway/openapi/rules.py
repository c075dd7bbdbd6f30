"""The contracts' validation rules in JSON Schema, as far as it can say them; the rest is told in words."""

import re
from collections.abc import Mapping
from typing import Any

from buf.validate import validate_pb2
from google.protobuf.descriptor import FieldDescriptor, OneofDescriptor

Schema = dict[str, Any]

_FORMATS = {
    "uuid": "uuid",
    "email": "email",
    "uri": "uri",
    "uri_ref": "uri-reference",
    "hostname": "hostname",
    "ipv4": "ipv4",
    "ipv6": "ipv6",
}
_BOUNDS = {"gt": "exclusiveMinimum", "gte": "minimum", "lt": "exclusiveMaximum", "lte": "maximum", "const": "const"}
_STRING_BOUNDS = {"min_len": "minLength", "max_len": "maxLength", "const": "const", "pattern": "pattern"}
_LIST_BOUNDS = {"min_items": "minItems", "max_items": "maxItems", "unique": "uniqueItems"}
_MAP_BOUNDS = {"min_pairs": "minProperties", "max_pairs": "maxProperties"}
_NUMBERS = frozenset(
    {"float", "double", "int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32", "fixed64"}
    | {"sfixed32", "sfixed64"}
)


def of(field: FieldDescriptor) -> validate_pb2.FieldRules:
    rules: validate_pb2.FieldRules = field.GetOptions().Extensions[validate_pb2.field]
    return rules


def is_required(field: FieldDescriptor) -> bool:
    """Whether a request without the field is refused: by the rule of that name, or since its zero value breaks another
    rule and absence is the zero value.
    """
    rules = of(field)
    if rules.required:
        return True
    if field.has_presence or _may_be_zero(rules):
        return False
    kind = rules.WhichOneof("type")
    if kind is None:
        return False
    if field.is_repeated:
        return rules.repeated.min_items > 0 or rules.map.min_pairs > 0
    return _refuses_empty(rules.string) if kind == "string" else kind != "bool" and _refuses_zero(rules)


def is_choice_required(oneof: OneofDescriptor) -> bool:
    choice: validate_pb2.OneofRules = oneof.GetOptions().Extensions[validate_pb2.oneof]
    return choice.required


def single(field: FieldDescriptor) -> Schema:
    """Keywords for one value of the field."""
    return _of_rules(of(field), is_repeated=field.is_repeated)


def many(field: FieldDescriptor) -> Schema:
    """Keywords for the list or map that holds the values."""
    rules = of(field)
    return _said(rules.repeated, _LIST_BOUNDS) | _said(rules.map, _MAP_BOUNDS)


def in_words(field: FieldDescriptor) -> list[str]:
    """Rules that a schema cannot say."""
    rules = of(field)
    told = [rule.message for rule in rules.cel]
    if rules.string.HasField("max_bytes"):
        told.append(f"must have {rules.string.max_bytes} bytes in UTF-8 at most")
    return told


def _of_rules(rules: validate_pb2.FieldRules, *, is_repeated: bool) -> Schema:
    if is_repeated:
        rules = rules.repeated.items
    kind = rules.WhichOneof("type")
    if kind == "string":
        schema = _string(rules.string)
        if _may_be_zero(rules) and schema and _refuses_empty(rules.string):
            return {"anyOf": [schema, {"maxLength": 0}]}
        return schema
    return _number(getattr(rules, kind)) if kind in _NUMBERS else {}


def _string(rules: validate_pb2.StringRules) -> Schema:
    schema = _said(rules, _STRING_BOUNDS)
    if rules.HasField("len"):
        schema |= {"minLength": rules.len, "maxLength": rules.len}
    if rules.HasField("max_bytes"):
        # Every character has a byte at least.
        schema.setdefault("maxLength", rules.max_bytes)
    well_known = rules.WhichOneof("well_known")
    if well_known in _FORMATS:
        schema["format"] = _FORMATS[well_known]
    if getattr(rules, "in"):
        schema["enum"] = list(getattr(rules, "in"))
    return schema


def _number(rules: Any) -> Schema:
    schema = _said(rules, _BOUNDS)
    if allowed := list(getattr(rules, "in")):
        schema["enum"] = allowed
    return schema


def _said(rules: Any, keywords: Mapping[str, str]) -> Schema:
    """The rules that are set, by their keywords."""
    return {keyword: getattr(rules, name) for name, keyword in keywords.items() if rules.HasField(name)}


def _may_be_zero(rules: validate_pb2.FieldRules) -> bool:
    return rules.ignore in {validate_pb2.IGNORE_IF_ZERO_VALUE, validate_pb2.IGNORE_ALWAYS}


def _refuses_empty(rules: validate_pb2.StringRules) -> bool:
    allowed = list(getattr(rules, "in"))
    return bool(
        rules.min_len
        or rules.min_bytes
        or rules.len
        or rules.const
        or rules.WhichOneof("well_known")
        or (allowed and "" not in allowed)
        or (rules.pattern and not re.search(rules.pattern, ""))
    )


def _refuses_zero(rules: validate_pb2.FieldRules) -> bool:
    schema = _of_rules(rules, is_repeated=False)
    return (
        schema.get("minimum", 0) > 0
        or schema.get("exclusiveMinimum", -1) >= 0
        or schema.get("const", 0) != 0
        or 0 not in schema.get("enum", [0])
    )
