"""The API's objects as tables for people. Pure: objects in, Rich tables out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from rich.table import Table
from rich.text import Text

from services.cli.api import Json
from services.cli.harmless import one_line

STAR = "★"
"""Marks the default network."""

NOT_RECORDED = "not recorded"
"""Who was online, of the past."""

SHORT = 8
"""So much of an id tells tokens apart, and is enough to name one."""

TRANSIT = {
    "auto": "auto: others' traffic goes through it where that is the shortest way",
    "always": "always: others' traffic goes through it rather than through other machines",
    "never": "never: no others' traffic goes through it",
}
"""What a machine's transit modes mean."""

_STAGES = {"mesh": "in full mesh", "switching": "being switched", "reflectors": "with reflectors"}
_TIME = "%Y-%m-%d %H:%M:%S"


def network_name(network: Json) -> Text:
    """A network's name with a star where it is the default, a badge where it is in route reflector mode, and arrows
    while its BGP sessions are being switched."""
    text = Text(network["name"])
    if network["is_default"]:
        text.append(f" {STAR}", style="yellow")
    if network["route_reflector_mode"]:
        text.append(" ").append("RR", style="reverse")
    if network["bgp_stage"] == "switching":
        text.append(" ⇄", style="yellow")
    return text


def networks_table(networks: Iterable[Json], wide: bool) -> Table:
    """The networks: name, CIDR, machines; wide, also the free addresses and the uuids."""
    table = plain_table("Name", "Network CIDR", right=("Machines", *(("Free",) if wide else ())))
    if wide:
        table.add_column("UUID", no_wrap=True)
    for network in networks:
        more = (f"{network['available_ip_count']:,}", network["uuid"]) if wide else ()
        table.add_row(network_name(network), network["network_cidr"], f"{network['machine_count']:,}", *more)
    return table


def network_table(network: Json) -> Table:
    """A network's settings, one a line."""
    return settings_table(
        ("Name", network_name(network)),
        ("UUID", network["uuid"]),
        ("Network CIDR", network["network_cidr"]),
        ("Default", yes_no(network["is_default"])),
        ("Route reflector mode", "on" if network["route_reflector_mode"] else "off"),
        ("BGP sessions", _STAGES.get(network["bgp_stage"], "not known")),
        ("Machines", f"{network['machine_count']:,}, room for {network['available_ip_count']:,} more"),
        ("Created", local_time(network["created_at"])),
        ("Updated", local_time(network["updated_at"])),
    )


def members_table(network: Json, machines: Iterable[Json], wide: bool) -> Table:
    """The machines of one network with the address that each has in it."""
    table = plain_table("Hostname", "Address", "Status", *(("UUID",) if wide else ()))
    for machine in machines:
        more = (machine["uuid"],) if wide else ()
        table.add_row(machine["hostname"], address_in(machine, network["uuid"]), status(machine), *more)
    return table


def machines_table(machines: Iterable[Json], wide: bool, separator: str) -> Table:
    """The machines with their networks and addresses, those of one machine apart by `separator`."""
    table = plain_table("Hostname", "Status", "Networks", *(("Agent", "UUID") if wide else ()))
    for machine in machines:
        more = (machine["agent_version"], machine["uuid"]) if wide else ()
        table.add_row(machine["hostname"], status(machine), networks_of(machine, separator), *more)
    return table


def machine_table(machine: Json) -> Table:
    """Everything about one machine, one a line."""
    return settings_table(
        ("Hostname", machine["hostname"]),
        ("UUID", machine["uuid"]),
        ("Status", status(machine)),
        ("Last seen", _last_seen(machine)),
        ("Agent", machine["agent_version"] or "unknown"),
        *((("Transit", TRANSIT[machine["transit"]]),) if "transit" in machine else ()),
        ("Created", local_time(machine["created_at"])),
        *((("Enrolled", local_time(machine["enrolled_at"])),) if machine.get("enrolled_at") else ()),
        ("Updated", local_time(machine["updated_at"])),
        *((("Revoked", local_time(machine["revoked_at"])),) if machine.get("revoked_at") else ()),
        *((("Refused records", refused),) if (refused := refused_text(machine)) else ()),
        *(() if machine["memberships"] else (("Networks", "none"),)),
    )


