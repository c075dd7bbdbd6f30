"""Page tokens and sizes."""

import base64
import json
import uuid
from datetime import UTC, datetime, timedelta, timezone

import echo_pb2 as pb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit import pages
from kit.errors import InvalidRequest, PageTokenInvalid, Violation

TENANT = uuid.uuid4()
KEYS = {"at": datetime, "id": uuid.UUID, "rank": int, "name": str}
ROW = {"at": datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC), "id": uuid.uuid4(), "rank": -7, "name": "Ünal"}
SCOPE = pages.scope_of(pb.EchoRequest(), TENANT)

cursors = st.fixed_dictionaries(
    {
        "at": st.datetimes(timezones=st.just(UTC)),
        "id": st.uuids(),
        "rank": st.integers(-(2**63), 2**63 - 1),
        "name": st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=100),
    }
)


@given(cursor=cursors, backward=st.booleans())
def test_token_gives_the_position_back(cursor, backward):
    token = pages.encode(cursor, scope=SCOPE, backward=backward)
    assert pages.decode(token, scope=SCOPE, keys=KEYS) == (cursor, backward)


def _forge(text):
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@given(token=st.text() | st.text(st.sampled_from("abcXYZ019-_=")) | json_values.map(lambda v: _forge(json.dumps(v))))
def test_whatever_is_no_token_is_refused(token):
    with pytest.raises(PageTokenInvalid):
        pages.decode(token, scope=SCOPE, keys=KEYS)


@given(values=st.fixed_dictionaries(dict.fromkeys(KEYS, json_values)), backward=json_values)
def test_forged_position_is_refused_or_has_the_types_of_its_columns(values, backward):
    token = _forge(json.dumps([SCOPE, backward, values]))
    try:
        cursor, _ = pages.decode(token, scope=SCOPE, keys=KEYS)
    except PageTokenInvalid:
        return
    assert {name: type(value) for name, value in cursor.items()} == KEYS


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("at", "2026-01-01T00:00:00"),
        ("at", "0001-01-01T00:00:00+23:00"),
        ("at", "yesterday"),
        ("at", 5),
        ("id", "not-a-uuid"),
        ("id", 5),
        ("rank", 2**63),
        ("rank", True),
        ("rank", 1.5),
        ("rank", "1"),
        ("name", "nul\0"),
        ("name", "\ud800"),
        ("name", "x" * 201),
        ("name", None),
    ],
)
def test_value_that_no_row_has_is_refused(column, value):
    plain = {"at": "2026-01-01T00:00:00Z", "id": str(uuid.uuid4()), "rank": 1, "name": "x"} | {column: value}
    with pytest.raises(PageTokenInvalid):
        pages.decode(_forge(json.dumps([SCOPE, 0, plain])), scope=SCOPE, keys=KEYS)


@pytest.mark.parametrize("text", ["[" * 700, "1" * 700, '{"a":' * 100, "[1,2]", "[1,2,3,4]", "null"])
def test_odd_json_is_refused(text):
    with pytest.raises(PageTokenInvalid):
        pages.decode(_forge(text), scope=SCOPE, keys=KEYS)


def test_first_page_has_no_position():
    page = pages.read(pb.EchoRequest(), TENANT, keys=KEYS)
    assert (page.size, page.cursor, page.is_backward) == (50, None, False)


def test_pages_lead_on_and_back():
    page = pages.read(pb.EchoRequest(short_text="filter", page_size=10), TENANT, keys=KEYS)
    for backward in (False, True):
        token = page.token(ROW, backward=backward)
        # The size may change from page to page; the filter may not.
        again = pages.read(pb.EchoRequest(short_text="filter", page_size=20, page_token=token), TENANT, keys=KEYS)
        assert (again.size, again.cursor, again.is_backward) == (20, ROW, backward)


def test_token_of_another_filter_tenant_or_list_is_refused():
    token = pages.read(pb.EchoRequest(short_text="a"), TENANT, keys=KEYS).token(ROW)
    for request, tenant_id in [
        (pb.EchoRequest(short_text="b", page_token=token), TENANT),
        (pb.EchoRequest(short_text="a", page_token=token), uuid.uuid4()),
        (pb.EchoRequest(short_text="a", page_token=token), None),
    ]:
        with pytest.raises(PageTokenInvalid):
            pages.read(request, tenant_id, keys=KEYS)
    with pytest.raises(PageTokenInvalid):
        pages.read(pb.EchoRequest(short_text="a", page_token=token), TENANT, keys={"at": datetime})


def test_moments_are_told_in_utc():
    east = datetime(2026, 1, 1, 5, tzinfo=timezone(timedelta(hours=5)))
    token = pages.encode({"at": east}, scope=SCOPE)
    assert pages.decode(token, scope=SCOPE, keys={"at": datetime})[0]["at"] == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(("asked", "given"), [(0, 50), (1, 1), (50, 50), (200, 200), (201, 200), (2**31 - 1, 200)])
def test_size_has_a_default_and_a_limit(asked, given):
    assert pages.size_of(asked) == given


def test_negative_size_is_refused():
    with pytest.raises(InvalidRequest) as refused:
        pages.size_of(-1)
    assert refused.value.violations == (Violation("pageSize", "int32.gte", "must be greater than or equal to 0"),)


def test_refusal_names_the_field():
    with pytest.raises(PageTokenInvalid) as refused:
        pages.decode("x", scope=SCOPE, keys=KEYS)
    assert [violation.field for violation in refused.value.violations] == ["pageToken"]
