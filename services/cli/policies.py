"""`wireloom policy …`: what machines take in from the others with BGP, and tell them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from events.errors import InvalidInputError
from services.cli.api import Api, Json
from services.cli.lookup import NETWORKS, item_named, machine_named, network_named
from services.cli.route_tables import policies_table, policy_table, rules_table
from services.cli.routes import Machines, NewName, chosen_machines, machine_names, require_change, separated, uuids_of
from services.cli.rules import HELP, parse_rule, read_rules
from services.cli.session import AsJson, DryRun, Url, Yes, opened

POLICIES = "/api/v1/route-policies"

app = typer.Typer(
    no_args_is_help=True, help="Route policies: ordered rules for the routes that machines take in or announce."
)


class Way(StrEnum):
    """Which routes a policy is for."""

    IMPORT = "import"
    EXPORT = "export"


class Action(StrEnum):
    """What becomes of a route."""

    ACCEPT = "accept"
    REJECT = "reject"


Name = Annotated[str, typer.Argument(metavar="NAME|UUID", help="The route policy.")]
Networks = Annotated[
    list[str] | None,
    typer.Option("--network", "-n", metavar="NAME|UUID", help="A network; several times, or with commas between."),
]
Default = Annotated[Action | None, typer.Option("--default", help="What becomes of a route that no rule matches.")]
LocalPref = Annotated[
    int | None, typer.Option("--local-pref", metavar="N", help="Local preference of all routes, before any rule.")
]
Description = Annotated[str | None, typer.Option("--description", metavar="TEXT", help="What it is good for.")]
Rules = Annotated[list[str] | None, typer.Option("--rule", metavar="RULE", help=HELP)]
RulesFile = Annotated[
    Path | None, typer.Option("--rules", metavar="FILE", help="A JSON file with the rules, as `show --json` has them.")
]


@app.command()
def create(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name that no other route policy has.")],
    direction: Annotated[Way, typer.Option("--direction", "-d", help="For routes taken in, or announced.")],
    rules: Rules = None,
    rules_file: RulesFile = None,
    default: Default = None,
    local_pref: LocalPref = None,
    description: Description = None,
    networks: Networks = None,
    machines: Machines = None,
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Create a route policy, for all machines of some networks or for some machines."""
    with opened(context, url, as_json, dry_run=dry_run) as session:
        body: Json = {"name": name, "direction": direction.value}
        body |= _content(rules, rules_file, default, local_pref, description)
        body |= _targets(session.api, networks, machines)
        made = session.api.change("POST", POLICIES, body)
        count = len(body.get("rules", ()))
        said = f"{count} rule" if count == 1 else f"{count} rules"
        session.say(f"Created route policy {name} for {direction.value} with {said}.")
        if as_json:
            session.json(made)


