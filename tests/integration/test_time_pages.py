"""Pages of the past over a whole control plane: time lines of long histories, and what is not asked."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import httpx2
import pytest

from services.gateway.pages.timeline import MOST
from tests.support.gateway import control_plane, create_network, done

NETWORKS = "/api/v1/mesh-networks"


@pytest.fixture
async def http(bus_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with control_plane(bus_url) as http:
        yield http


def marks(html: str) -> list[int]:
    """The positions that a page's time line leads to."""
    return [int(found) for found in re.findall(r'class="time-mark [^>]*at=(\d+)"', html)]


def step(html: str, way: str) -> str:
    """The moment before or after, as an address says it; empty for none."""
    found = re.search(rf'<a[^>]*id="time-{way}"[^>]*href="([^"]*)"', html)
    return "" if found is None else found[1].partition("at=")[2]


async def test_of_a_long_history_the_newest_moments_and_those_around_an_older_one_are_shown(
    http: httpx2.AsyncClient,
) -> None:
    network = await create_network(http, "office", "10.1.0.0/16")
    for number in range(MOST + 50):
        await done(http.patch(f"{NETWORKS}/{network}", json={"name": f"office-{number}"}))
    end = (await done(http.get("/api/v1/events", params={"limit": 1})))["last_sequence"]
    first = end - MOST - 50
    newest = (await http.get(f"/networks/{network}/map")).text
    assert marks(newest) == list(range(end - MOST + 1, end + 1))
    assert step(newest, "previous") == str(end)
    middle = (await http.get(f"/networks/{network}/map?at={first + 90}")).text
    assert first + 90 in marks(middle)
    assert (step(middle, "previous"), step(middle, "next")) == (str(first + 89), str(first + 91))
    assert "office-89" in middle
    oldest = (await http.get(f"/networks/{network}/map?at={first}")).text
    assert (step(oldest, "previous"), step(oldest, "next")) == ("", str(first + 1))
    assert len(marks(oldest)) <= MOST


async def test_moments_are_said_in_many_ways_and_links_say_them_in_one(http: httpx2.AsyncClient) -> None:
    network = await create_network(http, "office", "10.1.0.0/16")
    now = await http.get(f"/networks/{network}?at=now")
    assert 'data-as-of="' not in now.text
    ago = await http.get("/networks?at=1 hour ago")
    assert re.search(r'href="/machines\?at=20[^"]*Z"', ago.text), "what is an hour ago now is another moment later"
    assert "No mesh network yet" in ago.text
    assert (await http.get("/networks?at=0")).status_code == 200
    assert (await http.get("/networks?at=1&at=2")).status_code == 422
    assert (await http.get("/networks?at=")).status_code == 200
    for path in ("/events?at=1", "/networks/new?at=1", f"/networks/{network}/settings?at=1"):
        refused = await http.get(path)
        assert (refused.status_code, "cannot be looked at as it was" in refused.text) == (422, True), path


async def test_a_machine_that_there_never_was_has_no_past(http: httpx2.AsyncClient) -> None:
    answer = await http.get("/machines/0d9f2b70-3c4e-4f0e-9d37-6f1f1f6f0b11?at=0")
    assert answer.status_code == 404
    assert "Back to now" in answer.text
