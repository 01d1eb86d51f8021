"""Routes, virtual IPs and route policies as tables for people. Pure: objects in, Rich tables out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.table import Table
from rich.text import Text

from services.cli.api import Json
from services.cli.tables import local_time, plain_table, settings_table, yes_no

_NONE = "none"


def routes_table(routes: Iterable[Json], hostnames: Mapping[str, str], wide: bool) -> Table:
    """Routes: prefixes and machines; wide, also the uuids."""
    table = plain_table("Name", "Prefixes", "Machines", "Enabled", *(("UUID",) if wide else ()))
    for route in routes:
        machines = ", ".join(named(route["machine_uuids"], hostnames)) or _NONE
        more = (route["uuid"],) if wide else ()
        table.add_row(route["name"], ", ".join(route["prefixes"]), machines, enabled(route), *more)
    return table


def route_table(route: Json, hostnames: Mapping[str, str]) -> Table:
    """Everything about one route, one thing a line."""
    return settings_table(
        ("Name", route["name"]),
        ("UUID", route["uuid"]),
        ("Prefixes", "\n".join(route["prefixes"])),
        ("Machines", "\n".join(named(route["machine_uuids"], hostnames)) or _NONE),
        ("Enabled", enabled(route)),
        ("Created", local_time(route["created_at"])),
        ("Updated", local_time(route["updated_at"])),
    )


def vips_table(vips: Iterable[Json], hostnames: Mapping[str, str], wide: bool) -> Table:
    """Virtual IPs: address, machines in order, health check; wide, also the uuids."""
    table = plain_table("Name", "Address", "Machines", "Check", "Enabled", *(("UUID",) if wide else ()))
    for vip in vips:
        machines = ", ".join(named(vip["machine_uuids"], hostnames)) or _NONE
        more = (vip["uuid"],) if wide else ()
        table.add_row(vip["name"], vip["address"], machines, _check(vip), enabled(vip), *more)
    return table


def vip_table(vip: Json, hostnames: Mapping[str, str]) -> Table:
    """Everything about one virtual IP, one thing a line."""
    machines = [f"{place}. {name}" for place, name in enumerate(named(vip["machine_uuids"], hostnames), 1)]
    return settings_table(
        ("Name", vip["name"]),
        ("UUID", vip["uuid"]),
        ("Address", vip["address"]),
        ("Machines", "\n".join(machines) or _NONE),
        ("Health check", _check(vip)),
        *(() if vip["health_check_type"] == "none" else _check_rows(vip)),
        ("Enabled", enabled(vip)),
        ("Created", local_time(vip["created_at"])),
        ("Updated", local_time(vip["updated_at"])),
    )


def policies_table(
    policies: Iterable[Json], networks: Mapping[str, str], hostnames: Mapping[str, str], wide: bool
) -> Table:
    """Route policies: what for, and how many rules; wide, also the uuids."""
    table = plain_table("Name", "Direction", "For", "Else", right=("Rules",))
    if wide:
        table.add_column("UUID", no_wrap=True)
    for policy in policies:
        more = (policy["uuid"],) if wide else ()
        targets = ", ".join(_targets(policy, networks, hostnames)) or _NONE
        row = (policy["name"], policy["direction"], targets, policy["default_action"], f"{len(policy['rules']):,}")
        table.add_row(*row, *more)
    return table


def policy_table(policy: Json, networks: Mapping[str, str], hostnames: Mapping[str, str]) -> Table:
    """A route policy but for its rules, one thing a line."""
    return settings_table(
        ("Name", policy["name"]),
        ("UUID", policy["uuid"]),
        *((("Description", policy["description"]),) if policy["description"] else ()),
        ("Direction", policy["direction"]),
        ("For", "\n".join(_targets(policy, networks, hostnames)) or _NONE),
        ("Local preference", "as it is" if policy["local_pref"] is None else f"{policy['local_pref']}"),
        ("If no rule matches", policy["default_action"]),
        ("Created", local_time(policy["created_at"])),
        ("Updated", local_time(policy["updated_at"])),
    )


def rules_table(rules: Iterable[Json]) -> Table:
    """A route policy's rules in their order."""
    table = plain_table("Rule", "Match", "Action", "Changes", "Description")
    for rule in rules:
        style = "" if rule["enabled"] else "dim"
        action = rule["action"] if rule["enabled"] else f"{rule['action']} (disabled)"
        row = (f"{rule['sequence']}", _match(rule), action, _changes(rule), rule["description"])
        table.add_row(*(Text(cell, style=style) for cell in row))
    return table


def named(uuids: Iterable[str], names: Mapping[str, str]) -> list[str]:
    """Their names, in order."""
    return [names[uuid] for uuid in uuids]


def enabled(item: Json) -> Text:
    """`yes`, or a dim `no`."""
    return Text(yes_no(item["enabled"]), style="" if item["enabled"] else "dim")


def _targets(policy: Json, networks: Mapping[str, str], hostnames: Mapping[str, str]) -> list[str]:
    targets = [f"network {name}" for name in named(policy["network_uuids"], networks)]
    return targets + [f"machine {name}" for name in named(policy["machine_uuids"], hostnames)]


def _check(vip: Json) -> str:
    kind = vip["health_check_type"]
    return _NONE if kind == "none" else f"{kind} {vip['health_check_target']}"


def _check_rows(vip: Json) -> tuple[tuple[str, str], ...]:
    every, within = vip["health_check_interval_seconds"], vip["health_check_timeout_seconds"]
    healthy, unhealthy = vip["health_check_healthy_threshold"], vip["health_check_unhealthy_threshold"]
    return (
        ("Checked", f"every {every} s, each within {within} s"),
        ("Healthy after", f"{healthy} successes in a row"),
        ("Unhealthy after", f"{unhealthy} failures in a row"),
        ("Hold-off", f"{vip['health_check_holdoff_seconds']} s"),
    )


def _match(rule: Json) -> str:
    match rule["match_type"]:
        case "prefix_list":
            low, high = rule["match_prefix_len_min"], rule["match_prefix_len_max"]
            lengths = [] if low is None else [f"from /{low}"]
            lengths += [] if high is None else [f"to /{high}"]
            return " ".join((", ".join(rule["match_prefixes"]), *lengths))
        case "community":
            return "community " + ", ".join(rule["match_communities"])
        case "as_path":
            return f"AS path {rule['match_as_path']}"
        case _:
            return "any"


def _changes(rule: Json) -> str:
    changes = []
    if rule["set_local_pref"] is not None:
        changes.append(f"local preference {rule['set_local_pref']}")
    if rule["set_med"] is not None:
        changes.append(f"MED {rule['set_med']}")
    if rule["set_communities"] is not None:
        changes.append(f"communities {', '.join(rule['set_communities']) or _NONE}")
    changes += [f"+{community}" for community in rule["add_communities"]]
    changes += [f"-{community}" for community in rule["remove_communities"]]
    if rule["prepend_as_count"]:
        changes.append(f"prepend {rule['prepend_as_count']}")
    return ", ".join(changes)
