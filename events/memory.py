"""How a program that holds very many objects looks for garbage. A shell."""

from __future__ import annotations

import gc

_THRESHOLDS = (25_000, 20, 20)


def collect_rarely() -> None:
    """Look for cycles of garbage more rarely than Python does by itself. Records and events are in none, and where very
    many are made at once, looking through them again and again takes a third of the time."""
    gc.set_threshold(*_THRESHOLDS)
