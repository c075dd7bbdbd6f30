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


CERTBOT = """\
#!/bin/sh
echo "$@" >> "$TOLD"
while [ $# -gt 0 ]; do
    case $1 in
        --cert-name) name=$2 ;;
        --config-dir) folder=$2 ;;
        --staging) authority=staging ;;
    esac
    shift
done
[ ! -e "$TOLD.refused" ] || exit 1
live=$folder/live/$name
# As certbot does, it keeps a lineage until it is time.
[ ! -e "$live/fullchain.pem" ] || exit 0
mkdir -p "$live"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$live/privkey.pem" -days 90 \
    -subj "/CN=${authority:-production}" -out "$live/fullchain.pem" 2> /dev/null
"""


class Endless:
    """The script as it runs for ever, up to its first pause, with programs of ours for certbot and sleep."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificates = folder / "certificates"
        self.put_program("certbot", CERTBOT)
        self.put_program("sleep", f'#!/bin/sh\necho "$1" > {folder / "pause"}\nexit 9\n')

    def put_program(self, name: str, text: str) -> None:
        program = self.folder / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)

    def run(self, mode: str) -> subprocess.CompletedProcess:
        environment = {
            "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin",
            "TOLD": str(self.folder / "told"),
            "DOMAIN": "shop.example",
            "EMAIL": "operations@shop.example",
            "MODE": mode,
            "CERTIFICATES": str(self.certificates),
            "LETSENCRYPT": str(self.folder / "letsencrypt"),
        }
        return subprocess.run(
            ["sh", str(SCRIPT)], env=environment, capture_output=True, text=True, check=False, timeout=60
        )

    @property
    def pause(self) -> str:
        return (self.folder / "pause").read_text().strip()

    @property
    def issuer(self) -> str:
        return leaf(self.certificates).subject.rfc4514_string()

    def pair(self) -> tuple[bytes, bytes]:
        return (self.certificates / "privkey.pem").read_bytes(), (self.certificates / "fullchain.pem").read_bytes()


@pytest.fixture
def endless(tmp_path) -> Endless:
    return Endless(tmp_path)


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


def test_what_was_issued_is_put_in_place_and_looked_at_again_after_half_a_day(endless) -> None:
    assert "a new certificate is in place" in endless.run("letsencrypt").stdout
    assert endless.issuer == "CN=production"
    assert endless.pause == "43200"
    assert endless.run("letsencrypt").stdout == ""


def test_a_certbot_that_fails_changes_nothing_and_is_asked_again_in_an_hour(endless) -> None:
    endless.run("letsencrypt")
    before = endless.pair()
    (endless.folder / "told.refused").touch()
    (endless.certificates / "fullchain.pem").write_bytes(before[1] + b"\n")
    refused = endless.run("letsencrypt")
    assert "not issued" in refused.stderr
    assert "in place" not in refused.stdout
    assert endless.pause == "3600"
    assert endless.pair() == (before[0], before[1] + b"\n")


def test_the_rehearsals_certificate_does_not_stay_in_production(endless) -> None:
    endless.run("staging")
    assert endless.issuer == "CN=staging"
    endless.run("letsencrypt")
    assert endless.issuer == "CN=production"
    endless.run("staging")
    assert endless.issuer == "CN=staging"


def test_a_full_disk_leaves_the_old_key_with_the_old_chain(endless) -> None:
    endless.run("staging")
    before = endless.pair()
    # There is room for the key, and none for the chain.
    endless.put_program(
        "cp", '#!/bin/sh\ncase $2 in *.fullchain.new) echo "disk full" >&2; exit 1 ;; esac\nexec /bin/cp "$@"\n'
    )
    full = endless.run("letsencrypt")
    assert "disk full" in full.stderr
    assert endless.pause == "3600"
    assert endless.pair() == before
