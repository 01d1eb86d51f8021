"""A path in words, for people who look into why it is as it is: how it goes, what was tried, what would make it better.
Pure. Says only what was reported."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from services.gateway.http.path_schemas import LinkReport, Path, PathExplanation, PathMachine
from services.gateway.naming import count, listed

_SILENT, _WAITING = "no answer", "not tried yet"
"""What agents report of an address."""


def how(path: Path) -> str:
    """How it goes now."""
    one, other = path.machine.hostname, path.peer.hostname
    match path.kind:
        case "direct":
            return f"{one} and {other} reach each other directly, encrypted, with nobody between them."
        case "transit":
            through, one_only = names(path.via), len(path.via) == 1
            return (
                f"{one} and {other} reach each other through {through}. Their packets are encrypted from end to end: "
                f"{through if one_only else 'those'} {'passes' if one_only else 'pass'} on what "
                f"{'it' if one_only else 'they'} cannot read."
            )
        case "none":
            off = _offline(path)
            return f"{one} and {other} do not reach each other: " + (
                f"{off}." if off else "there is no direct path, and no way through another machine."
            )
        case _:
            off = _offline(path)
            return f"It is not known whether {one} and {other} reach each other: " + (
                f"{off}." if off else "neither has reported yet."
            )


def names(machines: tuple[PathMachine, ...]) -> str:
    """Transit machines, the nearest first."""
    return ", then ".join(each.hostname for each in machines)


def found(report: LinkReport, who: str, whom: str) -> str:
    """What one end reported."""
    if report.state == "direct":
        return f"{who} reaches {whom} directly."
    if not report.tried:
        return f"{who} does not reach {whom} directly, and names no address that it tried."
    waiting = sum(tried.result == _WAITING for tried in report.tried)
    tried = len(report.tried) - waiting
    if not tried:
        return f"{who} does not reach {whom} directly, and has yet to try {_addresses(waiting)} of it."
    is_silent = all(each.result in (_SILENT, _WAITING) for each in report.tried)
    outcome = ("none answered" if tried > 1 else "it did not answer") if is_silent else "none led to a direct path"
    rest = f" It has yet to try {_addresses(waiting)}." if waiting else ""
    return f"{who} tried {_addresses(tried)} of {whom}: {outcome}.{rest}"


def better(path: PathExplanation, ports: Mapping[UUID, int]) -> tuple[str, ...]:
    """What would make it better, as far as reports tell. `ports`: the UDP ports of the two ends, where known."""
    offline = [each for each in (path.machine, path.peer) if each.is_online is False]
    if path.kind == "direct":
        return ()
    if offline:
        return (_come_back(offline),)
    if path.kind == "unknown":
        return ("Both agents run. Each tells what it finds once it has tried the other's addresses.",)
    said = [*_direct(path, ports)]
    if path.kind == "none":
        said.append(
            "Or let another machine pass their packets on: one that both reach directly, and that may be a transit "
            "machine."
        )
    elif not path.standby:
        said.append(
            f"Nobody stands by: if {names(path.via)} fails, they lose each other. Another machine that both reach "
            "directly, and that may be a transit machine, would."
        )
    return tuple(said)


def _direct(path: PathExplanation, ports: Mapping[UUID, int]) -> list[str]:
    """What would make it direct."""
    both = {path.machine.uuid: path.machine.hostname, path.peer.uuid: path.peer.hostname}
    states = {report.machine_uuid: report for report in path.reports if report.machine_uuid in both}
    missing = [name for machine_id, name in both.items() if machine_id not in states]
    if missing:
        return [f"{listed(missing)} {'has' if len(missing) == 1 else 'have'} not reported of the other yet."]
    failing = [report for report in states.values() if report.state == "unreachable"]
    if len(failing) == 1:
        who, whom = both[failing[0].machine_uuid], both[failing[0].peer_uuid]
        return [f"{whom} reaches {who} directly, but {who} does not reach {whom}: look at what {who} may send."]
    untried = [both[report.machine_uuid] for report in failing if not report.tried]
    results = {tried.result for each in failing for tried in each.tried}
    if untried:
        return [f"{listed(untried)} named no address to try. Look at the endpoints that the other end announces."]
    if len(failing) < 2 or not results <= {_SILENT, _WAITING} or _SILENT not in results:
        return []
    doors = [f"{ports[each]} of {name}" for each, name in both.items() if ports.get(each)]
    where = f": UDP port {' or '.join(doors)}" if doors else ""
    return [
        "No packet came through in either direction. Something between them holds UDP back: a firewall, or address "
        f"translation at both ends. It takes one end that lets the other in{where}."
    ]


def _come_back(offline: list[PathMachine]) -> str:
    who = listed([each.hostname for each in offline])
    agents = "its agent" if len(offline) == 1 else "their agents"
    return f"Start {who}, or {agents}: the path comes back by itself."


def _offline(path: Path) -> str:
    """Which end is offline, in words; empty for none."""
    offline = [each.hostname for each in (path.machine, path.peer) if each.is_online is False]
    return f"{' and '.join(offline)} {'is' if len(offline) == 1 else 'are'} offline" if offline else ""


def _addresses(number: int) -> str:
    return count(number, "address").replace("addresss", "addresses")
