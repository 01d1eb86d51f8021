"""How a gateway may be set up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from events.errors import InvalidInputError
from services.gateway.settings import Settings


@pytest.mark.parametrize("host", ["127.0.0.1", "127.5.6.7", "::1", "localhost"])
def test_an_open_gateway_listens_on_loopback(host: str) -> None:
    assert Settings(host=host).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "", "127.0.0.1.example.org"])
def test_only_with_an_identity_it_listens_elsewhere(host: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="only this machine"):
        Settings(host=host)
    assert Settings(host=host, identity=tmp_path, public_url="https://mesh.example.org").host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_who_listens_everywhere_says_where_machines_find_him(host: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="where machines and people find it"):
        Settings(host=host, identity=tmp_path)


def test_without_a_given_certificate_the_identity_has_one(tmp_path: Path) -> None:
    assert Settings().certificate is None
    assert Settings(identity=tmp_path).certificate == (tmp_path / "tls/https.pem", tmp_path / "tls/https.key")
    given: dict[str, Any] = {"tls_cert": Path("a.pem"), "tls_key": Path("a.key")}
    assert Settings(identity=tmp_path, **given).certificate == (Path("a.pem"), Path("a.key"))
    with pytest.raises(InvalidInputError, match="only where it knows"):
        Settings(**given)
    for alone, path in given.items():
        with pytest.raises(InvalidInputError, match="belong together"):
            Settings(identity=tmp_path, **{alone: path})


def test_what_machines_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Settings(nats_url="nats://a:1, nats://b:2", identity=tmp_path, host="::1")
    assert plain.told_bus_urls == ("nats://a:1", "nats://b:2")
    assert plain.told_url(7480) == "https://[::1]:7480"
    assert Settings().told_url(8000) == "http://127.0.0.1:8000"
    monkeypatch.setenv("WIRELOOM_BUS_URLS", "tls://c:1,tls://d:2")
    monkeypatch.setenv("WIRELOOM_PUBLIC_URL", "https://mesh.example.org/")
    monkeypatch.setenv("WIRELOOM_LIMITS", '{"failures": 5}')
    told = Settings(identity=tmp_path)
    assert told.told_bus_urls == ("tls://c:1", "tls://d:2")
    assert told.told_url(7480) == "https://mesh.example.org"
    assert (told.limits.failures, told.limits.seconds) == (5, 60)


@pytest.mark.parametrize("url", ["mesh.example.org", "https://a b", "ftp://a", "https://a\nb", "https://"])
def test_a_public_url_is_one(url: str) -> None:
    with pytest.raises(ValueError, match="public_url"):
        Settings(public_url=url)
