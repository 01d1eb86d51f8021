"""Tunnels for people. Pure: the API's objects in, text and Rich tables out."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from rich.table import Table
from rich.text import Text

from services.cli.api import Json
from services.cli.harmless import one_line
from services.cli.tables import local_time, plain_table, status

REKEYED_WITHIN = 180
"""Seconds after which a session's keys are no longer used (WireGuard's paper, section 6.1): with nothing to send, there
is no new handshake either."""

_STEPS = ((86400, "d"), (3600, "h"), (60, "min"))
_STATES = {
    "up": "up",
    "down": "down: it carries nothing",
    "missing": "there is no such interface (yet)",
    "unreadable": "its system does not let the agent look at it: see the agent's log",
}
_THOUSAND = 1000


def tunnel_title(tunnel: Json) -> Text:
    """A machine's interface in one network."""
    port = f"UDP port {tunnel['listen_port']}" if tunnel["listen_port"] else ""
    mtu = f"MTU {tunnel['mtu']}" if tunnel["mtu"] else ""
    driver = one_line("kernel WireGuard" if tunnel["backend"] == "kernel" else tunnel["backend"])
    facts = [fact for fact in (tunnel["interface"], tunnel["wg_ip_address"], port, mtu, driver) if fact]
    style = "green" if tunnel["state"] == "up" else "red"
    text = Text(tunnel["mesh_network_name"], style="bold").append(f"  {', '.join(facts)}, ", style="not bold")
    return text.append(_STATES.get(tunnel["state"], "state not known"), style=f"not bold {style}")


def tunnel_peers_table(peers: Iterable[Json], read_at: str) -> Table:
    """The peers of an interface, as it was at `read_at`."""
    made = plain_table("Peer", "Address", "Status", "Endpoint", "Handshake", right=("Received", "Sent"))
    made.columns[3].no_wrap = made.columns[4].no_wrap = True
    for peer in peers:
        made.add_row(
            peer["hostname"],
            peer["wg_ip_address"],
            status(peer),
            one_line(peer["endpoint"] or ""),
            handshake(peer["last_handshake_at"], read_at),
            traffic(peer["rx_bytes"]),
            traffic(peer["tx_bytes"]),
        )
    return made


def footnote(tunnels: Json) -> str:
    """When it was so, and what is missing."""
    said = f"As of {local_time(tunnels['read_at'])}."
    if tunnels["left_out"]:
        said += f" {tunnels['left_out']:,} more tunnels and peers are left out: they are too many."
    return said


def handshake(at: str | None, read_at: str) -> Text:
    """How long ago a handshake was."""
    if at is None:
        return Text("never", style="red")
    age = max(0.0, (datetime.fromisoformat(read_at) - datetime.fromisoformat(at)).total_seconds())
    size, unit = next(((size, unit) for size, unit in _STEPS if age >= size), (1, "s"))
    return Text(f"{int(age // size):,} {unit} ago", style="green" if age <= REKEYED_WITHIN else "dim")


def traffic(count: int) -> str:
    """Bytes as people read them: `1.2 MB`."""
    size, units = float(count), iter(("B", "kB", "MB", "GB", "TB", "PB", "EB"))
    unit = next(units)
    # 999.5 would be shown as a thousand.
    while size >= _THOUSAND - 0.5 and (bigger := next(units, "")):
        size, unit = size / _THOUSAND, bigger
    return f"{size:.0f} {unit}" if unit == "B" or size >= 99.95 else f"{size:.1f} {unit}"
