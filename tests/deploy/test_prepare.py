"""What one server needs before its first start: folders that each container can use, and nobody else."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Accounts that images write with.
POSTGRES = "999:999"
PROCESSES = "10001:10001"
# Owners can only be changed by root: what would be changed is written down instead.
CHOWN = """\
#!/bin/sh
case $1 in -R) shift ;; esac
owner=$1
shift
for path in "$@"; do echo "$owner $path" >> "$OWNERS"; done
"""


class Machine:
    """A folder that stands for a server's root, and a program of ours for docker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        programs = folder / "bin"
        programs.mkdir()
        (programs / "docker").write_text("#!/bin/sh\n")
        (programs / "chown").write_text(CHOWN)
        for program in programs.iterdir():
            program.chmod(0o755)
        self.repository = folder / "aerostic"
        shutil.copytree(ROOT / "deploy" / "compose", self.repository / "deploy" / "compose")
        secrets = folder / "etc" / "secrets" / "all"
        secrets.mkdir(parents=True)
        (secrets / "AEROSTIC_META_APP_SECRET").write_text("s3cret")

    def prepare(self) -> None:
        environment = {
            "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin",
            "OWNERS": str(self.folder / "owners"),
            "IMAGE_REPOSITORY": "registry.example/aerostic",
            "IMAGE_TAG": "2.0.0",
            "CONFIG_FOLDER": str(self.folder / "etc"),
            "DATA_FOLDER": str(self.folder / "data"),
            "BACKUP_FOLDER": str(self.folder / "backups"),
        }
        script = ["sh", str(self.repository / "deploy" / "compose" / "prepare.sh")]
        done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr

    @property
    def owners(self) -> dict[Path, str]:
        lines = (self.folder / "owners").read_text().splitlines()
        return {Path(path): owner for owner, path in (line.split(" ", 1) for line in lines)}

    def mode(self, name: str) -> int:
        return (self.folder / name).stat().st_mode & 0o777


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path)


def test_accounts_of_containers_own_the_folders_that_they_write_to(machine) -> None:
    machine.prepare()
    assert machine.owners == {
        machine.folder / "data" / "postgres": POSTGRES,
        machine.folder / "etc" / "secrets": PROCESSES,
        machine.folder / "backups": PROCESSES,
    }


@pytest.mark.parametrize("name", ["data/postgres", "data/nats", "data/letsencrypt", "data/certificates", "backups"])
def test_a_folder_with_data_is_closed_to_others(machine, name) -> None:
    machine.prepare()
    assert machine.mode(name) == 0o700


def test_containers_reach_their_folders_and_challenges_are_public(machine) -> None:
    machine.prepare()
    assert machine.mode("data") == 0o755
    assert machine.mode("data/acme") == 0o755


def test_a_second_run_repairs_an_owner_and_keeps_what_was_chosen(machine) -> None:
    machine.prepare()
    settings = machine.folder / "etc" / "settings.env"
    settings.write_text("AEROSTIC_LOG_LEVEL=debug\n")
    (machine.folder / "owners").unlink()
    machine.prepare()
    assert machine.owners[machine.folder / "data" / "postgres"] == POSTGRES
    assert settings.read_text() == "AEROSTIC_LOG_LEVEL=debug\n"