def _last_seen(machine: Json) -> str | Text:
    if machine["is_online"] is None:
        return Text(NOT_RECORDED, style="dim")
    return local_time(machine["last_seen_at"]) if machine["last_seen_at"] else "not lately"


def memberships_table(machine: Json, wide: bool) -> Table:
    """A machine's places in networks: its address and endpoints in each; wide, also its WireGuard key."""
    table = plain_table("Network", "Address", "Endpoints", *(("Public key",) if wide else ()))
    for membership in machine["memberships"]:
        key = membership["public_key"]
        endpoints = "\n".join(membership["endpoints"]) or ("none" if key else "not announced yet")
        table.add_row(
            membership["mesh_network_name"], membership["wg_ip_address"], endpoints, *((key or "",) if wide else ())
        )
    return table


def refused_text(machine: Json) -> Text:
    """How many records its agent refused, by reason; empty where none."""
    counts = machine.get("refused_records") or {}
    return Text(", ".join(f"{count:,} {reason}" for reason, count in sorted(counts.items()) if count), style="yellow")


def receipts_table(revocation: Json) -> Table:
    """For each network how many machines have dropped the revoked one, and which have not."""
    table = plain_table("Network", "Dropped by", "Not yet")
    for network in revocation["networks"]:
        dropped, pending = len(network["dropped"]), network["pending"]
        late = Text("\n").join(_late(machine) for machine in pending) if pending else Text("")
        table.add_row(network["name"], f"{dropped:,} of {dropped + len(pending):,}", late)
    return table


def session_table(url: str, session: Json) -> Table:
    """Who one is to a gateway, one thing a line."""
    return settings_table(
        ("Gateway", url),
        ("Account", session["account"]["name"]),
        ("Role", session["role"]),
        ("Token", session["token_name"]),
        ("Expires", local_time(session["expires_at"]) if session["expires_at"] else "never"),
    )


def bootstrap_tokens_table(tokens: Iterable[Json], networks: Mapping[str, str], wide: bool) -> Table:
    """Bootstrap tokens; `networks` has names by uuid. Wide, also when each was made."""
    table = plain_table("ID", "State", "Uses", "Network", "Made by", "Expires", *(("Created",) if wide else ()))
    for token in tokens:
        network = token["mesh_network_uuid"]
        table.add_row(
            token["uuid"][:SHORT],
            Text(token["state"], style="green" if token["state"] == "usable" else "dim"),
            f"{token['used']:,} of {'any' if token['uses'] is None else format(token['uses'], ',')}",
            networks.get(network, network[:SHORT]) if network else "default",
            token["created_by"].removeprefix("account:"),
            local_time(token["expires_at"]),
            *((local_time(token["created_at"]),) if wide else ()),
        )
    return table


def accounts_table(accounts: Iterable[Json], wide: bool) -> Table:
    """Accounts and their roles; wide, also the uuids."""
    table = plain_table("Name", "Role", "Created", *(("UUID",) if wide else ()))
    for account in accounts:
        more = (account["uuid"],) if wide else ()
        table.add_row(account["name"], account["role"], local_time(account["created_at"]), *more)
    return table


def api_tokens_table(tokens: Iterable[Json], wide: bool) -> Table:
    """API tokens and browser sessions; wide, also when each was made."""
    table = plain_table("ID", "Account", "Name", "Role", "Use", "Expires", *(("Created",) if wide else ()))
    for token in tokens:
        table.add_row(
            token["uuid"][:SHORT],
            token["account_name"],
            token["name"],
            token["role"],
            token["use"],
            local_time(token["expires_at"]) if token["expires_at"] else "never",
            *((local_time(token["created_at"]),) if wide else ()),
        )
    return table


