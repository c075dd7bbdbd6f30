"""Lists that can be walked both ways: the SQL that begins beyond a row, and the tokens to either side of a page."""

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from kit.db import Row, Tx
from kit.pages import Page


class Column(NamedTuple):
    """A column that a list is ordered by."""

    name: str
    """In rows and page tokens."""
    sql: str
    kind: type[datetime | uuid.UUID]


class Listed(NamedTuple):
    """A page of a list."""

    rows: list[Row]
    next_page_token: str
    """Empty on the last page."""
    previous_page_token: str
    """Leads back to what stands before this page, and to what will; empty when the page is."""

    @property
    def tokens_json(self) -> dict[str, str]:
        """The tokens as JSON has them: what is empty is left out."""
        tokens = {"nextPageToken": self.next_page_token, "previousPageToken": self.previous_page_token}
        return {name: token for name, token in tokens.items() if token}


class Descending:
    """A list in the order of some columns, the greatest first."""

    def __init__(self, select: str, table: str, *columns: Column, scope: str = "true") -> None:
        """`select` goes on with WHERE and joins to each row of `table`, such as "messages m", what belongs to it. The
        last column is the key of a row, within `scope` where it is a condition on the first value.
        """
        self._select = select
        self._table = table
        self._columns = columns
        self._scope = scope
        self._key = columns[-1].sql
        self.keys = {column.name: column.kind for column in columns}

    async def fetch(self, tx: Tx, where: str, values: Sequence[Any], page: Page) -> Listed:
        """A page of the rows that meet a condition; `values` are its parameters."""
        given = [*values, *(page.cursor or {}).values(), page.size + 1]
        comparison, direction = (">", "ASC") if page.is_backward else ("<", "DESC")
        names = ", ".join(column.sql for column in self._columns)
        places = ", ".join(f"${len(values) + place}" for place in range(1, len(self._columns) + 1))
        beyond = f"AND ({names}) {comparison} ({places})" if page.cursor else ""
        order = ", ".join(f"{column.sql} {direction}" for column in self._columns)
        # The rows of the page are found first, so that nothing is joined to the others. They are read by key alone:
        # with the condition beside it the planner might look through all rows that meet it instead.
        found = f"SELECT {self._key} FROM {self._table} WHERE {where} {beyond} ORDER BY {order} LIMIT ${len(given)}"
        rows = await tx.fetch(
            f"{self._select} WHERE {self._scope} AND {self._key} = ANY (ARRAY({found})) ORDER BY {order}", *given
        )
        return listed(rows, page, self.keys)


def listed(rows: list[Row], page: Page, keys: Iterable[str]) -> Listed:
    """The page of rows that were read from its beginning on, in the direction in which it is walked, one more than it
    has where there are more. `keys`: the columns that the list is ordered by.
    """
    kept = rows[: page.size]
    if not kept:
        return Listed([], "", "")
    if page.is_backward:
        kept.reverse()
    # Whoever comes back has been further on: the row that he came from follows.
    has_next = page.is_backward or len(rows) > page.size
    first, last = ({key: row[key] for key in keys} for row in (kept[0], kept[-1]))
    return Listed(kept, page.token(last) if has_next else "", page.token(first, backward=True))
