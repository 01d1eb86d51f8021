"""Which gateway is meant, and what is shown to it."""

from __future__ import annotations

import stat
from pathlib import Path

import httpx2
import pytest

from events.errors import InvalidInputError
from services.cli import credentials
from services.cli.api import Api
from services.cli.credentials import DEFAULT_URL, Login

HOME = "https://wireloom.example.org:7480"
TOKEN, OTHER = "wla_" + "a" * 52, "wla_" + "b" * 52
BOOTSTRAP = "wlb_" + "c" * 52


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of whoever runs the tests."""
    for name in ("WIRELOOM_URL", "WIRELOOM_TOKEN", "WIRELOOM_CA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_without_a_login_it_is_this_machines_gateway_without_authorisation() -> None:
    assert credentials.chosen(None) == Login(DEFAULT_URL)


def test_a_login_is_kept_for_its_owner_alone_and_shows_no_token() -> None:
    login = Login(HOME, TOKEN, "PEM")
    credentials.store(login)
    assert credentials.stored() == login
    assert stat.S_IMODE(credentials.path().stat().st_mode) == 0o600
    assert stat.S_IMODE(credentials.path().parent.stat().st_mode) == 0o700
    assert [path.name for path in credentials.path().parent.iterdir()] == ["login.json"]
    assert TOKEN not in repr(login)
    assert credentials.forget()
    assert credentials.stored() is None
    assert not credentials.forget()


def test_a_folder_of_others_is_closed_to_them(tmp_path: Path) -> None:
    folder = tmp_path / "config" / "wireloom"
    folder.mkdir(mode=0o755, parents=True)
    credentials.store(Login(HOME, TOKEN))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("url", [None, HOME, HOME + "/", "https://WIRELOOM.example.org:7480"])
def test_a_login_is_shown_to_its_own_gateway(url: str | None) -> None:
    credentials.store(Login(HOME, TOKEN, "PEM"))
    login = credentials.chosen(url)
    assert (login.token, login.ca) == (TOKEN, "PEM")


@pytest.mark.parametrize(
    "url",
    [
        "http://wireloom.example.org:7480",
        "https://wireloom.example.org",
        "https://wireloom.example.org:7481",
        "https://wireloom.example.org.evil.test:7480",
        "https://evil.test:7480/wireloom.example.org:7480",
    ],
)
def test_a_login_is_shown_to_no_other(url: str) -> None:
    credentials.store(Login(HOME, TOKEN, "PEM"))
    assert credentials.chosen(url) == Login(url)


def test_the_environment_counts_before_the_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    credentials.store(Login(HOME, TOKEN, "PEM"))
    monkeypatch.setenv("WIRELOOM_TOKEN", OTHER)
    assert credentials.chosen(None) == Login(HOME, OTHER, "PEM")
    assert credentials.chosen("https://other.example.org") == Login("https://other.example.org", OTHER)
    (tmp_path / "ca.pem").write_text("other PEM")
    monkeypatch.setenv("WIRELOOM_CA", str(tmp_path / "ca.pem"))
    assert credentials.chosen(None) == Login(HOME, OTHER, "other PEM")
    credentials.path().write_text("damaged")
    assert credentials.chosen(HOME).token == OTHER
    with pytest.raises(InvalidInputError, match="cannot be read"):
        credentials.chosen(None)


@pytest.mark.parametrize("url", ["http://192.0.2.1:7480", "http://wireloom.example.org"])
def test_no_token_goes_over_a_network_in_the_clear(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials.store(Login(url, TOKEN))
    with pytest.raises(InvalidInputError, match="in the clear") as refusal:
        credentials.chosen(None)
    assert TOKEN not in str(refusal.value)
    credentials.forget()
    assert credentials.chosen(url) == Login(url)
    monkeypatch.setenv("WIRELOOM_TOKEN", TOKEN)
    with pytest.raises(InvalidInputError, match="in the clear"):
        credentials.chosen(url)
    for loopback in ("http://127.0.0.1:7480", "http://[::1]:7480", "http://localhost:7480"):
        assert credentials.chosen(loopback).token == TOKEN


@pytest.mark.parametrize("token", [BOOTSTRAP, "hunter2", TOKEN + "\r\nX-Evil: 1", TOKEN.upper()])
def test_what_is_no_api_token_is_refused_and_not_repeated(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIRELOOM_TOKEN", token)
    with pytest.raises(InvalidInputError) as refusal:
        credentials.chosen(None)
    assert token not in str(refusal.value)


def test_an_authority_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WIRELOOM_CA", str(tmp_path / "none.pem"))
    with pytest.raises(InvalidInputError, match="cannot be read"):
        credentials.chosen(None)
    with pytest.raises(InvalidInputError, match="not a certificate"):
        Api(HOME, "cli:me", ca="none")


def test_an_address_with_a_password_is_refused_without_it() -> None:
    with pytest.raises(InvalidInputError) as refusal:
        credentials.chosen("https://alice:hunter2@wireloom.example.org")
    assert "hunter2" not in str(refusal.value)


def test_a_token_does_not_follow_a_redirect() -> None:
    asked: list[httpx2.Request] = []

    def elsewhere(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(307, headers={"Location": "https://evil.test/"})

    with Api(HOME, "cli:me", httpx2.MockTransport(elsewhere), token=TOKEN) as api:
        for ask in (lambda: api.get("/x"), lambda: api.change("POST", "/x", {}), lambda: list(api.follow("/x", 0))):
            with pytest.raises(Exception, match="not a Wireloom gateway"):
                ask()
    assert {request.url.host for request in asked} == {"wireloom.example.org"}
    assert all(request.headers["Authorization"] == f"Bearer {TOKEN}" for request in asked)
