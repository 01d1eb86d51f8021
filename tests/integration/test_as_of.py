"""`?at=`: what the API tells of a moment that is past is what it told then, but for what nobody recorded."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network
from urllib.parse import quote
from uuid import uuid4

import pytest

from events.records import RibRoute, RibState, SessionState, SpeakerState
from services.gateway.http.app import routes
from tests.support.gateway import done
from tests.support.reach_net import direct, unreachable
from tests.support.told import API, NETWORKS, History, beginning

LOOKING_BACK = {
    "/mesh-networks",
    "/mesh-networks/{uuid}",
    "/mesh-networks/{uuid}/machines",
    "/mesh-networks/{uuid}/machines/{machine_uuid}",
    "/mesh-networks/{uuid}/paths",
    "/mesh-networks/{uuid}/paths/{machine_uuid}/{peer_uuid}",
    "/mesh-networks/{uuid}/bgp",
    "/mesh-networks/{uuid}/bgp/sessions",
    "/mesh-networks/{uuid}/reflectors",
    "/machines",
    "/machines/{uuid}",
    "/machines/{uuid}/peers",
    "/machines/{uuid}/bgp",
    "/machines/{uuid}/gateway",
    "/machines/{uuid}/mesh-networks/{network_uuid}/rib",
    "/routes",
    "/routes/{uuid}",
    "/vips",
    "/vips/{uuid}",
    "/route-policies",
    "/route-policies/{uuid}",
}
"""What takes `at`, at least."""


@pytest.fixture
async def history(bus_url: str) -> AsyncIterator[History]:
    async with beginning(bus_url) as found:
        yield found


DECIDED = ("machines", "routes", "vips", "route-policies")
"""What does not depend on reports: so it is the same right after the last event, and a while later."""

NONSENSE = (
    "",
    "yesterday",
    "-1",
    "1.5",
    "0x10",
    "9007199254740993",
    "9" * 40,
    "9" * 5000,
    "2 fortnights ago",
    "2026-13-01",
    "\x00",
)


async def test_what_is_told_of_each_moment_is_what_was_told_then(history: History) -> None:
    await live(history)
    assert {status for told in history.told for status, _ in told.answers.values()} == {200, 404}
    for told in history.told:
        for address in history.addresses():
            expected = told.answers.get(address, (404, None))
            assert await history.ask(address, told.time.isoformat()) == expected, (told.position, address)
            if address.split("/")[-1] in DECIDED or address.split("/")[-2] in DECIDED:
                assert await history.ask(address, str(told.position)) == expected, (told.position, address)


async def test_before_the_beginning_there_was_nothing(history: History) -> None:
    await history.make("mesh-networks", name="office", network_cidr="10.1.0.0/16")
    for at in ("0", "0001-01-01", "999999 weeks ago", "2026-01-01T00:00:00+14:00"):
        response = await history.http.get(f"{API}/mesh-networks", params={"at": at})
        assert response.json()["items"] == []
        assert response.headers["X-Wireloom-At"].startswith("0")


async def test_an_answer_says_of_which_moment_it_is(history: History) -> None:
    office = await history.make("mesh-networks", name="office", network_cidr="10.1.0.0/16")
    await done(history.http.patch(f"{NETWORKS}/{office}", json={"name": "bureau"}))
    (first, _) = (await history.http.get(f"{API}/events", params={"after": 0})).json()["items"]
    response = await history.http.get(f"{NETWORKS}/{office}", params={"at": "1"})
    assert (response.json()["name"], response.headers["X-Wireloom-At"]) == ("office", f"1 {first['time']}")
    response = await history.http.get(f"{NETWORKS}/{office}", params={"at": "now"})
    position, time = response.headers["X-Wireloom-At"].split(" ")
    assert (response.json()["name"], position) == ("bureau", "2")
    assert abs(datetime.fromisoformat(time) - datetime.now(UTC)) < timedelta(minutes=1)
    response = await history.http.get(f"{NETWORKS}/{office}", params={"at": "0"})
    assert response.status_code == 404
    assert "log position 0" in response.json()["hint"]


async def test_who_was_online_cannot_be_asked(history: History) -> None:
    office = await history.make("mesh-networks", name="office", network_cidr="10.1.0.0/16")
    for address in (f"{API}/machines", f"{NETWORKS}/{office}/machines"):
        response = await history.http.get(address, params={"at": "1", "is_online": "true"})
        assert response.status_code == 422
        assert "not recorded" in response.json()["detail"]


async def test_each_route_takes_a_moment_or_says_why_not(history: History) -> None:
    taking = set()
    shown = [(route, method) for route in routes() for method in route.methods or () if route.include_in_schema]
    for route, method in shown:
        path = re.sub(r"\{\w+\}", str(uuid4()), route.path)
        response = await history.http.request(method, path, params={"at": "99"})
        problem = response.json()
        assert problem["hint"], path
        if response.status_code == 404:
            taking.add(route.path.removeprefix(API))
            assert "The log ends at 0" in problem["detail"], path
            several = ("1&at=1",) if route.path.removeprefix(API) in LOOKING_BACK else ()
            for nonsense in (*NONSENSE, (datetime.now(UTC) + timedelta(hours=1)).isoformat(), *several):
                response = await history.http.request(method, f"{path}?at={quote(nonsense, safe='&=')}")
                assert response.status_code == 422, (path, nonsense)
                assert response.json()["hint"], (path, nonsense)
        else:
            assert (response.status_code, problem["field"]) == (422, "at"), path
            assert ("A change is made now" in problem["detail"]) == (method != "GET"), path
    assert taking >= LOOKING_BACK


async def live(history: History) -> None:
    """Networks, machines, routes and the like come, change and go, and machines report; each time it is noted what is
    told."""
    http, now = history.http, datetime.now(UTC)
    await history.note()
    office = await history.make("mesh-networks", name="office", network_cidr="10.1.0.0/16")
    one, two, via = [await history.join(office, name) for name in ("one", "two", "via")]
    await history.note()
    await history.report(office, via, direct(one), direct(two))
    await history.report(office, one, direct(via), unreachable(two, "192.0.2.7:51820"))
    await history.report(office, two, direct(via), unreachable(one))
    await history.becomes(f"/mesh-networks/{office}/paths/{one}/{two}", kind="transit")
    await history.becomes(f"/mesh-networks/{office}/paths/{two}/{one}", kind="transit")
    await history.note()
    route = await history.make("routes", name="lan", prefixes=["192.168.7.0/24"], machine_uuids=[str(one)])
    vip = await history.make("vips", name="web", address="203.0.113.10", machine_uuids=[str(one), str(two)])
    policy = await history.make("route-policies", name="edge", direction="import", network_uuids=[str(office)])
    prefix = RibRoute(
        prefix=IPv4Network("192.168.7.0/24"), next_hop=IPv4Address("10.1.0.1"), best=True, local_pref=100, since=now
    )
    await history.speak(office, one, SpeakerState(state="running", version="2.0.12", since=now))
    established = SessionState(peer_id=one, purpose="mesh", state="established", since=now)
    await history.speak(office, two, established, RibState(part=0, parts=1, total=1, routes=(prefix,)))
    await history.speak(office, one, established.model_copy(update={"peer_id": two}))
    await history.note()
    await history.speak(office, two, SessionState(peer_id=one, purpose="mesh", state="idle", since=now, error="cut"))
    await done(http.patch(f"{NETWORKS}/{office}", json={"name": "bureau"}))
    await done(http.patch(f"{API}/machines/{one}", json={"hostname": "first", "transit": "never"}))
    await done(http.patch(f"{API}/vips/{vip}", json={"machine_uuids": [str(two)]}))
    lab = await history.make("mesh-networks", name="lab", network_cidr="10.2.0.0/16")
    await done(http.post(f"{NETWORKS}/{lab}/machines", json={"machine_uuid": str(two)}))
    both = {"network_uuids": [str(office), str(lab)]}
    await done(http.put(f"{API}/machines/{two}/gateway", json=both))
    await done(http.put(f"{NETWORKS}/{office}/reflectors", json={"machine_uuids": [str(one), str(via)]}))
    await history.note()
    await done(http.patch(f"{NETWORKS}/{office}", json={"route_reflector_mode": True}))
    await history.becomes(f"/mesh-networks/{office}", bgp_stage="switching")
    await history.report(office, one, direct(two))
    await history.report(office, two, direct(one))
    await history.becomes(f"/mesh-networks/{office}/paths/{one}/{two}", kind="direct")
    await history.note()
    await done(http.delete(f"{NETWORKS}/{office}/machines/{via}"))
    await done(http.delete(f"{API}/routes/{route}"))
    await done(http.delete(f"{API}/route-policies/{policy}"))
    await history.note()
    await done(http.delete(f"{API}/machines/{one}", params={"force": "true"}))
    await done(http.delete(f"{NETWORKS}/{office}", params={"force": "true"}))
    await history.note()
