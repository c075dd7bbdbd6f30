"""Who wrote: the contact of each sender, found by any identity, created when new, made one when two turn out to be.

A contact is a person (design decision 9). Meta names a person by a business-scoped id, a wa_id, or both, and tells when
either changes; all names that ever stood together lead to one contact. A business with several portfolios at Meta sees
one person under several business-scoped ids, so a new one beside a known wa_id is a further name, not a new person.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kit.db import Row, Tx
from kit.ids import new_id
from svc_messaging.inbox import merging
from svc_messaging.inbox.items import Sender, Written

Identity = tuple[uuid.UUID, str, str]
"""Tenant, kind and value."""

_FIND = """
    SELECT i.tenant_id, i.kind, i.value, i.contact_id, c.name, c.username, c.phone, c.wa_id, c.user_id
    FROM unnest($1::uuid[], $2::text[], $3::text[]) AS g (tenant_id, kind, value)
    JOIN contact_identities i USING (tenant_id, kind, value)
    JOIN contacts c ON c.tenant_id = i.tenant_id AND c.id = i.contact_id
"""

_CREATE = """
    INSERT INTO contacts (tenant_id, id, name, username, phone, wa_id, user_id)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
"""

_NAME = """
    INSERT INTO contact_identities (tenant_id, kind, value, contact_id)
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[])
    ON CONFLICT DO NOTHING
    RETURNING value
"""

_FORGET = """
    DELETE FROM contact_identities
    WHERE (tenant_id, kind, value) IN (SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[]))
"""

# What a message does not say stays as it is. Who said nothing new does not come here; others may have written the same
# meanwhile, so a contact that does not change is not written.
_UPDATE = """
    UPDATE contacts c
    SET name = COALESCE(NULLIF(g.name, ''), c.name), username = COALESCE(NULLIF(g.username, ''), c.username),
        phone = COALESCE(NULLIF(g.phone, ''), c.phone), wa_id = COALESCE(NULLIF(g.wa_id, ''), c.wa_id),
        user_id = COALESCE(NULLIF(g.user_id, ''), c.user_id), updated_at = now()
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
        AS g (tenant_id, id, name, username, phone, wa_id, user_id)
    WHERE c.tenant_id = g.tenant_id AND c.id = g.id
      AND ((g.name NOT IN ('', c.name)) OR (g.username NOT IN ('', c.username)) OR (g.phone NOT IN ('', c.phone))
           OR (g.wa_id NOT IN ('', c.wa_id)) OR (g.user_id NOT IN ('', c.user_id)))
