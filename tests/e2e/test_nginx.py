"""The product behind nginx, as the production Compose file runs it: hosts, certificates, limits, live stream."""

import asyncio
import os
import shutil
import signal
import ssl
import string
import subprocess
from pathlib import Path

import aiohttp
import pytest

from devstack.ports import PortClaims, accepts
from devstack.workspace import until

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
DOMAIN = "shop.example"
PROGRAM = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")
MAIN = """\
daemon off;
{user}
pid {folder}/nginx.pid;
error_log stderr warn;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/aerostic.conf;
}}
"""


class Edge:
    """A running nginx, and a client that trusts its authority and finds its hosts."""

    def __init__(self, folder: Path, http_port: int, https_port: int) -> None:
        self.folder, self.http_port, self.https_port = folder, http_port, https_port
        self.trust = ssl.create_default_context(cafile=str(folder / "authority.pem"))

    def client(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=self.trust, resolver=Loopback())
        return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60))

    def url(self, host: str, path: str) -> str:
        return f"https://{host}.{DOMAIN}:{self.https_port}{path}"


class Loopback(aiohttp.abc.AbstractResolver):
    async def resolve(self, host, port=0, family=0):
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        """Nothing is held."""


def issue_certificate(folder: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "DOMAIN": DOMAIN, "MODE": "local", "CERTIFICATES": str(folder)}
    script = ["sh", str(DEPLOY / "certbot" / "certificates.sh"), "once"]
    subprocess.run(script, env=environment, check=True, capture_output=True, timeout=60)


def check(folder: Path) -> None:
    """nginx's own opinion of its configuration."""
    command = [PROGRAM, "-t", "-c", str(folder / "nginx.conf")]
    tested = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert tested.returncode == 0, tested.stderr
    assert "[warn]" not in tested.stderr


def listening(port: int):
    async def find() -> bool | None:
        return await asyncio.to_thread(accepts, port) or None

    return find


def render(folder: Path, gateway: str, http_port: int, https_port: int) -> None:
    issue_certificate(folder)
    # As the image's envsubst: what is not in the environment is nginx's own.
    values = {
        "DOMAIN": DOMAIN,
        "RESOLVER": "127.0.0.1",
        "GATEWAY": gateway,
        "CERTIFICATES": str(folder),
        "WEBROOT": str(folder / "acme"),
        "INCLUDES": str(folder),
        "HTTP_PORT": f"127.0.0.1:{http_port}",
        "HTTPS_PORT": f"127.0.0.1:{https_port}",
    }
    for template in (DEPLOY / "nginx" / "templates").glob("*.template"):
        text = string.Template(template.read_text(encoding="utf-8")).safe_substitute(values)
        (folder / template.stem).write_text(text, encoding="utf-8")
    # Workers of root's nginx would change to an account that cannot read the folders of tests.
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder, user=user), encoding="utf-8")


@pytest.fixture(scope="module")
async def edge(product, tmp_path_factory):
    if PROGRAM is None:
        if os.environ.get("CI"):
            pytest.fail("nginx is not installed")
        pytest.skip("nginx is not installed")
    folder, claims = tmp_path_factory.mktemp("nginx"), PortClaims()
    challenge = folder / "acme" / ".well-known" / "acme-challenge"
    challenge.mkdir(parents=True)
    (challenge / "t0ken").write_text("t0ken.proof")
    http_port, https_port = claims.claim(), claims.claim()
    await asyncio.to_thread(render, folder, product.address("gateway"), http_port, https_port)
    await asyncio.to_thread(check, folder)
    process = await asyncio.create_subprocess_exec(
        PROGRAM, "-c", str(folder / "nginx.conf"), stdout=asyncio.subprocess.DEVNULL
    )
    try:
        await until(listening(https_port), "nginx listens")
        yield Edge(folder, http_port, https_port)
    finally:
        process.send_signal(signal.SIGQUIT)
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()
        claims.release()


async def test_the_api_answers_under_its_name_by_tls_with_our_certificate(edge) -> None:
    async with edge.client() as client, client.get(edge.url("api", "/openapi.json")) as answer:
        assert answer.status == 200
        assert "max-age=" in answer.headers["Strict-Transport-Security"]
        assert (await answer.json())["openapi"].startswith("3.")


