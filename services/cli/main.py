"""The composition root of the `wireloom` program: its commands, and how errors become exit codes."""

from __future__ import annotations

import inspect
import sys

import typer

from events.errors import WireloomError
from services.cli import (
    accounts,
    archive,
    bgp,
    convergence,
    crossings,
    diff,
    export,
    first,
    keys,
    ledger,
    log,
    login,
    machines,
    moments,
    networks,
    paths,
    policies,
    routes,
    serve,
    status,
    tokens,
    undo,
    up,
    verify,
    vips,
    why,
)
from services.cli.moments import At, look_back
from services.cli.session import console

_EXIT_CODES = (
    "Exit codes: 0 done; 1 Wireloom failed, or you said no; 2 the request is not valid; 3 there is no such thing; "
    "4 it does not fit the present state; 5 a part of the control plane does not answer; "
    "6 you are not signed in, or may not do this; 130 interrupted."
)

app = typer.Typer(
    name="wireloom",
    help="Encrypted WireGuard mesh networks between your machines: run the control plane, and tell it what you want.",
    epilog=_EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _wireloom(context: typer.Context, at: At = None) -> None:
    look_back(context, at)


app.command(rich_help_panel="Control plane")(up.up)
app.command(rich_help_panel="Control plane")(serve.serve)
app.command(rich_help_panel="Control plane")(status.status)
app.add_typer(networks.app, name="network", rich_help_panel="Networks and machines")
app.add_typer(machines.app, name="machine", rich_help_panel="Networks and machines")
app.command(rich_help_panel="Networks and machines")(paths.path)
app.command(rich_help_panel="Networks and machines")(diff.diff)
app.add_typer(why.app, name="why", rich_help_panel="Networks and machines")
app.command(rich_help_panel="Networks and machines")(ledger.ledger)
app.add_typer(log.app, name="log", rich_help_panel="Networks and machines")
app.command(rich_help_panel="Networks and machines")(undo.undo)
log.app.command()(verify.verify)
log.app.command()(verify.checkpoint)
log.app.command()(archive.export)
log.app.command("import")(archive.import_)
log.app.command()(archive.forget)
app.add_typer(routes.app, name="route", rich_help_panel="Routing")
app.add_typer(vips.app, name="vip", rich_help_panel="Routing")
app.add_typer(policies.app, name="policy", rich_help_panel="Routing")
app.add_typer(bgp.app, name="bgp", rich_help_panel="Routing")
machines.app.command("gateway")(crossings.gateway)
networks.app.command("reflectors")(crossings.reflectors)
networks.app.command("status")(convergence.network_status)
app.add_typer(tokens.app, name="token", rich_help_panel="Networks and machines")
app.command(rich_help_panel="Access")(login.login)
app.command(rich_help_panel="Access")(login.logout)
app.command(rich_help_panel="Access")(login.whoami)
app.add_typer(accounts.app, name="account", rich_help_panel="Access")
accounts.app.command()(first.recover)
app.add_typer(keys.app, name="key", rich_help_panel="Control plane")
app.add_typer(export.app, name="identity", rich_help_panel="Control plane")
app.command(rich_help_panel="Control plane")(status.version)


def _prepare(group: typer.Typer) -> None:
    """What all commands have: they know where `--at` stands, and each paragraph of their help wraps at the terminal's
    width, not where the docstring's lines end."""
    for command in group.registered_commands:
        text = inspect.cleandoc(command.help or (command.callback and command.callback.__doc__) or "")
        command.cls = moments.Command
        command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
    for part in group.registered_groups:
        if part.typer_instance is not None:
            _prepare(part.typer_instance)


_prepare(app)


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
