"""Who is where in the matrix: every place once or twice."""

from __future__ import annotations

from deploy.lab.surroundings import Surroundings
from deploy.lab.theory import CARRIER, GUARDED, HOME, OFFICE, OPEN, SIX, WALLED

HUB = "hub"
"""Reachable by everybody: the natural transit."""


def settle_all(surroundings: Surroundings) -> None:
    """Eleven machines: a family at home, a neighbour, two offices, a cabin behind a carrier, and those with rules."""
    surroundings.settle(HUB, OPEN)
    surroundings.settle("field", OPEN)
    surroundings.settle("desk", HOME, lan="home")
    surroundings.settle("sofa", HOME, lan="home")
    surroundings.settle("flat", HOME)
    surroundings.settle("cabin", CARRIER)
    surroundings.settle("office", OFFICE)
    surroundings.settle("plant", OFFICE)
    surroundings.settle("bank", WALLED)
    surroundings.settle("clinic", GUARDED, only=HUB)
    surroundings.settle("six", SIX)