async def test_plain_http_is_sent_to_https_except_for_the_challenge_of_certificates(edge) -> None:
    plain = f"http://127.0.0.1:{edge.http_port}"
    host = {"Host": f"api.{DOMAIN}"}
    async with edge.client() as client:
        async with client.get(f"{plain}/docs?x=1", headers=host, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (308, f"https://api.{DOMAIN}/docs?x=1")
        async with client.get(f"{plain}/.well-known/acme-challenge/t0ken", headers=host) as answer:
            assert (answer.status, await answer.text()) == (200, "t0ken.proof")


async def test_a_name_that_is_not_ours_gets_no_certificate(edge) -> None:
    with pytest.raises(ssl.SSLError):
        async with asyncio.timeout(30):
            await asyncio.open_connection(
                "127.0.0.1", edge.https_port, ssl=edge.trust, server_hostname="elsewhere.example"
            )


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
@pytest.mark.parametrize("host", ["api", "app", "admin"])
async def test_what_is_for_the_machine_is_not_shown_to_the_world(edge, host, path) -> None:
    async with edge.client() as client, client.get(edge.url(host, path)) as answer:
        assert answer.status == 404
        assert "aerostic_" not in await answer.text()


@pytest.mark.parametrize("host", ["app", "admin"])
async def test_pages_of_people_have_the_api_under_their_own_origin_and_nothing_of_machines(edge, shop, host) -> None:
    bearer = {"Authorization": f"Bearer {shop.token}"}
    async with edge.client() as client:
        async with client.get(edge.url(host, "/v1/conversations"), headers=bearer) as answer:
            assert answer.status == 200
        async with client.post(edge.url(host, "/webhooks/meta"), data=b"{}") as answer:
            assert answer.status == 404


async def test_an_event_of_the_live_stream_leaves_nginx_at_once(edge, shop) -> None:
    bearer = {"Authorization": f"Bearer {shop.token}"}
    async with edge.client() as client, client.get(edge.url("api", "/v1/stream"), headers=bearer) as stream:
        assert stream.status == 200
        assert stream.content_type == "text/event-stream"
        await shop.customer_writes("16505550100", "through nginx")
        async with asyncio.timeout(30):
            async for line in stream.content:
                if b"received" in line:
                    return
    pytest.fail("the stream ended")


async def test_webhooks_reach_the_ingest_byte_by_byte(edge, product) -> None:
    settings = product.settings
    query = {
        "hub.mode": "subscribe",
        "hub.challenge": "31337",
        "hub.verify_token": settings["AEROSTIC_META_VERIFY_TOKEN"],
    }
    async with edge.client() as client:
        async with client.get(edge.url("api", "/webhooks/meta"), params=query) as answer:
            assert (answer.status, await answer.text()) == (200, "31337")
        unsigned = b'{"object": "whatsapp_business_account", "entry": []}'
        async with client.post(edge.url("api", "/webhooks/meta"), data=unsigned) as answer:
            assert answer.status == 401


async def test_guessing_passwords_is_slowed_down_before_it_reaches_us(edge) -> None:
    async with edge.client() as client:

        async def guess() -> int:
            body = {"email": "nobody@aerostic.example", "password": "a guess"}
            async with client.get(edge.url("api", "/v1/auth/nowhere"), params=body) as answer:
                await answer.read()
                return answer.status

        # So many that those which a slow machine takes half a minute for are too many too.
        answers = await asyncio.gather(*(guess() for _ in range(200)))
    assert answers.count(429) > 10
    assert answers.count(404) > 10


async def test_nginx_takes_a_renewed_certificate_without_a_restart(edge) -> None:
    async def served() -> bytes:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", edge.https_port, ssl=edge.trust, server_hostname=f"api.{DOMAIN}"
        )
        certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return certificate

    first = await served()
    (edge.folder / "fullchain.pem").write_bytes(b"")
    await asyncio.to_thread(issue_certificate, edge.folder)
    os.kill(int((edge.folder / "nginx.pid").read_text()), signal.SIGHUP)

    async def changed() -> bool | None:
        return await served() != first or None

    await until(changed, "nginx serves the renewed certificate")
