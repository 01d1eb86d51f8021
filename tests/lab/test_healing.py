"""Paths that break are mended: by transit, by the next transit, and by the direct path when it is back."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from deploy.lab.healing import PROMISED, measure

pytestmark = [pytest.mark.lab, pytest.mark.timed, pytest.mark.timeout(400)]

CUTS = 4


def test_every_cut_is_mended_in_time_and_the_way_back_loses_nothing() -> None:
    direct, transit, orphaned, back = measure(CUTS, Console(file=io.StringIO()))
    for times in (direct, transit, orphaned):
        assert len(times.seconds) == CUTS
        assert max(times.seconds) <= PROMISED, times
    assert len(back.lost) == CUTS + 1
    assert not any(back.lost), back
