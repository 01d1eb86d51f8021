"""Networks, machines and lists of them, as sentences name them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

NameOf = Callable[[UUID], str | None]
"""The name of a network, account, API token, route or the like, or the hostname of a machine, where it is known."""

SPELLED_OUT = 4
"""Of how many things one sentence speaks by name."""


def network_name(item: UUID, name_of: NameOf) -> str:
    """A network."""
    return name_of(item) or f"network {item}"


def machine_name(item: UUID, name_of: NameOf) -> str:
    """A machine."""
    return name_of(item) or f"machine {item}"


def listed(names: Sequence[str], joint: str = " and ") -> str:
    """Things one after the other, of many the first few; `joint` stands before the last."""
    shown = list(names[:SPELLED_OUT])
    if len(names) > SPELLED_OUT:
        return f"{', '.join(shown)} and {len(names) - SPELLED_OUT} more"
    return joint.join((", ".join(shown[:-1]), shown[-1])) if len(shown) > 1 else "".join(shown)


def count(number: int, what: str) -> str:
    """A number of things, whose plural has an s."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
