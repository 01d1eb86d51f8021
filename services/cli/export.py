"""`wireloom identity`: an identity for a bus of several servers, and what each server and service needs of it.

`wireloom up` with its own bus needs none of this.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from events.errors import InvalidInputError
from events.identity import Identity
from services.cli import identity as identities
from services.cli.certificates import Authority, server_certificate
from services.cli.identity import server_security
from services.cli.plan import is_host
from services.cli.private import write_private

app = typer.Typer(help="The keys of a control plane whose bus is a cluster of its own.", no_args_is_help=True)

SERVICES: Mapping[str, tuple[str, ...]] = {
    "allocator": ("creds/allocator.creds",),
    "topology": ("creds/topology.creds", "keys/records.seed"),
    "gateway": (
        "ring.json",
        "creds/gateway.creds",
        "creds/keeper.creds",
        "tls/https.pem",
        "tls/https.key",
        "keys/signing.seed",
        "keys/machine.seed",
        "keys/program.seed",
        "keys/mint",
    ),
}
"""The files that each service reads, besides those that all do."""

ALL_READ = ("identity.json", "tls/ca.pem")
CONTROL = tuple(
    dict.fromkeys((*ALL_READ, *(file for files in SERVICES.values() for file in files), "creds/console.creds"))
)
"""What `wireloom up` needs on a machine that shall not be able to rotate keys or make certificates."""

_SERVER = re.compile(r"[A-Za-z0-9_-]{1,64}")

_ROUTES = """\
# Written by `wireloom identity export`; cluster.conf includes it. The servers show each other their certificates.
tls {
  cert_file: $WIRELOOM_NATS_CERT
  key_file: $WIRELOOM_NATS_KEY
  ca_file: $WIRELOOM_NATS_CA
  verify: true
  min_version: "1.2"
  timeout: 5
}
"""


@app.command()
def create(
    *,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that does not exist yet.")],
    host: Annotated[
        list[str],
        typer.Option(help="A name or address by which machines and people reach the gateway; may be repeated."),
    ],
) -> None:
    """Make an identity: the keys of a control plane, its services and its certificate authority."""
    _check_hosts(host)
    if folder.exists():
        raise InvalidInputError(f"{folder} exists already.", hint="Give a folder that does not.", field="folder")
    identities.create(folder.absolute(), ["127.0.0.1", "::1", "localhost", *host])
    typer.echo(f"Made an identity in {folder}. Keep it secret, and a copy of it safe: it cannot be made again.")


@app.command()
def export(
    *,
    identity: Annotated[Path, typer.Argument(metavar="IDENTITY", help="The identity's folder.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder that does not exist yet.")],
    server: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=HOST[,HOST…]", help="A server of the bus, and the names or addresses that it has; repeated."
        ),
    ],
) -> None:
    """Write what each server of the bus and each service needs of an identity, and no more, to folders of their own.

    Do it again once a year, and restart the servers: their certificates count 397 days.
    """
    servers = _servers(server)
    if out.exists():
        raise InvalidInputError(f"{out} exists already.", hint="Give a folder that does not.", field="out")
    written = write_export(Identity(identity.absolute()), out.absolute(), servers)
    for path, what in written.items():
        typer.echo(f"{path}  {what}")


def write_export(identity: Identity, out: Path, servers: Mapping[str, list[str]]) -> dict[Path, str]:
    """The export of an identity, there whole or not at all; the folders and what each is for.

    Raises `InvalidInputError` where it cannot be written, `IdentityError` where the identity lacks something.
    """
    draft = out.with_name(out.name + ".new")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(mode=0o700, parents=True)
        for name, hosts in servers.items():
            _write_server(identity, draft / "servers" / name, name, hosts)
        _copy(identity, draft / "control", CONTROL)
        for service, files in SERVICES.items():
            _copy(identity, draft / "services" / service, (*ALL_READ, *files))
        draft.rename(out)
    except OSError as error:
        raise InvalidInputError(f"The export to {out} failed: {error.filename}: {error.strerror}.") from error
    return (
        {out / "servers" / name: f"for the bus server {name} ({', '.join(hosts)})" for name, hosts in servers.items()}
        | {out / "control": "for a machine that runs `wireloom up --nats-url … --identity …`"}
        | {out / "services" / service: f"for `wireloom serve {service}` alone" for service in SERVICES}
    )


def _write_server(identity: Identity, folder: Path, name: str, hosts: list[str]) -> None:
    authority = Authority(identity.ca(), (identity.folder / "tls" / "ca.key").read_text())
    certificate, key = server_certificate(authority, hosts, mutual=True)
    paths = ("$WIRELOOM_NATS_ACCOUNTS", "$WIRELOOM_NATS_CERT", "$WIRELOOM_NATS_KEY")
    security = f"# Written by `wireloom identity export` for the server {name}.\n{server_security(identity, *paths)}"
    for file, text in {
        "security.conf": security,
        "routes.conf": _ROUTES,
        "server.pem": certificate,
        "server.key": key,
        "ca.pem": authority.certificate,
    }.items():
        write_private(folder / file, text)


def _copy(identity: Identity, folder: Path, files: Iterable[str]) -> None:
    for file in files:
        write_private(folder / file, (identity.folder / file).read_text())


def _servers(given: list[str]) -> dict[str, list[str]]:
    """The servers by name, each with its hosts. Raises `InvalidInputError`."""
    servers: dict[str, list[str]] = {}
    for text in given:
        name, _, hosts = text.partition("=")
        if not _SERVER.fullmatch(name) or name in servers:
            raise InvalidInputError(
                f"{text!r} does not name a server of its own.",
                hint="Write --server NAME=HOST, each NAME once, of letters, digits, - and _.",
                field="server",
            )
        servers[name] = _check_hosts(hosts.split(","))
    return servers


def _check_hosts(hosts: list[str]) -> list[str]:
    for host in hosts:
        if not is_host(host):
            raise InvalidInputError(f"{host!r} is no host's name or address.", hint="Like nats-1.example.org.")
    return hosts
