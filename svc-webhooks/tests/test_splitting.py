"""Splitting: every item of a body reaches the partition of its number and contact, once, in order, in its own shape."""

import json
from collections import defaultdict
from itertools import pairwise

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from webhook_factories import make_body, make_change, make_message, make_status

from kit.partitions import name_of, partition_of
from svc_webhooks.splitting import UNREADABLE_PARTITION, split

COUNT = 8
NUMBERS = st.sampled_from(["100000000000042", "100000000000043", "1"])
TENANTS = ["019d0a3e-0000-7000-8000-00000000000a", "019d0a3e-0000-7000-8000-00000000000b"]
ROUTES = st.dictionaries(NUMBERS, st.sampled_from(TENANTS))
CONTACTS = st.sampled_from([f"55119876543{i:02}" for i in range(12)])
USER_IDS = st.sampled_from([f"BR.{i:020}" for i in range(6)])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)


@st.composite
def messages(draw):
    body = {"id": f"wamid.{draw(st.uuids())}", "text": {"body": draw(st.text(max_size=12))}}
    if draw(st.booleans()):
        return {"from": draw(CONTACTS), **body}
    return {"from_user_id": draw(USER_IDS), **body}


@st.composite
def statuses(draw):
    body = {"id": f"wamid.{draw(st.uuids())}", "status": draw(st.sampled_from(["sent", "delivered", "read", "odd"]))}
    key, who = draw(st.tuples(st.just("recipient_id"), CONTACTS) | st.tuples(st.just("recipient_user_id"), USER_IDS))
    return {key: who, **body}


@st.composite
def changes(draw):
    value = {
        "metadata": {"phone_number_id": draw(NUMBERS)},
        "contacts": [{"wa_id": draw(CONTACTS)}],
        "messages": draw(st.lists(messages(), max_size=4)),
        "statuses": draw(st.lists(statuses(), max_size=4)),
    }
    kept = draw(st.sets(st.sampled_from(sorted(value))))
    return {"field": draw(st.sampled_from(["messages", "account_update"])), "value": {k: value[k] for k in kept}}


ENTRIES = st.fixed_dictionaries(
    {"id": st.sampled_from(["200000000000077", "200000000000078"]), "changes": st.lists(changes(), max_size=4)},
    optional={"time": st.integers(0, 2**31)},
)
BODIES = st.fixed_dictionaries({"object": st.just("whatsapp_business_account"), "entry": st.lists(ENTRIES, max_size=4)})

# The same skeleton with anything in any place.
ODD_ITEMS = JSON | messages() | st.fixed_dictionaries({"from": JSON, "id": JSON})
ODD_VALUES = JSON | st.fixed_dictionaries(
    {},
    optional={
        "metadata": JSON | st.fixed_dictionaries({"phone_number_id": NUMBERS | JSON}),
        "messages": JSON | st.lists(ODD_ITEMS, max_size=4),
        "statuses": JSON | st.lists(ODD_ITEMS | statuses(), max_size=4),
        "errors": JSON,
    },
)
ODD_CHANGES = JSON | st.fixed_dictionaries({"value": ODD_VALUES}, optional={"field": JSON})
ODD_ENTRIES = JSON | st.fixed_dictionaries(
    {}, optional={"id": JSON, "changes": JSON | st.lists(ODD_CHANGES | changes(), max_size=4)}
)
ODD_BODIES = JSON | st.fixed_dictionaries({"entry": JSON | st.lists(ODD_ENTRIES, max_size=4)})


def dump(body) -> bytes:
    return json.dumps(body).encode()


def is_filled_list(value) -> bool:
    return isinstance(value, list) and bool(value)


def items_of(body):
    """Every item with all that says where it stands: what must come out once. Written apart from the code it judges."""
    for entry in body["entry"] if isinstance(body, dict) and isinstance(body.get("entry"), list) else ():
        if not (isinstance(entry, dict) and is_filled_list(entry.get("changes"))):
            yield ("entry", dumps(entry))
            continue
        around = {k: v for k, v in entry.items() if k != "changes"}
        for change in entry["changes"]:
            value = change.get("value") if isinstance(change, dict) else None
            names = [n for n in ("messages", "statuses") if isinstance(value, dict) and is_filled_list(value.get(n))]
            if not names:
                yield ("change", dumps([around, change]))
            for name in names:
                beside = {
                    k: v for k, v in value.items() if not isinstance(v, list) or k not in {"messages", "statuses"}
                }
                for item in value[name]:
                    yield (name, dumps([around, {**change, "value": beside}, item]))


def dumps(value) -> str:
    return json.dumps(value, sort_keys=True)


