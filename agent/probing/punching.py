"""When both ends of a pair send, so that each opens its NAT for the other. Pure.

When something new is heard of a pair, both ends hear it over the bus at the same moment, and send a burst. If that
does not succeed they try again in windows that both compute alike, from their keys and the wall clock.
"""

from __future__ import annotations

import hashlib
import math

BURST = (0.1, 0.2, 0.3, 0.4, 0.6, 0.7)
"""Seconds from each ping of a burst to the next, to each candidate."""

VERDICT = 3.0
"""Seconds after its first ping a burst has failed."""

SLOT = 10.0
"""Seconds from one window to the next."""

_STAGES = ((1, 2), (3, 2), (6, 4))
"""How many windows on, and so many times."""

_MULTIPLES = (1, 3, 6, 30, 60, 180, 360, 2160)
"""Each divides the next: of two ends that are not equally patient, one sends whenever the other does."""


def window(first_key: str, second_key: str, wall: float, failures: int, least: float) -> float:
    """When the pair tries next, in seconds since the epoch, after so many windows without success: 10 s later at first,
    then 30 and 60 s, then 5 min; and not sooner than `least` seconds, which many such peers together may ask for."""
    spacing = SLOT * _multiple(failures, least)
    pair = "\n".join(sorted((first_key, second_key)))
    phase = int.from_bytes(hashlib.blake2b(pair.encode(), digest_size=8).digest()) / 2**64 * SLOT
    place = int.from_bytes(hashlib.blake2b(pair.encode(), digest_size=8, person=b"place").digest()) % _MULTIPLES[-1]
    offset = phase + place * SLOT
    return offset + (math.floor((wall - offset) / spacing) + 1) * spacing


def _multiple(failures: int, least: float) -> int:
    wanted = 30
    for multiple, times in _STAGES:
        if failures < times:
            wanted = multiple
            break
        failures -= times
    return next((m for m in _MULTIPLES if m >= wanted and m * SLOT >= least), _MULTIPLES[-1])