@app.command("list")
def list_policies(
    context: typer.Context,
    *,
    network: Annotated[
        str | None, typer.Option("--network", "-n", metavar="NAME|UUID", help="Only those for this network.")
    ] = None,
    machine: Annotated[
        str | None, typer.Option("--machine", "-m", metavar="HOSTNAME|UUID", help="Only those for this machine.")
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List the route policies."""
    with opened(context, url, as_json, looks_back=True) as session:
        network_uuid = network_named(session.api, network)["uuid"] if network else None
        machine_uuid = machine_named(session.api, machine)["uuid"] if machine else None
        policies = session.api.all(POLICIES, network_uuid=network_uuid, machine_uuid=machine_uuid)
        if as_json:
            session.json({"items": policies, "total": len(policies)})
        elif policies:
            names = _network_names(session.api, policies), machine_names(session.api, policies)
            session.table(policies_table(policies, *names, session.wide))
        else:
            session.none("There are no such route policies: all routes that are announced are taken in.")


@app.command()
def show(context: typer.Context, policy: Name, url: Url = None, as_json: AsJson = False) -> None:
    """Show a route policy and its rules."""
    with opened(context, url, as_json, looks_back=True) as session:
        found = _policy_named(session.api, policy)
        if as_json:
            session.json(found)
            return
        session.table(policy_table(found, _network_names(session.api, [found]), machine_names(session.api, [found])))
        if found["rules"]:
            session.say("")
            session.table(rules_table(found["rules"]))


@app.command()
def update(
    context: typer.Context,
    *,
    policy: Name,
    name: NewName = None,
    direction: Annotated[
        Way | None, typer.Option("--direction", "-d", help="For routes taken in, or announced.")
    ] = None,
    rules: Rules = None,
    rules_file: RulesFile = None,
    no_rules: Annotated[bool, typer.Option("--no-rules", help="Take all rules out.")] = False,
    default: Default = None,
    local_pref: LocalPref = None,
    no_local_pref: Annotated[bool, typer.Option("--no-local-pref", help="Leave the preference as it is.")] = False,
    description: Description = None,
    networks: Networks = None,
    no_networks: Annotated[bool, typer.Option("--no-networks", help="For no network any more.")] = False,
    machines: Machines = None,
    no_machines: Annotated[bool, typer.Option("--no-machines", help="For no machine any more.")] = False,
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Change a route policy. What is not named stays as it is; rules, networks and machines take the place of those
    that it has."""
    with opened(context, url, as_json, dry_run=dry_run) as session:
        body: Json = {} if name is None else {"name": name}
        body |= {} if direction is None else {"direction": direction.value}
        for is_none, field in (
            (no_rules, {"rules": []}),
            (no_local_pref, {"local_pref": None}),
            (no_networks, {"network_uuids": []}),
            (no_machines, {"machine_uuids": []}),
        ):
            body |= field if is_none else {}
        body |= _content(rules, rules_file, default, local_pref, description)
        body |= _targets(session.api, networks, machines)
        require_change(body)
        found = _policy_named(session.api, policy)
        changed = session.api.change("PATCH", f"{POLICIES}/{found['uuid']}", body)
        session.say(f"Changed route policy {name or found['name']}.")
        if as_json:
            session.json(changed)


@app.command()
def delete(
    context: typer.Context,
    *,
    policy: Name,
    yes: Yes = False,
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Delete a route policy."""
    with opened(context, url, as_json, dry_run=dry_run) as session:
        found = _policy_named(session.api, policy)
        if found["network_uuids"] or found["machine_uuids"]:
            session.agree(f"Route policy {found['name']} is in force; without it, other routes may pass.", yes)
        session.api.change("DELETE", f"{POLICIES}/{found['uuid']}")
        session.say(f"Deleted route policy {found['name']}.")
        if as_json:
            session.json(found)


def _content(
    rules: Sequence[str] | None,
    rules_file: Path | None,
    default: Action | None,
    local_pref: int | None,
    description: str | None,
) -> Json:
    """What was said of a policy's content, as the API takes it. Raises `InvalidInputError`."""
    if rules and rules_file:
        raise InvalidInputError("Both --rule and --rules were given.", hint="Put all rules into one of them.")
    body: Json = {}
    if rules:
        body["rules"] = [parse_rule(rule) for rule in rules]
    if rules_file:
        body["rules"] = read_rules(rules_file)
    body |= {} if default is None else {"default_action": default.value}
    body |= {} if local_pref is None else {"local_pref": local_pref}
    return body | ({} if description is None else {"description": description})


def _targets(api: Api, networks: Sequence[str] | None, machines: Sequence[str] | None) -> Json:
    body: Json = {}
    if networks:
        body["network_uuids"] = uuids_of([network_named(api, text) for text in separated(networks)])
    if machines:
        body["machine_uuids"] = uuids_of(chosen_machines(api, machines))
    return body


def _network_names(api: Api, policies: Sequence[Json]) -> dict[str, str]:
    asked = {uuid for policy in policies for uuid in policy["network_uuids"]}
    known = {network["uuid"]: network["name"] for network in api.all(NETWORKS)} if asked else {}
    return {uuid: known.get(uuid, uuid[:8]) for uuid in asked}


def _policy_named(api: Api, text: str) -> Json:
    return item_named(api, POLICIES, text, "route policy", "wireloom policy list")
