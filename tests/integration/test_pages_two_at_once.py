"""Two people change the same thing: what the one did, the other does not undo without knowing."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html import unescape
from uuid import uuid4

import httpx2
import pytest

from tests.support.gateway import control_plane, done, register_machine
from tests.support.secured_plane import API

SCRIPT = {"HX-Request": "true"}


@pytest.fixture
async def http(bus_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with control_plane(bus_url) as http:
        token = re.search(r'"X-CSRF-Token": "([0-9a-f]+)"', (await http.get("/networks")).text)
        assert token
        http.headers["X-CSRF-Token"] = token[1]
        yield http


def hidden(page: str) -> dict[str, str]:
    """What a form says by itself."""
    return {name: unescape(value) for name, value in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page)}


async def test_a_route_that_somebody_else_has_changed_is_looked_at_again(http: httpx2.AsyncClient) -> None:
    machine = await register_machine(http, "web-1")
    route = await done(
        http.post(f"{API}/routes", json={"name": "lan", "prefixes": ["192.0.2.0/25"], "machine_uuids": [str(machine)]})
    )
    place, where = f"/machines/{machine}/routes/{route['uuid']}/edit", f"{API}/routes/{route['uuid']}"
    mine = {"name": "lan-2", "prefixes": "192.0.2.0/25", "enabled": "true"}
    opened = hidden((await http.get(place, headers=SCRIPT)).text)
    await done(http.patch(where, json={"prefixes": ["192.0.2.0/25", "198.51.100.0/24"]}))
    refused = await http.post(place, data={**opened, **mine}, headers=SCRIPT)
    assert refused.status_code == 409
    assert "198.51.100.0/24" in refused.text
    assert 'value="lan-2"' in refused.text, "nothing that was typed is lost"
    assert (await done(http.get(where)))["prefixes"] == ["192.0.2.0/25", "198.51.100.0/24"]
    again = {**hidden(refused.text), **mine}
    for _ in range(2):  # A repetition is no change by somebody else.
        assert (await http.post(place, data=again, headers=SCRIPT)).status_code == 200
    found = await done(http.get(where))
    assert (found["name"], found["prefixes"]) == ("lan-2", ["192.0.2.0/25"])


async def test_a_virtual_ip_that_somebody_else_has_changed_is_looked_at_again(http: httpx2.AsyncClient) -> None:
    machine = await register_machine(http, "web-1")
    body = {"name": "web", "address": "203.0.113.9", "machine_uuids": [str(machine)]}
    vip = await done(http.post(f"{API}/vips", json=body))
    place, where = f"/machines/{machine}/vips/{vip['uuid']}/edit", f"{API}/vips/{vip['uuid']}"
    mine = {"name": "web-2", "address": "203.0.113.9", "enabled": "true", "health_check_type": "none"}
    opened = hidden((await http.get(place, headers=SCRIPT)).text)
    await done(http.patch(where, json={"enabled": False}))
    refused = await http.post(place, data={**opened, **mine}, headers=SCRIPT)
    assert refused.status_code == 409
    assert "disabled" in refused.text
    assert not (await done(http.get(where)))["enabled"]
    again = {**hidden(refused.text), **mine}
    for _ in range(2):
        assert (await http.post(place, data=again, headers=SCRIPT)).status_code == 200
    assert (await done(http.get(where)))["name"] == "web-2"
    unheard = {**again, "command_id": str(uuid4()), "seen": ""}
    assert (await http.post(place, data=unheard, headers=SCRIPT)).status_code == 200


async def test_a_machine_that_has_joined_another_network_is_looked_at_again(http: httpx2.AsyncClient) -> None:
    machine = await register_machine(http, "web-1")
    first, second = [
        (await done(http.post(f"{API}/mesh-networks", json={"name": name, "network_cidr": cidr})))["uuid"]
        for name, cidr in (("one", "10.1.0.0/24"), ("two", "10.2.0.0/24"))
    ]
    place, joins = f"/machines/{machine}/delete", {"machine_uuid": str(machine)}
    await done(http.post(f"{API}/mesh-networks/{first}/machines", json=joins))
    opened = hidden((await http.get(place, headers=SCRIPT)).text)
    await done(http.post(f"{API}/mesh-networks/{second}/machines", json=joins))
    refused = await http.post(place, data={**opened, "force": "true"}, headers=SCRIPT)
    assert refused.status_code == 409
    assert "two" in refused.text
    assert "checked" not in refused.text
    again = await http.post(place, data={**hidden(refused.text), "force": "true"}, headers=SCRIPT)
    assert again.headers["hx-redirect"] == "/machines"
