"""Paths for people: in words, and as tables. Pure: the API's objects in, text and Rich tables out."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from services.cli.api import Json
from services.cli.harmless import one_line
from services.cli.tables import NOT_RECORDED, local_time, plain_table, status

_UNTRIED = ("", "knows no address to try")
_STYLES = {"direct": "green", "transit": "yellow", "none": "red", "unknown": "dim", "unreachable": "red"}


def title(path: Json) -> Text:
    """From where to where."""
    one, other = path["machine"], path["peer"]
    text = Text(one["hostname"], style="bold").append(f" ({_address(one)})", style="not bold")
    text.append(" to ", style="not bold").append(other["hostname"]).append(f" ({_address(other)})", style="not bold")
    return text.append(f" in {path['mesh_network_name']}", style="not bold")


def how(path: Json) -> Text:
    """How it goes, in sentences."""
    since = f", since {local_time(path['since'])}" if path["since"] else ""
    match path["kind"]:
        case "direct":
            return _told("Directly", "direct", f"{_round_trip(path, ' round trip')}{since}.")
        case "transit":
            through = f"{_round_trip(path, ' round trip')}{since}."
            standby = f" If that fails: through {_names(path['standby'])}." if path["standby"] else ""
            sealed = " It is encrypted from end to end."
            return _told(f"Through {_names(path['via'])}", "transit", through + standby + sealed)
        case "none":
            return _told("Not at all", "none", f"{since}: {_why_none(path)}.")
        case _:
            return _told("Not known", "unknown", f": {_silence(path)}.")


def reports_table(path: Json, wide: bool) -> Table:
    """What each end last reported of the direct path: the address in use, or those that it tried; wide, also when."""
    ends = {path[end]["uuid"]: _name(path[end]) for end in ("machine", "peer")}
    made = plain_table("From", "Direct", "At", "Result", *(("Reported",) if wide else ()))
    made.columns[2].no_wrap = True
    for report in path["reports"]:
        state = Text("yes" if report["state"] == "direct" else "no", style=_STYLES[report["state"]])
        rows = [(tried["endpoint"], tried["result"]) for tried in report["tried"]]
        if report["state"] == "direct":
            rows = [(report["endpoint"] or "", "" if report["rtt_ms"] is None else f"{report['rtt_ms']:,} ms")]
        first, *others = [(one_line(address), one_line(result)) for address, result in rows] or [_UNTRIED]
        when = (local_time(report["time"]),) if wide else ()
        made.add_row(ends.get(report["machine_uuid"], ""), state, *first, *when)
        for other in others:
            made.add_row("", "", *other)
    return made


def path_events_table(events: Iterable[Json]) -> Table:
    """What led to a path, one thing a line."""
    made = plain_table("Time", "What led to it")
    for event in events:
        who = "the control plane " if event["kind"] == "choice" else ""
        when = local_time(event["time"]) if event["time"] else NOT_RECORDED
        made.add_row(when, one_line(f"{who}{event['text']}"))
    return made


def peers_table(paths: Iterable[Json], wide: bool) -> Table:
    """A machine's peers, and how it reaches each; wide, also since when."""
    made = plain_table("Peer", "Network", "Address", "Status", "Path", "Round trip", *(("Since",) if wide else ()))
    for path in paths:
        peer = path["peer"]
        since = (local_time(path["since"]) if path["since"] else "",) if wide else ()
        made.add_row(
            peer["hostname"],
            path["mesh_network_name"],
            _address(peer),
            status(peer),
            _kind(path),
            "" if path["rtt_ms"] is None else f"{path['rtt_ms']:,} ms",
            *since,
        )
    return made


def _kind(path: Json) -> Text:
    kind: str = path["kind"]
    words = {"transit": f"through {_names(path['via'])}", "none": "no way"}
    return Text(words.get(kind, kind), style=_STYLES[kind])


def _told(begin: str, kind: str, rest: str) -> Text:
    return Text(begin, style=_STYLES[kind]).append(rest, style="default")


def _round_trip(path: Json, what: str) -> str:
    return "" if path["rtt_ms"] is None else f", {path['rtt_ms']:,} ms{what}"


def _names(machines: Iterable[Json]) -> str:
    return ", then ".join(map(_name, machines))


def _name(machine: Json) -> str:
    """A machine's hostname; what it reported, or passes on, may be long past if it is offline."""
    return f"{machine['hostname']} (offline)" if machine["is_online"] is False else machine["hostname"]


def _address(machine: Json) -> str:
    return machine["wg_ip_address"] or "not in the network any more"


def _offline(path: Json) -> str:
    """Which end is offline, in words; empty for none."""
    offline = [path[end]["hostname"] for end in ("machine", "peer") if path[end]["is_online"] is False]
    return f"{' and '.join(offline)} {'is' if len(offline) == 1 else 'are'} offline" if offline else ""


def _why_none(path: Json) -> str:
    is_chosen = any(event["kind"] == "choice" for event in path["events"])
    through = "no way through another machine" + ("" if is_chosen else " was chosen yet")
    return _offline(path) or f"there is no direct path, and {through}"


def _silence(path: Json) -> str:
    """Why nobody has reported yet."""
    if path["machine"]["is_online"] is None:
        return "neither had reported, or it is known no more"
    return _offline(path) or "neither has reported yet"
