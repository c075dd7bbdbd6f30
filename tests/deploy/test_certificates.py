"""Certificates without an authority on the internet: the placeholder, our own authority, renewal."""

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "certbot" / "certificates.sh"
HOSTS = ["app.shop.example", "admin.shop.example", "api.shop.example"]


@pytest.fixture(autouse=True)
def openssl(absent) -> None:
    if not shutil.which("openssl"):
        absent("openssl is not installed")


def run(folder: Path, mode: str) -> str:
    environment = {"PATH": "/usr/bin:/bin", "DOMAIN": "shop.example", "MODE": mode, "CERTIFICATES": str(folder)}
    done = subprocess.run(
        ["sh", str(SCRIPT), "once"], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def leaf(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificates((folder / "fullchain.pem").read_bytes())[0]


def names(certificate: x509.Certificate) -> list[str]:
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return extension.value.get_values_for_type(x509.DNSName)


def test_a_placeholder_lets_nginx_start_and_is_left_alone_afterwards(tmp_path) -> None:
    assert "placeholder" in run(tmp_path, "letsencrypt")
    first = leaf(tmp_path)
    assert names(first) == HOSTS
    assert (tmp_path / "privkey.pem").stat().st_mode & 0o077 == 0
    assert run(tmp_path, "letsencrypt") == ""
    assert leaf(tmp_path) == first


def test_our_own_authority_issues_what_clients_that_trust_it_accept(tmp_path) -> None:
    run(tmp_path, "local")
    authority = x509.load_pem_x509_certificate((tmp_path / "authority.pem").read_bytes())
    certificate = leaf(tmp_path)
    assert names(certificate) == HOSTS
    certificate.verify_directly_issued_by(authority)
    for host in HOSTS:
        assert host in names(certificate)
    assert PolicyBuilder().store(Store([authority]))
    assert certificate.not_valid_after_utc - datetime.now(UTC) > timedelta(days=80)


def test_it_is_renewed_when_a_month_is_left_and_not_before(tmp_path) -> None:
    run(tmp_path, "local")
    first = leaf(tmp_path)
    assert run(tmp_path, "local") == ""
    assert leaf(tmp_path) == first
    soon = subprocess.run(
        [*("openssl", "req", "-x509", "-new", "-key", str(tmp_path / "privkey.pem"), "-days", "20"),
         *("-subj", "/CN=old", "-out", str(tmp_path / "fullchain.pem"))],
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert soon.returncode == 0
    assert "issued" in run(tmp_path, "local")
    assert names(leaf(tmp_path)) == HOSTS
