"""Printing messages: what is always there, what is left out, and that nothing else differs from proto3 JSON."""

import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from aerostic.auth.v1 import auth_service_pb2
from aerostic.messaging.v1 import conversation_pb2, media_service_pb2, message_pb2, message_service_pb2
from google.api import label_pb2
from google.protobuf import duration_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.json_format import MessageToDict, ParseDict
from google.rpc import error_details_pb2
from google.type import color_pb2
from hypothesis import given
from hypothesis import strategies as st

from kit.proto_json import to_dict, to_json

JSON = st.recursive(
    # + 0.0: JSON's -0 reads back as 0
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False).map(lambda f: f + 0.0) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_empty_lists_numbers_and_booleans_are_there_and_absent_things_are_not():
    assert to_dict(message_service_pb2.ListMessagesResponse()) == {"messages": []}
    assert to_dict(conversation_pb2.Conversation(id="1")) == {"id": "1", "unansweredCount": 0}
    assert to_dict(message_pb2.Text()) == {"previewUrl": False}
    assert to_dict(error_details_pb2.ErrorInfo()) == {"metadata": {}}


@pytest.mark.parametrize(
    ("message", "printed"),
    [
        (media_service_pb2.Media(size_bytes=2**53 + 1), {"sizeBytes": "9007199254740993"}),
        (media_service_pb2.UploadMediaRequest(chunk=b""), {"chunk": ""}),
        (media_service_pb2.DownloadMediaResponse(chunk=b"\xff\xfe"), {"chunk": "//4="}),
        (label_pb2.LabelDescriptor(value_type=2), {"valueType": "INT64"}),
        (label_pb2.LabelDescriptor(value_type=77), {"valueType": 77}),
        (
            color_pb2.Color(red=0.1, green=float("nan"), blue=float("-inf")),
            {"red": 0.1, "green": "NaN", "blue": "-Infinity"},
        ),
        (color_pb2.Color(alpha=wrappers_pb2.FloatValue(value=0)), {"red": 0, "green": 0, "blue": 0, "alpha": 0}),
        (duration_pb2.Duration(seconds=900), "900s"),
        (timestamp_pb2.Timestamp(seconds=1, nanos=500_000_000), "1970-01-01T00:00:01.500000Z"),
        (field_mask_pb2.FieldMask(paths=["display_name"]), "displayName"),
        (struct_pb2.Value(null_value=struct_pb2.NULL_VALUE), None),
        (error_details_pb2.ErrorInfo(reason="A", metadata={"k": "v"}), {"reason": "A", "metadata": {"k": "v"}}),
        (
            auth_service_pb2.SessionTokens(access_token="t", expires_in=duration_pb2.Duration(seconds=1)),
            {"accessToken": "t", "expiresIn": "1s"},
        ),
    ],
)
def test_values_look_as_proto3_json_wants_them(message, printed):
    assert to_dict(message) == printed
    assert json.loads(to_json(message)) == printed


@given(
    st.builds(
        message_pb2.Message,
        id=st.text(),
        text=st.none() | st.builds(message_pb2.Text, body=st.text(), preview_url=st.booleans()),
        content=st.none()
        | st.dictionaries(st.text(), JSON, max_size=4).map(lambda d: ParseDict(d, struct_pb2.Struct())),
        status_history=st.lists(st.builds(message_pb2.StatusChange, status=st.text())),
        failure=st.none() | st.builds(message_pb2.Failure, meta_code=st.integers(-(2**31), 2**31 - 1)),
    )
)
def test_every_message_reads_back_the_same_and_says_what_the_standard_printer_says(message):
    printed = json.loads(to_json(message))
    assert ParseDict(printed, message_pb2.Message()) == message
    standard = MessageToDict(message, always_print_fields_with_no_presence=True)
    assert without_empty_strings(standard) == without_empty_strings(printed)


def without_empty_strings(printed):
    """Free content has empty strings of its own: both sides lose them here."""
    if isinstance(printed, dict):
        return {key: without_empty_strings(value) for key, value in printed.items() if value != ""}
    if isinstance(printed, list):
        return [without_empty_strings(value) for value in printed]
    return printed


@given(
    st.integers(-62_135_596_800, 253_402_300_799),
    st.integers(0, 999_999_999) | st.integers(0, 999_999).map(lambda n: n * 1000) | st.sampled_from([0, 5_000_000]),
)
def test_timestamps_are_printed_exactly_and_as_datetimes_are(seconds, nanos):
    stamp = timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos)
    printed = to_dict(stamp)
    read = timestamp_pb2.Timestamp()
    read.FromJsonString(printed)
    assert read == stamp
    if not nanos % 1000:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds, microseconds=nanos // 1000)
        assert msgspec.json.encode(moment).decode() == f'"{printed}"'
