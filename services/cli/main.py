"""The composition root of the `wireloom` program: its commands, and how errors become exit codes."""

from __future__ import annotations

import sys

import typer

from events.errors import WireloomError
from services.cli.moments import At, look_back
from services.cli.parts import Part, group_of
from services.cli.session import console

_EXIT_CODES = (
    "Exit codes: 0 done; 1 Wireloom failed, or you said no; 2 the request is not valid; 3 there is no such thing; "
    "4 it does not fit the present state; 5 a part of the control plane does not answer; "
    "6 you are not signed in, or may not do this; 130 interrupted."
)

_CONTROL_PLANE = "Control plane"
_MESH = "Networks and machines"
_ROUTING = "Routing"
_ACCESS = "Access"

_PARTS = (
    Part("up", _CONTROL_PLANE, "up:up"),
    Part("serve", _CONTROL_PLANE, "serve:serve"),
    Part("status", _CONTROL_PLANE, "status:status"),
    Part(
        "network",
        _MESH,
        "networks:app",
        (("reflectors", "crossings:reflectors"), ("status", "convergence:network_status")),
    ),
    Part("machine", _MESH, "machines:app", (("gateway", "crossings:gateway"),)),
    Part("path", _MESH, "paths:path"),
    Part("diff", _MESH, "diff:diff"),
    Part("why", _MESH, "why:app"),
    Part("ledger", _MESH, "ledger:ledger"),
    Part(
        "log",
        _MESH,
        "log:app",
        (
            ("verify", "verify:verify"),
            ("checkpoint", "verify:checkpoint"),
            ("export", "archive:export"),
            ("import", "archive:import_"),
            ("forget", "archive:forget"),
        ),
    ),
    Part("undo", _MESH, "undo:undo"),
    Part("route", _ROUTING, "routes:app"),
    Part("vip", _ROUTING, "vips:app"),
    Part("policy", _ROUTING, "policies:app"),
    Part("bgp", _ROUTING, "bgp:app"),
    Part("token", _MESH, "tokens:app"),
    Part("login", _ACCESS, "login:login"),
    Part("logout", _ACCESS, "login:logout"),
    Part("whoami", _ACCESS, "login:whoami"),
    Part("account", _ACCESS, "accounts:app", (("recover", "first:recover"),)),
    Part("key", _CONTROL_PLANE, "keys:app"),
    Part("identity", _CONTROL_PLANE, "export:app"),
    Part("version", _CONTROL_PLANE, "status:version"),
)

app = typer.Typer(
    name="wireloom",
    cls=group_of(_PARTS),
    help="Encrypted WireGuard mesh networks between your machines: run the control plane, and tell it what you want.",
    epilog=_EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _wireloom(context: typer.Context, at: At = None) -> None:
    look_back(context, at)


def run() -> None:
    """Run the program with the arguments of this process, and end the process."""
    try:
        app()
    except WireloomError as error:
        show_error(error)
        sys.exit(error.exit_code)


def show_error(error: WireloomError) -> None:
    """Tell the person what was wrong and what would be right."""
    err = console(stderr=True)
    err.print("[bold red]error:[/] ", end="", markup=True)
    err.print(error.detail, soft_wrap=True)
    if error.hint:
        err.print(error.hint, soft_wrap=True)