def event_row(event: Json) -> tuple[str, str, str]:
    """When, who, what."""
    return local_time(event["time"]), short_actor(event["actor"]), one_line(event["text"])


def command_cells(event: Json) -> tuple[str, str]:
    """The position of an event, and the id of the command that it came of."""
    return str(event["sequence"]), str(event["command_id"])


def events_table(events: Iterable[Json], commands: bool = False, roomy: bool = True) -> Table:
    """Events, one a line; where it is asked for with their positions and commands."""
    if commands and not roomy:
        return _commands_table(events)
    table = plain_table(*(("Position", "Command") if commands else ()), "Time", "Who", "What")
    if commands:
        table.columns[0].justify, table.columns[1].no_wrap = "right", True
    for event in events:
        table.add_row(*(command_cells(event) if commands else ()), *event_row(event))
    return table


def stacked_cells(event: Json) -> tuple[str, Text, str]:
    """An event's position, its command with when and who below, and what, where there is no room for them all beside
    each other."""
    (position, command), (time, who, what) = command_cells(event), event_row(event)
    return position, Text(f"{command}\n").append(f"{time} {who}", style="dim"), what


def _commands_table(events: Iterable[Json]) -> Table:
    table = plain_table("Position", "Command, time, who", "What")
    table.columns[0].justify, table.columns[1].no_wrap = "right", True
    for event in events:
        table.add_row(*stacked_cells(event))
    return table


def address_in(machine: Json, network_uuid: str) -> str:
    """The machine's address in a network, or nothing where it has none."""
    for membership in machine["memberships"]:
        if membership["mesh_network_uuid"] == network_uuid:
            return str(membership["wg_ip_address"])
    return ""


def networks_of(machine: Json, separator: str) -> str:
    """The networks that a machine is in, with its address in each."""
    return separator.join(
        f"{membership['mesh_network_name']} {membership['wg_ip_address']}" for membership in machine["memberships"]
    )


def status(machine: Json) -> Text:
    """Whether a machine is online, or revoked."""
    if machine.get("state") == "revoked":
        return Text("revoked", style="red")
    if machine["is_online"] is None:
        return Text(NOT_RECORDED, style="dim")
    return Text("online", style="green") if machine["is_online"] else Text("offline", style="dim")


def local_time(text: str) -> str:
    """A time of the API, to the second, in the time zone of whoever reads it."""
    return datetime.fromisoformat(text).astimezone().strftime(_TIME)


def end_of(expires_at: str | None) -> str:
    """Until when something counts, as the end of a sentence."""
    return f"until {local_time(expires_at)}" if expires_at else "until it is revoked"


def short_actor(actor: str) -> str:
    """Who did it; of a machine's uuid the first part, which tells machines apart well enough in a log."""
    kind, _, name = actor.partition(":")
    return f"machine:{name[:8]}" if kind == "machine" else actor


def yes_no(value: bool) -> str:
    """`yes` or `no`."""
    return "yes" if value else "no"


def settings_table(*rows: tuple[str, str | Text]) -> Table:
    """Names and their values, one a line."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    return table


def _late(machine: Json) -> Text:
    if machine["is_online"]:
        return Text(machine["hostname"]).append(" (online)", style="yellow")
    seen = f", last seen {local_time(machine['last_seen_at'])}" if machine["last_seen_at"] else ""
    return Text(machine["hostname"]).append(f" (offline{seen})", style="dim")


def plain_table(*columns: str, right: Iterable[str] = ()) -> Table:
    """A table without lines; the last columns, `right`, are of numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(
            column,
            no_wrap=column in ("UUID", "ID", "Time", "Who", "Status", "State", "Created", "Expires"),
            overflow="fold",
        )
    for column in right:
        table.add_column(column, justify="right", no_wrap=True)
    return table
