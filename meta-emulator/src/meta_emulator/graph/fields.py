"""The `fields` parameter of a GET: which of an object's fields are answered."""

from collections.abc import Callable

from aiohttp import web

from meta_emulator.graph.errors import GraphError
from meta_emulator.model import Json

Readers = dict[str, Callable[[], object]]


def select(request: web.Request, node_type: str, readers: Readers, default: tuple[str, ...]) -> Json:
    """The chosen fields in the order asked, always with `id`; an unknown one is refused by name."""
    names = names_of(request.query.get("fields", ""))
    for name in names:
        if name not in readers:
            text = f"(#100) Tried accessing nonexisting field ({name}) on node type ({node_type})"
            raise GraphError(100, message=text)
    chosen = [name for name in names or default if name != "id"]
    found = {name: readers[name]() for name in chosen}
    return {name: value for name, value in found.items() if value is not None} | {"id": readers["id"]()}


def names_of(text: str) -> list[str]:
    """Top-level names of `a,b{c,d},e.f(1)`."""
    names, depth, start = [], 0, 0
    for place, character in enumerate(text + ","):
        if character in "{(":
            depth += 1
        elif character in "})":
            depth -= 1
        elif character == "," and depth == 0:
            name = text[start:place].strip()
            for stop in "{(.":
                name = name.partition(stop)[0]
            if name:
                names.append(name)
            start = place + 1
    return names