def conversations(body):
    """Wamids by number and contact, in order, kind by kind."""
    found = defaultdict(list)
    for entry in body["entry"]:
        for change in entry["changes"]:
            value = change["value"]
            number = value.get("metadata", {}).get("phone_number_id", "")
            for name in ("messages", "statuses"):
                for item in value.get(name, []):
                    who = next(v for k, v in item.items() if k.startswith(("from", "recipient")))
                    found[number, who, name].append(item["id"])
    return found


@given(BODIES, st.integers(1, 64), ROUTES)
def test_nothing_is_lost_and_nothing_doubled(body, count, routes):
    parts = [json.loads(part) for _, part in split(dump(body), count, routes)]
    assert sorted(item for part in parts for item in items_of(part)) == sorted(items_of(body))


@given(ODD_BODIES, st.integers(1, 64), ROUTES)
@example({"entry": [None, "text", 7, {"id": "1"}, {"id": "2", "changes": {}}]}, 64, {})
@example({"entry": [{"id": "1", "changes": [None, "text", {}, {"value": None}]}, {"id": "2", "messaging": []}]}, 64, {})
@example({"entry": [{"changes": [{"value": {"messages": [None, 1, {"from": "a"}, {"from": ["a"]}]}}]}]}, 64, {})
def test_odd_shapes_never_raise_and_lose_nothing(body, count, routes):
    parts = split(dump(body), count, routes)
    names = {name_of(partition, tenant) for partition in range(count) for tenant in ("", *routes.values())}
    assert all(partition in names for partition, _ in parts)
    assert len({partition for partition, _ in parts}) == len(parts)
    if len(parts) == 1:
        assert parts[0][1] == dump(body)
    else:
        found = [item for _, part in parts for item in items_of(json.loads(part))]
        assert sorted(found) == sorted(items_of(body))


@given(st.binary(max_size=200) | JSON.map(dump) | ODD_BODIES.map(lambda body: dump(body)[:-1]))
def test_bytes_that_are_no_webhook_pass_whole(body):
    assert split(body, COUNT) == [(UNREADABLE_PARTITION, body)]


@given(BODIES, st.integers(1, 64), ROUTES)
def test_items_of_one_conversation_share_the_partition_that_its_key_names(body, count, routes):
    for partition, part in split(dump(body), count, routes):
        for number, who, _ in conversations(json.loads(part)):
            assert name_of(partition_of(f"{number}/{who}", count), routes.get(number, "")) == partition


@given(BODIES, st.integers(1, 64), ROUTES)
def test_order_within_a_conversation_stays(body, count, routes):
    found = {}
    for _, part in split(dump(body), count, routes):
        of_part = conversations(json.loads(part))
        assert found.keys().isdisjoint(of_part)
        found |= of_part
    assert found == conversations(body)


@given(BODIES, st.integers(1, 64), ROUTES)
def test_a_body_of_one_partition_passes_as_the_bytes_that_were_signed(body, count, routes):
    parts = split(dump(body), count, routes)
    assert (len(parts) == 1) == (len({partition for partition, _ in parts}) == 1)
    if len(parts) == 1:
        assert parts[0][1] == dump(body)


@given(BODIES, st.integers(2, 64), ROUTES)
def test_splitting_a_part_again_changes_nothing(body, count, routes):
    for partition, part in split(dump(body), count, routes):
        assert split(part, count, routes) == [(partition, part)]


@given(BODIES, st.integers(1, 64), ROUTES, JSON)
def test_an_odd_neighbour_moves_nobody(body, count, routes, odd):
    """The short way for well-formed bodies and the long one for odd ones agree on every partition."""
    with_odd = {
        **body,
        "entry": [*body["entry"], {"id": "odd", "changes": [{"value": {"metadata": odd}}], "time": odd}],
    }
    alone, beside = split(dump(body), count, routes), split(dump(with_odd), count, routes)
    assert wamids(alone) == wamids(beside)


def wamids(parts):
    return {(partition, who, *ids) for partition, part in parts for who, ids in conversations_in(json.loads(part))}


def conversations_in(part):
    usable = [e for e in part["entry"] if e["id"] != "odd"]
    return conversations({"entry": usable}).items()


def test_every_level_is_honoured():
    contacts = [f"551198765{i:04}" for i in range(20)]
    changes = [
        make_change(
            number=number, messages=tuple(map(make_message, contacts)), statuses=tuple(map(make_status, contacts))
        )
        for number in ("1", "2")
    ]
    body = json.loads(make_body(*changes))
    body["entry"].append({**body["entry"][0], "id": "200000000000078"})
    parts = split(dump(body), COUNT)
    assert len(parts) == COUNT
    assert all(before < after for (before, _), (after, _) in pairwise(parts))
    found = [item for _, part in parts for item in items_of(json.loads(part))]
    assert len(found) == 2 * 2 * 2 * 20
    assert sorted(found) == sorted(items_of(body))


