"""`make setup` says in one line what is missing on a machine."""

import importlib.util
import os
import subprocess
import sys

import pytest

from devstack.databases import ROOT


@pytest.fixture
def setup(tmp_path, monkeypatch):
    """The script as a module, at work in a folder of its own."""
    spec = importlib.util.spec_from_file_location("aerostic_setup", ROOT / "tools" / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "LOG", tmp_path / "setup.log")
    monkeypatch.setattr(module, "VENV_PYTHON", sys.executable)
    return module


@pytest.mark.parametrize(
    ("output", "meaning"),
    [
        ("ERROR: [Errno 28] No space left on device", "The disk is full"),
        ("error: Failed to write: No space left on device (os error 28)", "The disk is full"),
        (
            "ProxyError('Cannot connect to proxy.', ConnectionRefusedError(111, 'x'))\nNo matching distribution",
            "reached",
        ),
        ("error: Failed to fetch\n  Caused by: dns error: failed to lookup address information", "reached"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", "not the one that was locked"),
        ("error: Hash mismatch for `uv==1`", "not the one that was locked"),
        ("ERROR: No matching distribution found for uv==0.0.0", "lacks a locked version"),
        ("first\nsomething new\n\n", "something new"),
        ("", "it said nothing"),
    ],
)
def test_a_failed_installation_is_explained(setup, output, meaning):
    assert meaning in setup.explain(output)


def test_uv_is_told_what_pip_is_configured_with(setup, monkeypatch, tmp_path):
    configuration = tmp_path / "pip.conf"
    configuration.write_text("[global]\nindex-url = file:///mirror/simple\ncert = /etc/our-ca.pem\n")
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_")) or name == "SSL_CERT_FILE"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(configuration))
    monkeypatch.setenv("PIP_FIND_LINKS", "/wheels")
    expected = {
        "UV_DEFAULT_INDEX": "file:///mirror/simple",
        "SSL_CERT_FILE": "/etc/our-ca.pem",
        "UV_FIND_LINKS": "/wheels",
    }
    assert {name: value for name, value in setup.uv_settings().items() if name in expected} == expected


def test_pip_installs_where_uv_cannot(setup, monkeypatch, tmp_path):
    commands = []

    def run(command, _environment=None):
        commands.append(command)
        if "uv" in command:
            raise setup.SetupFailed("error: Failed to connect")
        return ""

    monkeypatch.setattr(setup, "run", run)
    setup.install_locked(tmp_path / "lock.txt")
    assert commands[-1][1:4] == ["-m", "pip", "install"]
    assert "--require-hashes" in commands[-1]


def test_a_python_without_venv_is_told_which_package_to_install(setup, monkeypatch, tmp_path):
    monkeypatch.setattr(setup, "VENV", tmp_path / "venv")
    monkeypatch.setattr(setup, "VENV_PYTHON", tmp_path / "venv" / "bin" / "python")

    def run(_command, _environment=None):
        raise setup.SetupFailed("The virtual environment was not created because ensurepip is not available.")

    monkeypatch.setattr(setup, "run", run)
    with pytest.raises(setup.SetupFailed, match=rf"apt install python3\.{sys.version_info.minor}-venv"):
        setup.make_venv()


def test_a_full_disk_is_said_before_anything_is_made(setup, monkeypatch, tmp_path):
    monkeypatch.setattr(setup, "VENV", tmp_path / "venv")
    monkeypatch.setattr(setup, "NEEDED_BYTES", 1 << 60)
    with pytest.raises(setup.SetupFailed, match="MB free"):
        setup.install_dependencies()
    assert not (tmp_path / "venv").exists()


def test_an_old_python_is_refused_with_its_version(tmp_path):
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\ncase "$1" in --version) echo Python 3.9.2 ;; *) exit 1 ;; esac\n')
    old.chmod(0o755)
    refused = subprocess.run(
        [ROOT / "tools" / "setup.sh"],
        env={"PATH": os.environ["PATH"], "PYTHON": str(old)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert refused.stderr == (
        "setup: Python 3.11 or later is needed, and this machine says: Python 3.9.2. Name one with make PYTHON=…\n"
    )
