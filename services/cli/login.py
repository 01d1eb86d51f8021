"""`wireloom login`, `logout` and `whoami`: who one is to a gateway."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from events.errors import InvalidInputError, UnauthenticatedError
from events.trust.certificates import certificate_fingerprint
from services.cli import credentials, trust
from services.cli.address import checked_url
from services.cli.api import Api, Json
from services.cli.credentials import Login
from services.cli.session import AsJson, Session, Surroundings, Url, console, opened, opened_as, surroundings
from services.cli.tables import end_of, session_table

SESSION = "/api/v1/session"

_LOCAL = "https://127.0.0.1:7480"


def login(
    context: typer.Context,
    *,
    url: Annotated[
        str | None,
        typer.Argument(
            metavar="URL",
            envvar="WIRELOOM_URL",
            help="The gateway's address.",
            show_default=f"the one before, else {_LOCAL}",
        ),
    ] = None,
    ca_sha256: Annotated[
        str | None,
        typer.Option("--ca-sha256", metavar="HEX", help="The fingerprint of its certificate authority: do not ask."),
    ] = None,
    token_stdin: Annotated[bool, typer.Option("--token-stdin", help="Read the token from the standard input.")] = False,
    as_json: AsJson = False,
) -> None:
    """Sign in to a gateway with an API token, which is asked for.

    It is kept in $XDG_CONFIG_HOME/wireloom/login.json, readable by you alone.

    Without a terminal, give the token on the standard input or in WIRELOOM_TOKEN.
    """
    around = surroundings(context)
    target = _target(url)
    credentials.refuse_clear_text(target)
    ca = _authority(target, ca_sha256, around)
    login = Login(target, _token(token_stdin, around), ca)
    with opened_as(login, context, as_json) as session:
        found = session.api.get(SESSION)
        credentials.store(login)
        session.say(f"Signed in to {target} {_who(found)}.")
        if as_json:
            session.json(found)


def logout(
    context: typer.Context,
    *,
    revoke: Annotated[bool, typer.Option("--revoke", help="Revoke the token too: it never counts again.")] = False,
) -> None:
    """Forget the gateway and the token that you are signed in with."""
    out = console()
    login = credentials.stored() if revoke else None
    if login is not None:
        with opened_as(login, context, as_json=False) as session:
            _revoke(session)
    if not credentials.forget():
        out.print("You were not signed in.")
    elif revoke:
        out.print("Signed out, and the token is revoked.")
    else:
        out.print("Signed out. The token still counts until it expires or is revoked: with --revoke it would be.")


def whoami(context: typer.Context, url: Url = None, as_json: AsJson = False) -> None:
    """Show who you are to the gateway, what you may do, and until when."""
    with opened(context, url, as_json) as session:
        found = session.api.get(SESSION)
        if as_json:
            session.json({"url": session.api.url} | found)
        else:
            session.table(session_table(session.api.url, found))


def _revoke(session: Session) -> None:
    try:
        session.api.change("DELETE", SESSION)
    except UnauthenticatedError:
        session.say("The token did not count any more.")


def _target(url: str | None) -> str:
    if url is None:
        known = credentials.stored()
        return known.url if known else _LOCAL
    return checked_url(url if "://" in url else f"https://{url}")


def _authority(url: str, expected: str | None, around: Surroundings) -> str:
    """The certificate authority (PEM) to believe from now on; empty where the system's are enough."""
    wanted = trust.given_fingerprint(expected) if expected else ""
    if not url.startswith("https:"):
        return ""
    if given := credentials.authority_given():
        if wanted:
            given = trust.first_certificate(given)
            _compare(url, given, wanted)
        return given
    if not wanted and _is_believed(url, around):
        return ""
    found = trust.fetch_authority(url, around.transport)
    if wanted:
        _compare(url, found, wanted)
    else:
        _agree(url, found, around)
    return found


def _is_believed(url: str, around: Surroundings) -> bool:
    try:
        with Api(url, "cli:login", around.transport, around.pause) as api:
            api.ready()
    except trust.CertificateError as error:
        if not error.unknown_issuer:
            raise
        return False
    return True


def _compare(url: str, certificate: str, wanted: str) -> None:
    if certificate_fingerprint(certificate) != wanted:
        raise trust.CertificateError(
            f"The certificate authority of {url} has another fingerprint: {certificate_fingerprint(certificate)}.",
            hint="Either the fingerprint was not copied whole, or somebody stands between you and the gateway.",
        )


def _agree(url: str, certificate: str, around: Surroundings) -> None:
    if not around.interactive():
        raise trust.CertificateError(
            f"The certificate of {url} is not one that is believed here, and nobody is there to compare it.",
            hint="Give the fingerprint of its authority with --ca-sha256, or the authority in WIRELOOM_CA.",
        )
    err = console(stderr=True)
    err.print(
        f"The gateway at {url} made its certificate itself. Its authority has this fingerprint (SHA-256):\n"
        f"\n  {certificate_fingerprint(certificate)}\n\n"
        "Compare it with what `wireloom up` said: if it differs, somebody stands between you and the gateway.",
        soft_wrap=True,
    )
    if not typer.confirm("Is it the same?", err=True):
        err.print("You are not signed in, and no token was sent.")
        raise typer.Exit(1)


def _token(from_stdin: bool, around: Surroundings) -> str:
    if from_stdin:
        return credentials.checked_token(sys.stdin.readline().strip(), "The standard input")
    if given := credentials.token_given():
        return given
    if not around.interactive():
        raise InvalidInputError(
            "There is no token to sign in with.",
            hint="Give it on the standard input with --token-stdin, or in WIRELOOM_TOKEN.",
        )
    return credentials.checked_token(around.ask_secret("Token (it does not show): ").strip(), "What was typed")


def _who(session: Json) -> str:
    account = session["account"]
    return f"as {account['name']} with the role {session['role']}, {end_of(session['expires_at'])}"
