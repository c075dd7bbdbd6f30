"""Where the programs come from, and what is said where they cannot be had."""

import stat

import pytest

from devkube import engine, pytest_plugin


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A machine on which nothing was built."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def go(elsewhere, monkeypatch):
    """A Go that does as told: fails at one of its verbs."""

    def fail_at(verb: str, words: str) -> None:
        program = elsewhere / "bin" / "go"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\n[ "$1" != {verb} ] || {{ echo "{words}" >&2; exit 1; }}\n')
        program.chmod(program.stat().st_mode | stat.S_IEXEC)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")

    return fail_at


def test_a_machine_without_go_is_told_so(elsewhere, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(elsewhere))
    monkeypatch.setattr(engine, "_GO_PLACES", ())
    with pytest.raises(engine.EngineMissing, match="Go is not installed"):
        engine.build()


def test_modules_out_of_reach_are_told_from_a_build_that_fails(go) -> None:
    go("list", "dial tcp: no route to host")
    with pytest.raises(engine.EngineMissing, match="no route to host"):
        engine.build()


def test_a_build_that_fails_is_no_missing_module(go) -> None:
    go("test", "undefined: etcdmain")
    with pytest.raises(engine.BuildFailed, match="undefined: etcdmain"):
        engine.build()
    assert not engine.is_built()


def test_each_version_of_the_sources_has_a_folder_of_its_own(elsewhere, tmp_path, monkeypatch) -> None:
    known = engine.folder()
    assert known.is_relative_to(elsewhere)
    copy = tmp_path / "engine"
    copy.mkdir()
    for source in engine.SOURCE.iterdir():
        (copy / source.name).write_bytes(source.read_bytes())
    monkeypatch.setattr(engine, "SOURCE", copy)
    assert engine.folder() == known
    (copy / "go.sum").write_text("other modules")
    assert engine.folder() != known


async def test_tests_without_programs_are_skipped_on_a_desk_and_fail_in_ci(elsewhere, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(elsewhere))
    monkeypatch.setattr(engine, "_GO_PLACES", ())
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="NOT TESTED on a Kubernetes API server: Go is not installed"):
        await pytest_plugin.require_engine()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(engine.EngineMissing):
        await pytest_plugin.require_engine()
