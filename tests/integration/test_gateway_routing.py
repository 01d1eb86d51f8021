"""Routes, virtual IPs, route policies, gateways and pinned reflectors over HTTP, on a real control plane."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from tests.integration.test_gateway_http import refusal
from tests.support.gateway import control_plane, create_network, done, register_machine

ROUTES = "/api/v1/routes"
VIPS = "/api/v1/vips"
POLICIES = "/api/v1/route-policies"
NETWORKS = "/api/v1/mesh-networks"
MACHINES = "/api/v1/machines"


@pytest.fixture
async def http(bus_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with control_plane(bus_url) as client:
        yield client


async def assigned(http: httpx2.AsyncClient, hostname: str, *networks: UUID) -> str:
    machine_id = str(await register_machine(http, hostname))
    for network_id in networks:
        await done(http.post(f"{NETWORKS}/{network_id}/machines", json={"machine_uuid": machine_id}))
    return machine_id


async def test_a_route_from_creation_to_deletion(http: httpx2.AsyncClient) -> None:
    await create_network(http, "office", "172.16.0.0/24")
    gate, other = await assigned(http, "gate"), await assigned(http, "other")
    body = {"name": "lan", "prefixes": ["10.20.0.0/16", "203.0.113.0/24"], "machine_uuids": [gate]}
    response = await http.post(ROUTES, json=body)
    assert response.status_code == 201, response.text
    made = response.json()
    place = f"{ROUTES}/{made['uuid']}"
    assert response.headers["location"] == place
    assert list(made) == [
        "uuid", "name", "enabled", "prefixes", "machine_uuids", "machine_count", "created_at", "updated_at",
    ]  # fmt: skip
    assert {name: made[name] for name in body} == body
    assert (made["enabled"], made["machine_count"], made["created_at"]) == (True, 1, made["updated_at"])
    assert await done(http.get(place)) == made
    assert await done(http.get(ROUTES)) == {"items": [made], "total": 1, "next": None}

    changed = await done(http.patch(place, json={"enabled": False, "machine_uuids": [other, gate]}))
    assert (changed["enabled"], changed["machine_uuids"], changed["machine_count"]) == (False, [other, gate], 2)
    assert changed["prefixes"] == made["prefixes"]
    assert changed["updated_at"] > made["updated_at"] == changed["created_at"]
    assert (await http.delete(f"{MACHINES}/{other}")).status_code == 204
    assert (await done(http.get(place)))["machine_uuids"] == [gate]

    await done(http.post(ROUTES, json={"name": "dc", "prefixes": ["10.30.0.0/16"]}))
    for query, names in (
        ({"name": "LAN"}, ["lan"]),
        ({"machine_uuid": gate}, ["lan"]),
        ({"search": "10.30"}, ["dc"]),
        ({"sort": "-name"}, ["lan", "dc"]),
        ({"sort": "created_at"}, ["lan", "dc"]),
    ):
        found = await done(http.get(ROUTES, params=query))
        assert [item["name"] for item in found["items"]] == names, query
    first = await done(http.get(ROUTES, params={"limit": 1}))
    second = await done(http.get(ROUTES, params={"limit": 1, "after": first["next"]}))
    assert [first["items"][0]["name"], second["items"][0]["name"], second["next"]] == ["dc", "lan", None]

    assert (await http.delete(place)).status_code == 204
    assert (await refusal(http.get(place), 404))["code"] == "not-found"
    told = (await done(http.get("/api/v1/events", params={"before": 10**6, "limit": 1})))["items"][0]["text"]
    assert told == "deleted route lan"


async def test_what_is_refused_says_which_field(http: httpx2.AsyncClient) -> None:
    await create_network(http, "office", "172.16.0.0/24")
    await done(http.post(ROUTES, json={"name": "lan", "prefixes": ["10.20.0.0/16"]}))

    async def refused(path: str, status: int, code: str, field: str, **body: Any) -> None:
        problem = await refusal(http.post(path, json=body), status)
        assert (problem["code"], problem["field"]) == (code, field)
        assert problem["hint"]

    await refused(ROUTES, 409, "route-overlap", "prefixes", name="x", prefixes=["172.16.0.128/25"])
    await refused(ROUTES, 409, "prefix-taken", "prefixes", name="x", prefixes=["10.20.0.0/16"])
    await refused(ROUTES, 409, "name-taken", "name", name="LAN", prefixes=["10.30.0.0/16"])
    await refused(ROUTES, 422, "invalid-input", "body.prefixes.0", name="x", prefixes=["0.0.0.0/0"])
    await refused(ROUTES, 422, "invalid-input", "body.prefixes.0", name="x", prefixes=["10.0.0.1/16"])
    await refused(ROUTES, 422, "invalid-input", "machine_uuids", name="x", prefixes=["10.9.0.0/16"],
                  machine_uuids=[str(UUID(int=1))] * 2)  # fmt: skip
    await refused(ROUTES, 404, "not-found", "machine_uuid", name="x", prefixes=["10.9.0.0/16"],
                  machine_uuids=[str(uuid4())])  # fmt: skip
    await refused(VIPS, 409, "route-overlap", "address", name="x", address="172.16.0.200")
    await refused(VIPS, 422, "invalid-input", "body.address", name="x", address="127.0.0.1")
    await refused(VIPS, 422, "invalid-input", "health_check_type", name="x", address="203.0.113.1",
                  health_check_type="tcp")  # fmt: skip
    await refused(NETWORKS, 409, "route-overlap", "network_cidr", name="x", network_cidr="10.20.5.0/24")
    rules = [{"sequence": 1, "match_type": "community"}]
    await refused(POLICIES, 422, "invalid-input", "body.rules.0", name="x", direction="import", rules=rules)
    rules = [{"sequence": 1}, {"sequence": 1}]
    await refused(POLICIES, 422, "invalid-input", "rules", name="x", direction="import", rules=rules)


async def test_a_vip_and_its_health_check(http: httpx2.AsyncClient) -> None:
    one, two = await assigned(http, "web-1"), await assigned(http, "web-2")
    made = await done(http.post(VIPS, json={"name": "web", "address": "203.0.113.10", "machine_uuids": [one, two]}))
    assert list(made) == [
        "uuid", "name", "enabled", "address", "health_check_type", "health_check_target",
        "health_check_interval_seconds", "health_check_timeout_seconds", "health_check_healthy_threshold",
        "health_check_unhealthy_threshold", "health_check_holdoff_seconds", "machine_uuids", "machine_count",
        "created_at", "updated_at",
    ]  # fmt: skip
    assert (made["health_check_type"], made["machine_uuids"]) == ("none", [one, two])
    place = f"{VIPS}/{made['uuid']}"
    check = {"health_check_type": "http", "health_check_target": "/healthz", "health_check_holdoff_seconds": 3}
    checked = await done(http.patch(place, json=check))
    assert checked == made | check | {"updated_at": checked["updated_at"]}
    faster = await done(http.patch(place, json={"health_check_interval_seconds": 2}))
    assert (faster["health_check_target"], faster["health_check_timeout_seconds"]) == ("/healthz", 2)
    assert (await refusal(http.patch(place, json={"health_check_timeout_seconds": 3}), 422))["hint"]
    moved = await done(http.patch(place, json={"health_check_type": "", "machine_uuids": [two, one]}))
    assert (moved["health_check_type"], moved["health_check_target"]) == ("none", "")
    assert (moved["machine_uuids"], moved["health_check_interval_seconds"]) == ([two, one], 2)
    assert [item["uuid"] for item in (await done(http.get(VIPS, params={"search": "113.10"})))["items"]] == [
        made["uuid"]
    ]
    assert (await http.delete(place)).status_code == 204
    await refusal(http.get(place), 404)


async def test_a_policy_and_its_rules(http: httpx2.AsyncClient) -> None:
    office = await create_network(http, "office", "172.16.0.0/24")
    gate = await assigned(http, "gate", office)
    rule = {"sequence": 20, "match_type": "prefix_list", "match_prefixes": ["10.0.0.0/8"], "match_prefix_len_max": 24,
            "set_local_pref": 50, "add_communities": ["65000:1"]}  # fmt: skip
    body = {"name": "edge", "direction": "import", "rules": [rule, {"sequence": 10, "action": "reject"}],
            "network_uuids": [str(office)]}  # fmt: skip
    made = await done(http.post(POLICIES, json=body))
    assert list(made) == [
        "uuid", "name", "description", "direction", "default_action", "local_pref", "rules", "network_uuids",
        "machine_uuids", "created_at", "updated_at",
    ]  # fmt: skip
    assert [each["sequence"] for each in made["rules"]] == [10, 20]
    assert {name: made["rules"][1][name] for name in rule} == rule
    place = f"{POLICIES}/{made['uuid']}"
    changed = await done(http.patch(place, json={"default_action": "reject", "local_pref": 70}))
    assert (changed["default_action"], changed["local_pref"], changed["rules"]) == ("reject", 70, made["rules"])
    changed = await done(http.patch(place, json={"rules": [], "local_pref": None, "machine_uuids": [gate]}))
    assert (changed["default_action"], changed["local_pref"], changed["rules"]) == ("reject", None, [])
    problem = await refusal(http.post(POLICIES, json=body | {"name": "two"}), 409)
    assert (problem["code"], problem["field"]) == ("policy-taken", "network_uuids")
    for query in ({"network_uuid": str(office)}, {"machine_uuid": gate}):
        assert (await done(http.get(POLICIES, params=query)))["total"] == 1
    assert (await http.delete(f"{NETWORKS}/{office}", params={"force": "true"})).status_code == 204
    assert (await done(http.get(place)))["network_uuids"] == []
    assert (await http.delete(place)).status_code == 204


async def test_gateways_and_reflectors(http: httpx2.AsyncClient) -> None:
    office = await create_network(http, "office", "172.16.0.0/24")
    lab = await create_network(http, "lab", "10.0.0.0/24")
    gate, other = await assigned(http, "gate", office, lab), await assigned(http, "other", office)
    place = f"{MACHINES}/{gate}/gateway"
    assert await done(http.get(place)) == {"machine_uuid": gate, "network_uuids": []}
    both = {"network_uuids": [str(office), str(lab)]}
    assert await done(http.put(place, json=both)) == {"machine_uuid": gate, **both}
    assert await done(http.get(place)) == {"machine_uuid": gate, **both}
    problem = await refusal(http.put(f"{MACHINES}/{other}/gateway", json=both), 409)
    assert (problem["code"], problem["field"]) == ("not-a-member", "network_uuids")
    assert (await done(http.put(place, json={"network_uuids": []})))["network_uuids"] == []
    await refusal(http.get(f"{MACHINES}/{uuid4()}/gateway"), 404)

    place = f"{NETWORKS}/{office}/reflectors"
    assert await done(http.get(place)) == {"network_uuid": str(office), "machine_uuids": []}
    pins = {"machine_uuids": [other, gate]}
    assert await done(http.put(place, json=pins)) == {"network_uuid": str(office), **pins}
    assert await done(http.get(place)) == {"network_uuid": str(office), **pins}
    assert (await refusal(http.put(place, json={"machine_uuids": [gate]}), 422))["field"] == "machine_uuids"
    assert (await done(http.put(place, json={"machine_uuids": []})))["machine_uuids"] == []
