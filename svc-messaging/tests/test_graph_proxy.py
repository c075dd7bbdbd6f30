"""The proxy on the way to Meta, as the environment names it."""

import pytest

from svc_messaging.sender.graph import proxy_for

META = "https://graph.facebook.com/v24.0"


@pytest.fixture(autouse=True)
def environment(monkeypatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def test_without_a_word_there_is_none() -> None:
    assert proxy_for(META) is None


def test_the_one_of_the_scheme_is_taken(monkeypatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    assert proxy_for(META) == "http://proxy:3128"
    assert proxy_for("http://127.0.0.1:8090/v24.0") is None


@pytest.mark.parametrize("excepted", ["graph.facebook.com", ".facebook.com", "*"])
def test_excepted_hosts_are_reached_directly(monkeypatch, excepted) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", excepted)
    assert proxy_for(META) is None
