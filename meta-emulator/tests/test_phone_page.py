"""The phone page: whole, served, and from nowhere else."""

import posixpath
import re
from pathlib import Path

import pytest

from meta_emulator import phone

STATIC = Path(phone.__file__).parent / "static"
FILES = sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*.*") if path.name != "index.html")
TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
SVG = "http://www.w3.org/2000/svg"


def text(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


def named_by(name: str, content: str) -> set[str]:
    """The files that a file of the page names, as paths inside the folder."""
    if name.endswith(".js"):
        relative = re.findall(r"""(?:from|import)\s*\(?["'](\.[^"']+)["']""", content)
        found = {posixpath.normpath(posixpath.join(posixpath.dirname(name), each)) for each in relative}
    else:
        found = set()
    return found | {each.partition("#")[0] for each in re.findall(r"/phone/([a-z0-9/._#-]+)", content)}


def reached() -> set[str]:
    """All files that the page leads to."""
    known: set[str] = set()
    new = named_by("index.html", text("index.html"))
    while new:
        known |= new
        new = {each for name in new for each in named_by(name, text(name))} - known
    return known


def test_every_file_that_the_page_names_is_there_and_no_other():
    assert reached() == set(FILES)


async def test_the_page_is_served_and_may_load_from_nowhere_else(rig):
    async with rig.http.get(f"{rig.base}/") as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
        assert await answer.text() == text("index.html")
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("name", FILES)
async def test_each_file_is_served_as_what_it_is(rig, name):
    async with rig.http.get(f"{rig.base}/phone/{name}") as answer:
        assert (answer.status, answer.content_type) == (200, TYPES[name.rpartition(".")[2]])
        assert await answer.read() == (STATIC / name).read_bytes()
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "path",
    ["/phone/", "/phone/js/none.js", "/phone/index.html", "/phone/..%2f__init__.py", "/phone/js/%2e%2e/%2e%2e/x.js"],
)
async def test_nothing_else_is_served(rig, path):
    status, _ = await rig.call("GET", path)
    assert status in {400, 404}


@pytest.mark.parametrize("name", ["index.html", *FILES])
def test_no_file_names_another_host(name):
    assert not re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", text(name).replace(SVG, ""))


@pytest.mark.parametrize("name", ["index.html", *FILES])
def test_no_file_carries_script_or_style_that_the_policy_would_refuse(name):
    assert not re.findall(r"<script(?![^>]*\ssrc=)|<style|\s(?:on[a-z]+|style)=\"|\beval\(", text(name))


def test_every_element_that_the_scripts_look_for_is_on_the_page():
    ids = set(re.findall(r'\bid="([^"]+)"', text("index.html")))
    wanted = {each for name in FILES if name.endswith(".js") for each in re.findall(r'byId\("([^"]+)"\)', text(name))}
    assert wanted
    assert wanted <= ids


def test_every_icon_is_drawn_and_used():
    drawn = set(re.findall(r'<symbol id="([^"]+)"', text("icons.svg")))
    named = set(re.findall(r"icons\.svg#([a-z-]+)", text("index.html")))
    scripts = "".join(text(name) for name in FILES if name.endswith(".js"))
    named |= {each for each in drawn if f'"{each}"' in scripts}
    called = set(re.findall(r'\bicon\("([^"]+)"', scripts))
    assert called <= drawn
    assert named == drawn