def test_what_surrounds_an_item_goes_with_it():
    change = make_change(messages=(make_message("a"), make_message("b"), make_message("c"), make_message("d")))
    change["value"]["contacts"] = [{"wa_id": "a", "profile": {"name": "Ana"}}]
    parts = split(make_body(change), 64)
    assert len(parts) == 4
    for _, part in parts:
        decoded = json.loads(part)
        assert decoded["object"] == "whatsapp_business_account"
        [entry] = decoded["entry"]
        assert entry["id"] == "200000000000077"
        [kept] = entry["changes"]
        assert kept["value"]["contacts"] == change["value"]["contacts"]
        assert len(kept["value"]["messages"]) == 1


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('"\\ud83d"', id="half a surrogate pair"),
        pytest.param("1e999", id="a number beyond all floats"),
        pytest.param("9" * 40, id="a number beyond 64 bits"),
        pytest.param("NaN", id="no number"),
        pytest.param('"\\u0000"', id="a zero character"),
    ],
)
def test_what_some_decoders_refuse_does_not_keep_others_from_their_partition(text):
    change = make_change(messages=(make_message("a"), make_message("b"), make_message("c")))
    body = make_body(change).replace(b'"Is it in stock?"', text.encode(), 1)
    parts = split(body, 64)
    assert [partition for partition, _ in parts] == sorted(
        name_of(partition_of(f"100000000000042/{who}", 64)) for who in ("a", "b", "c")
    )
    found = [item for _, part in parts for item in items_of(json.loads(part))]
    assert sorted(found) == sorted(items_of(json.loads(body)))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b'{"entry":[', id="cut off"),
        pytest.param(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", id="nested beyond all sense"),
        pytest.param(make_body(make_change(messages=tuple(map(make_message, "abc")))) + b"\xff", id="not UTF-8 after"),
        pytest.param(
            make_body(make_change(messages=tuple(map(make_message, "abc")))).replace(b"in stock", b"\xff", 1),
            id="not UTF-8 within",
        ),
        pytest.param(b"[1]", id="no object"),
        pytest.param(b'{"entry":{}}', id="no list of entries"),
        pytest.param(b'{"entry":[]}', id="no entry"),
    ],
)
def test_the_unreadable_goes_whole_where_its_reader_parks_it(body):
    assert split(body, COUNT) == [(UNREADABLE_PARTITION, body)]


@pytest.mark.parametrize("depth", range(100, 1100, 7))
def test_nesting_at_the_edge_of_what_decoders_take_never_raises(depth):
    change = make_change(messages=(make_message("a"), make_message("b"), make_message("c")))
    body = make_body(change).replace(b'"Is it in stock?"', b"[" * depth + b"]" * depth, 1)
    parts = split(body, 64)
    assert parts == [(UNREADABLE_PARTITION, body)] or len(parts) == 3


def test_parts_stay_below_what_the_bus_takes():
    """Escapes may make a part longer than the body; JSON in UTF-8 never does so beyond a few bytes for each contact."""
    people = [{"wa_id": str(i), "profile": {"name": "Ä" * 200}} for i in range(1000)]
    change = make_change(messages=tuple(make_message(str(i), "ü" * 500) for i in range(1000)))
    change["value"]["contacts"] = people
    body = msgspec.json.encode(json.loads(make_body(change)))
    assert max(len(part) for _, part in split(body, COUNT)) < len(body)


def test_items_of_a_number_in_the_routes_go_to_its_tenant_and_all_others_stay():
    tenant, contacts = TENANTS[0], [f"551198765{i:04}" for i in range(20)]
    changes = [make_change(number=number, messages=tuple(map(make_message, contacts))) for number in ("1", "2")]
    parts = split(make_body(*changes), 2, {"1": tenant})
    assert [partition for partition, _ in parts] == sorted(["0", "1", f"{tenant}-0", f"{tenant}-1"])
    for partition, part in parts:
        numbers = {number for number, _, _ in conversations(json.loads(part))}
        assert numbers == ({"1"} if partition.startswith(tenant) else {"2"})


def test_with_one_partition_a_body_is_looked_into_only_where_there_are_routes():
    body = make_body(make_change(number="1", messages=(make_message(),)))
    assert split(body, 1) == [("0", body)]
    assert split(body, 1, {"2": TENANTS[0]}) == [("0", body)]
    assert split(body, 1, {"1": TENANTS[0]}) == [(f"{TENANTS[0]}-0", body)]
    assert split(body[:-1], 1, {"1": TENANTS[0]}) == [("0", body[:-1])]
