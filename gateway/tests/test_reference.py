"""The API reference is served beside what it describes, and describes all of it."""

import pytest

from gateway.transcode.routes import bindings
from kit import access


async def test_all_that_is_served_is_described(api):
    paths = (await api.get("/openapi.json", token="")).json["paths"]
    derived = {binding.template.text for binding in bindings(access.all_methods())}
    by_hand = {"/healthz", "/readyz", "/metrics", "/webhooks/meta", "/v1/stream"}
    assert set(paths) == derived | by_hand


async def test_what_is_described_is_served(api):
    described = (await api.get("/openapi.json", token="")).json["paths"]
    for path, operations in described.items():
        answer = await api.call("PATCH", path.replace("{", "").replace("}", ""))
        assert (answer.status, answer.code) == (405, "METHOD_NOT_ALLOWED"), path
        served = {verb.lower() for verb in answer.headers["Allow"].split(", ")}
        assert served == {verb for verb in operations if verb != "parameters"}, path


@pytest.mark.parametrize("path", ["/docs", "/docs/app.js", "/docs/style.css"])
async def test_the_page_loads_nothing_from_elsewhere(api, path):
    answer = await api.get(path, token="")
    assert answer.status == 200
    assert answer.body
    assert answer.headers.getall("Content-Security-Policy")[0].startswith("default-src 'none'; script-src 'self'")