"""


class Contended(Exception):
    """Another transaction created the same contact at the same moment: begin again."""


@dataclass(slots=True, eq=False)
class Person:
    """All that a batch says about one person of one workspace."""

    tenant_id: uuid.UUID
    identities: set[Identity] = field(default_factory=set)
    name: str = ""
    username: str = ""
    wa_id: str = ""
    user_id: str = ""
    contact_id: uuid.UUID | None = None

    def hear(self, sender: Sender) -> None:
        """The latest word counts."""
        self.name = sender.name or self.name
        self.username = sender.username or self.username
        self.wa_id = sender.wa_id or self.wa_id
        self.user_id = sender.user_id or self.user_id
        self.identities.update((self.tenant_id, kind, value) for kind, value in sender.identities)

    def join(self, other: "Person") -> None:
        """Take over what another, who is the same person, was said to be before."""
        self.identities |= other.identities
        for name in ("name", "username", "wa_id", "user_id"):
            setattr(self, name, getattr(self, name) or getattr(other, name))

    @property
    def columns(self) -> tuple[uuid.UUID, uuid.UUID, str, str, str, str, str]:
        assert self.contact_id is not None
        return self.tenant_id, self.contact_id, self.name, self.username, self.phone, self.wa_id, self.user_id

    @property
    def phone(self) -> str:
        return f"+{self.wa_id}" if self.wa_id else ""

    def is_news_to(self, contact: Row) -> bool:
        """Whether anything said about the person is not in the contact."""
        names = ("name", "username", "phone", "wa_id", "user_id")
        return any(getattr(self, name) not in {"", contact[name]} for name in names)


def gather(items: Iterable[tuple[uuid.UUID, Written]]) -> dict[Identity, Person]:
    """The persons that wrote, under each of their identities. Items in order, each with its workspace."""
    people: dict[Identity, Person] = {}
    for tenant_id, item in items:
        for sender in filter(None, (item.sender, item.becomes)):
            # A change of number names the old identities first and the new ones after.
            known = sender if sender is item.sender else item.sender
            keys = [(tenant_id, *identity) for identity in (*known.identities, *sender.identities)]
            person = Person(tenant_id)
            person.hear(sender)
            person.identities.update(keys)
            for other in {id(found): found for key in keys if (found := people.get(key))}.values():
                person.join(other)
            people.update(dict.fromkeys(person.identities, person))
    return people


async def resolve(tx: Tx, people: dict[Identity, Person]) -> list[tuple[uuid.UUID, uuid.UUID]]:
    """Give every person a contact. Gives the keys of conversations that changed because two contacts became one.
    Raises Contended.
    """
    distinct = list({id(person): person for person in people.values()}.values())
    if not distinct:
        return []
    found = await _find(tx, sorted(people))
    stays: dict[uuid.UUID, uuid.UUID] = {}
    changed: list[tuple[uuid.UUID, uuid.UUID]] = []
    new: list[Person] = []
    known: list[Person] = []
    for person in distinct:
        rows = [found[key] for key in person.identities if key in found]
        contacts = sorted({stays.get(row["contact_id"], row["contact_id"]) for row in rows})
        if not contacts:
            person.contact_id = new_id()
            new.append(person)
            continue
        into, *others = contacts
        person.contact_id = into
        if others or person.is_news_to(rows[0]):
            known.append(person)
        for gone in others:
            changed += await merging.merge(tx, person.tenant_id, into=into, gone=gone)
            stays = {each: into if to == gone else to for each, to in stays.items()} | {gone: into}
    for person in distinct:
        assert person.contact_id is not None
        person.contact_id = stays.get(person.contact_id, person.contact_id)
    if new:
        await tx.execute(_CREATE, *_columns(new))
    if known:
        await tx.execute(_UPDATE, *_columns(known))
    await _name(tx, [(key, person) for person in distinct for key in person.identities if key not in found])
    return changed


async def forget_left_numbers(tx: Tx, items: Sequence[tuple[uuid.UUID, Written]]) -> None:
    """Someone who changed the number no longer has the old one; who writes from it next is another person."""
    left = [
        (tenant_id, kind, value)
        for tenant_id, item in items
        if item.becomes is not None and item.becomes.wa_id and item.becomes.wa_id != item.sender.wa_id
        for kind, value in item.sender.identities
        if kind != "user_id"
    ]
    if left:
        await tx.execute(_FORGET, *_transposed(sorted(set(left))))


async def _find(tx: Tx, keys: Sequence[Identity]) -> dict[Identity, Row]:
    rows = await tx.fetch(_FIND, *_transposed(keys))
    return {(row["tenant_id"], row["kind"], row["value"]): row for row in rows}


async def _name(tx: Tx, named: list[tuple[Identity, Person]]) -> None:
    if not named:
        return
    # In one order everywhere, so that two transactions never wait for each other.
    named.sort(key=lambda each: each[0])
    rows = await tx.fetch(_NAME, *_transposed([(*key, person.contact_id) for key, person in named]))
    if len(rows) < len(named):
        raise Contended


def _columns(people: Sequence[Person]) -> list[list[object]]:
    return _transposed([person.columns for person in sorted(people, key=lambda person: person.columns[:2])])


def _transposed(rows: Sequence[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]
