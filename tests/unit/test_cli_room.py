"""Tables of the CLI that are laid out otherwise where the terminal is narrow: nothing is folded within a word."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from services.cli.ledger import ledger_table
from services.cli.session import ROOMY, WIDE
from services.cli.tables import events_table

COMMAND = "bff7749d-a991-4f9f-895e-e44e33b8dd8f"
EVENT: dict[str, Any] = {
    "sequence": 18,
    "command_id": COMMAND,
    "time": "2026-05-03T14:02:00Z",
    "actor": "account:admin/first",
    "text": "renamed network lab to labor",
}
HELD: dict[str, Any] = {
    "wg_ip_address": "172.16.100.200",
    "hostname": "berlin",
    "hostname_now": "paris",
    "mesh_network_name": "office",
    "mesh_network_name_now": "office",
    "held_from": "2026-05-03T14:02:00Z",
    "held_until": "2026-05-04T14:02:00Z",
    "began": {"actor": "account:admin/first"},
    "ended": {"actor": "account:anna/laptop"},
}


def lines(table: Table, width: int) -> list[str]:
    console = Console(file=StringIO(), width=width)
    with console.capture() as captured:
        console.print(table)
    return [line.rstrip() for line in captured.get().splitlines()]


@pytest.mark.parametrize("width", [80, WIDE, ROOMY])
def test_commands_of_the_log_can_be_read_and_copied(width: int) -> None:
    shown = lines(events_table([EVENT], True, width >= ROOMY), width)
    assert len(shown) == (2 if width >= ROOMY else 3)
    assert COMMAND in shown[1]
    assert "account:admin/first" in shown[-1]
    assert "renamed network lab to" in shown[1]


@pytest.mark.parametrize("width", [80, WIDE, ROOMY])
def test_the_ledger_breaks_no_word(width: int) -> None:
    table = ledger_table([HELD | {"ended": None}, HELD], wide=width >= WIDE, roomy=width >= ROOMY)
    words = " ".join(lines(table, width)).split()
    for word in ("172.16.100.200", "berlin", "paris)", "office", "still"):
        assert word in words
    assert ("account:anna/laptop" in words) == (width >= WIDE)
