"""The reference stands alone: no other host, nothing inline, and all that the document has."""

import asyncio
import re
from importlib import resources

import aiohttp
import pytest
from starlette.applications import Starlette

from gateway.client_ips import ClientIps
from gateway.docs import routes
from gateway.edge import Edge
from gateway.http_server import listen, make_server
from gateway.openapi import document

DOCUMENT = document("1.2.3")
FILES = ["page.html", "style.css", "icon.svg", "app.js", "operations.js", "schemas.js", "examples.js", "markup.js"]


@pytest.fixture
async def docs():
    app = Edge(Starlette(routes=routes(lambda: DOCUMENT)), client_ips=ClientIps([]), is_production=True)
    server, listener = make_server(app, drain_seconds=1), listen("127.0.0.1", 0)
    listener.listen()  # connections may wait from now on
    serving = asyncio.create_task(server.serve([listener]))
    base = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with aiohttp.ClientSession(base, timeout=aiohttp.ClientTimeout(total=30)) as http:
        yield http
    server.should_exit = True
    await serving
    listener.close()


def source(name: str) -> str:
    return (resources.files("gateway.docs") / name).read_text()


def test_every_file_of_the_reference_is_served():
    folder = resources.files("gateway.docs")
    assert {each.name for each in folder.iterdir() if each.name.endswith((".js", ".css", ".svg", ".html"))} == {*FILES}
    served = {route.path for route in routes(lambda: DOCUMENT)}
    assert served == {"/docs", "/openapi.json", *(f"/docs/{name}" for name in FILES if name != "page.html")}


@pytest.mark.parametrize("name", FILES)
def test_no_file_names_another_host(name):
    text = source(name).replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|[\"'(]//|@import", text)


def test_nothing_is_inline_that_the_policy_would_refuse():
    page = source("page.html")
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon[a-z]+=|javascript:", page)
    for name in FILES:
        if name.endswith(".js"):
            assert not re.search(r"\binnerHTML\b|\beval\(|new Function|\.style\b|insertAdjacentHTML", source(name))


def test_every_module_that_is_imported_is_served():
    for name in FILES:
        for imported in re.findall(r'from "\./([\w.]+)"', source(name)):
            assert imported in FILES


async def test_the_page_allows_itself_only(docs):
    async with docs.get("/docs") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        policy = response.headers.getall("Content-Security-Policy")
        page = await response.text()
    [directives] = [dict(part.strip().split(" ", 1) for part in each.split(";")) for each in policy]
    assert directives["default-src"] == "'none'"
    assert set(directives.values()) == {"'none'", "'self'"}
    for address in re.findall(r'(?:src|href)="([^"#]+)"', page):
        async with docs.get(address) as response:
            assert response.status == 200, address


async def test_the_document_is_served_as_it_is(docs):
    async with docs.get("/openapi.json") as response:
        assert response.headers["Content-Type"] == "application/json"
        assert await response.json() == DOCUMENT


async def test_what_has_not_changed_is_not_sent_again(docs):
    async with docs.get("/docs/app.js") as response:
        etag = response.headers["ETag"]
        assert response.headers["Content-Type"].startswith("text/javascript")
    async with docs.get("/docs/app.js", headers={"If-None-Match": f'"other", W/{etag}'}) as response:
        assert response.status == 304
        assert await response.read() == b""
    async with docs.get("/docs/app.js", headers={"If-None-Match": '"other"'}) as response:
        assert response.status == 200


def test_problems_lead_to_an_anchor_that_the_page_has():
    assert 'el("div", { id: code }' in source("operations.js")
    codes = {code["code"] for code in DOCUMENT["x-error-codes"]}
    taken = {each["operationId"] for item in DOCUMENT["paths"].values() for each in item.values()}
    assert "TOKEN_EXPIRED" in codes
    assert not codes & taken
