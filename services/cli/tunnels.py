"""`wireloom machine tunnels`: a machine's WireGuard interfaces, with handshakes and traffic."""

from __future__ import annotations

from typing import Annotated

import typer

from services.cli.lookup import MACHINES, machine_named, network_named
from services.cli.revoke import Machine
from services.cli.session import AsJson, Url, opened
from services.cli.tunnel_tables import footnote, tunnel_peers_table, tunnel_title


def tunnels(
    context: typer.Context,
    *,
    machine: Machine,
    network: Annotated[
        str | None, typer.Option("--network", "-n", metavar="NAME|UUID", help="Only its tunnel in this network.")
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show a machine's WireGuard interfaces: their peers, handshakes and traffic. Its agent is asked."""
    with opened(context, url, as_json) as session:
        found = machine_named(session.api, machine)
        only = network_named(session.api, network)["uuid"] if network is not None else None
        told = session.api.get(f"{MACHINES}/{found['uuid']}/tunnels", mesh_network_uuid=only)
        if as_json:
            session.json(told)
            return
        for tunnel in told["tunnels"]:
            session.out.print(tunnel_title(tunnel), soft_wrap=True)
            if tunnel["peers"]:
                session.table(tunnel_peers_table(tunnel["peers"], told["read_at"]))
            elif tunnel["state"] in {"up", "down"}:
                session.say("It has no peers.")
            session.say("")
        if told["tunnels"]:
            session.say(footnote(told))
        elif network is not None:
            session.say(f"{found['hostname']} has no tunnel in {network}.")
        else:
            session.say(f"{found['hostname']} is in no network. Assign it to one with `wireloom machine assign`.")
