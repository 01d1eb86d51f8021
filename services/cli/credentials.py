"""Which gateway is meant, and what is shown to it: the environment's, or what `wireloom login` stored. A shell.

A stored token is for the gateway it was given to, and no other; no token goes over a network in the clear.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import orjson

from events.errors import InvalidInputError
from events.trust.tokens import looks_like
from services.cli.address import checked_url, is_loopback, origin
from services.cli.private import write_private

DEFAULT_URL = "http://127.0.0.1:7480"
"""Where a gateway without authorisation is."""


@dataclass(frozen=True, slots=True)
class Login:
    """A gateway, the token that it gave, and the certificate authority (PEM) that it is known by, if it has its own."""

    url: str
    token: str = field(default="", repr=False)
    ca: str = ""


def path() -> Path:
    """Where the login is stored."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    folder = Path(base) if base.startswith("/") else Path.home() / ".config"
    return folder / "wireloom" / "login.json"


def stored() -> Login | None:
    """What was stored, if anything. Raises `InvalidInputError` where it cannot be read."""
    try:
        document = orjson.loads(path().read_bytes())
        return Login(str(document["url"]), str(document["token"]), str(document["ca"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(
            f"What was stored at sign-in, {path()}, cannot be read.", hint="Sign in again: wireloom login URL"
        ) from error


def store(login: Login) -> None:
    """Store a login in place of the one before, readable by this user alone. Raises `InvalidInputError`."""
    document = {"url": login.url, "token": login.token, "ca": login.ca}
    try:
        path().parent.parent.mkdir(parents=True, exist_ok=True)
        path().parent.mkdir(mode=0o700, exist_ok=True)
        path().parent.chmod(0o700)
        write_private(path(), orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    except OSError as error:
        raise InvalidInputError(
            f"{path()} cannot be written: {error.strerror}.", hint="Give another folder in XDG_CONFIG_HOME."
        ) from error


def forget() -> bool:
    """Remove what was stored. Tells whether there was anything. Raises `InvalidInputError`."""
    try:
        path().unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise InvalidInputError(f"{path()} cannot be removed: {error.strerror}.") from error
    return True


def chosen(url: str | None) -> Login:
    """The gateway to talk to and what to show it: `url` if given, else the one signed in to, else this machine's own.

    WIRELOOM_TOKEN and WIRELOOM_CA count before what was stored. Raises `InvalidInputError`.
    """
    given, known = token_given(), _stored_unless(url, token_given())
    target = checked_url(url or (known.url if known else DEFAULT_URL))
    same = known is not None and origin(known.url) == origin(target)
    login = Login(
        target,
        given or (known.token if known and same else ""),
        authority_given() or (known.ca if known and same else ""),
    )
    if login.token:
        refuse_clear_text(login.url)
    return login


def refuse_clear_text(url: str) -> None:
    """Raises `InvalidInputError` where a token would go over a network in the clear."""
    if httpx2.URL(url).scheme != "https" and not is_loopback(url):
        raise InvalidInputError(
            f"A token is not sent to {url} in the clear.", hint="Give the gateway's https address.", field="url"
        )


def token_given() -> str:
    """The token in WIRELOOM_TOKEN, if any. Raises `InvalidInputError` where it cannot be one."""
    token = os.environ.get("WIRELOOM_TOKEN", "").strip()
    return checked_token(token, "WIRELOOM_TOKEN") if token else ""


def authority_given() -> str:
    """The certificates in the file that WIRELOOM_CA names, if any. Raises `InvalidInputError`."""
    name = os.environ.get("WIRELOOM_CA", "")
    if not name:
        return ""
    try:
        return Path(name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InvalidInputError(
            f"The certificate authority {name} cannot be read: {why}.", hint="Give a PEM file in WIRELOOM_CA."
        ) from error


def checked_token(token: str, source: str) -> str:
    """`token`, if it has the form of one that speaks for an account. Raises `InvalidInputError`, without the token."""
    if looks_like(token, "api"):
        return token
    if looks_like(token, "bootstrap"):
        raise InvalidInputError(
            f"{source} holds a bootstrap token: that lets machines in, and speaks for nobody.",
            hint="An API token starts with wla_.",
        )
    raise InvalidInputError(f"{source} holds no API token.", hint="One is wla_ and 52 letters and digits.")


def _stored_unless(url: str | None, token: str) -> Login | None:
    """A damaged file is nobody's trouble where everything was given."""
    try:
        return stored()
    except InvalidInputError:
        if url and token:
            return None
        raise
