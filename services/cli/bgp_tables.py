"""BGP for people: in words, and as tables. Pure: the API's objects in, text and Rich tables out."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from services.cli.api import Json
from services.cli.harmless import one_line
from services.cli.tables import local_time, plain_table, settings_table, status

_STAGES = {
    "mesh": "full mesh",
    "switching": "switching: with the sessions of both kinds, until every machine has what it needs",
    "reflectors": "route reflectors",
}
_SPEAKERS = {"running": "green", "off": "dim", "failed": "red", "unknown": "dim"}
_PURPOSES = {"mesh": "full mesh", "client": "with its reflector", "reflector": "with its client"}
_SECONDS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def network_bgp_table(found: Json) -> Table:
    """How a network speaks BGP, one thing a line."""
    sessions, speakers = found["sessions"], found["speakers"]
    running = [f"{speakers[each]:,} {each}" for each in ("running", "off", "failed", "unknown") if speakers[each]]
    return settings_table(
        ("Network", found["mesh_network_name"]),
        ("AS number", str(found["asn"])),
        ("Route reflector mode", "on" if found["route_reflector_mode"] else "off"),
        ("Sessions are", _STAGES.get(found["stage"], "not known")),
        ("Established", _share(sessions["established"], sessions["planned"])),
        ("In full mesh", f"{sessions['in_full_mesh']:,}"),
        ("With reflectors", f"{sessions['with_reflectors']:,}"),
        ("Speakers", ", ".join(running) or "none"),
    )


def reflectors_table(reflectors: Iterable[Json]) -> Table:
    """The reflectors, and why they are."""
    table = plain_table("Reflector", "Address", "Status", "Speaker", "Why")
    for each in reflectors:
        speaker = Text(each["speaker"], style=_SPEAKERS[each["speaker"]])
        table.add_row(each["hostname"], each["wg_ip_address"] or "", status(each), speaker, each["reason"])
    return table


def sessions_table(sessions: Iterable[Json], wide: bool) -> Table:
    """BGP sessions; wide, also how many prefixes were told, and why each last went down."""
    table = plain_table("Machine", "Peer", "Session", "State", "Since")
    if wide:
        table.add_column("In / out")
        table.add_column("Last error")
    for each in sessions:
        style = "green" if each["state"] == "established" else "yellow"
        more = (f"{each['imported']:,} / {each['exported']:,}", one_line(each["error"])) if wide else ()
        table.add_row(
            each["machine"]["hostname"],
            each["peer"]["hostname"],
            _PURPOSES.get(each["purpose"], each["purpose"]),
            Text(each["state"], style=style),
            local_time(each["since"]),
            *more,
        )
    return table


def rib_table(routes: Iterable[Json], wide: bool) -> Table:
    """Routes, those in use with a star; wide, also MED, AS path and communities."""
    table = plain_table("Prefix", "Next hop", "Preference", "Age")
    if wide:
        for column in ("MED", "AS path", "Communities"):
            table.add_column(column)
    for each in routes:
        prefix = Text(each["prefix"]).append(" ★" if each["best"] else "", style="yellow")
        path = " ".join(map(str, each["as_path"]))
        med = "" if each["med"] is None else str(each["med"])
        more = (med, path, one_line(" ".join(each["communities"]))) if wide else ()
        table.add_row(prefix, _hop(each), str(each["local_pref"]), age(each["age_seconds"]), *more)
    return table


def speaker_text(speaker: Json) -> Text:
    """A machine's speaker in a network, in a sentence or two."""
    text = Text(speaker["mesh_network_name"], style="bold").append(": ", style="not bold")
    text.append(speaker["state"], style=_SPEAKERS[speaker["state"]])
    version = f" (BIRD {one_line(speaker['version'])})" if speaker["version"] else ""
    role = ", a route reflector" if speaker["is_reflector"] else ""
    counts = f"{_share(speaker['sessions_established'], speaker['sessions_planned'], 'sessions')} established"
    reason = f" {one_line(speaker['reason'])}" if speaker["reason"] else ""
    return text.append(f"{version}{role}, {counts}.{reason}", style="not bold default")


def age(seconds: int) -> str:
    """A duration in its two largest units."""
    parts: list[str] = []
    for unit, size in _SECONDS:
        count, seconds = divmod(seconds, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def _share(established: int, planned: int, noun: str = "") -> str:
    """How many there are of those that are to be; there are more while what is needed no more has not ended yet."""
    what = f" {noun}" if noun else ""
    if established <= planned:
        return f"{established:,} of {planned:,}{what}"
    return f"{established:,}{what} ({planned:,} to stay)"


def _hop(route: Json) -> str:
    if route["next_hop"] is None:
        return "this machine"
    return f"{route['machine']['hostname']} ({route['next_hop']})" if route["machine"] else route["next_hop"]
