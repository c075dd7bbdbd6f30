"""Contacts are found by how the words of their names, their usernames and their numbers begin."""

import pytest
from aerostic.messaging.v1 import contact_service_pb2 as pb
from messaging_factories import make_contact

from kit.ids import new_id


async def names(service, tenant_id, query, **page) -> list[str]:
    request = pb.ListContactsRequest(query=query, **page)
    answer = await service.agent(tenant_id).call(service.contacts.ListContacts, request)
    return [contact.name or contact.phone for contact in answer.contacts]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("mar", ["Maria López-Cruz"]),
        ("MARIA lop", ["Maria López-Cruz"]),
        ("lopez", ["Maria López-Cruz"]),
        ("cruz", ["Maria López-Cruz"]),
        ("LÓPEZ cruz", ["Maria López-Cruz"]),
        ("maria cruz", []),
        ("opez", []),
        ("björ", ["Björn"]),
        ("bjor", ["Björn"]),
        ("@bear", ["Björn"]),
        ("bear.of", ["Björn"]),
        ("мар", ["МАРИЯ"]),
        ("李", ["李 明"]),
        ("明", ["李 明"]),
        ("+49 (151) 5", ["Björn"]),
        ("49151", ["Björn"]),
        ("151", []),
        ("7 eleven", ["7 Eleven"]),
        ("%", []),
        ("_", []),
        ("'; DROP", []),
        ("👍", []),
    ],
)
async def test_a_contact_is_found_by_how_any_of_its_names_begins(service, sql, query, found):
    tenant_id = new_id()
    await make_contact(sql, tenant_id, name="Maria López-Cruz", phone="+34600111222")
    await make_contact(sql, tenant_id, name="Björn", username="@bear.of.north", phone="+491515550000")
    await make_contact(sql, tenant_id, name="МАРИЯ", phone="")
    await make_contact(sql, tenant_id, name="李 明", phone="")
    await make_contact(sql, tenant_id, name="7 Eleven", phone="")
    assert await names(service, tenant_id, query) == found


async def test_a_contact_of_several_such_words_is_told_once_on_all_pages_both_ways(service, sql):
    tenant_id = new_id()
    told = [f"Ma{letter} Mara Max" for letter in "abcdefg"]
    for name in told:
        await make_contact(sql, tenant_id, name=name)
    request, forward, backward = pb.ListContactsRequest(query="ma", page_size=3), [], []
    agent = service.agent(tenant_id)
    for _ in range(3):
        answer = await agent.call(service.contacts.ListContacts, request)
        forward += [contact.name for contact in answer.contacts]
        request.page_token = answer.next_page_token
    assert (forward, answer.next_page_token) == (told, "")
    for _ in range(2):
        request.page_token = answer.previous_page_token
        answer = await agent.call(service.contacts.ListContacts, request)
        backward = [contact.name for contact in answer.contacts] + backward
    assert backward == told[:6]


async def test_a_search_finds_nobody_of_another_workspace(service, sql):
    await make_contact(sql, new_id(), name="Maria")
    assert await names(service, new_id(), "maria") == []


async def test_who_changes_the_name_is_found_by_the_new_one_alone(service, sql):
    tenant_id = new_id()
    contact = await make_contact(sql, tenant_id, name="Ann Old", phone="+4915155500")
    await sql.execute("UPDATE contacts SET name = 'Ann New' WHERE id = $1", contact["id"])
    assert [await names(service, tenant_id, query) for query in ("ann old", "old")] == [[], []]
    assert [await names(service, tenant_id, query) for query in ("ann new", "new", "+49151")] == [["Ann New"]] * 3


async def test_a_long_name_costs_a_bounded_number_of_terms(sql):
    words = [f"{place} {'x' * 300}" for place in range(200)]
    terms = await sql.fetch("SELECT contact_search_terms($1, '', '+491') AS term", " ".join(words))
    assert len(terms) <= 9
    assert max(len(row["term"]) for row in terms) <= 100
