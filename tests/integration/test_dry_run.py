"""Changes that are only tried: nothing moves, and the change itself then does what was said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import orjson
import pytest

from events import bus, log
from events.bus import ERROR_CODE_HEADER
from events.errors import InvalidInputError
from events.preview import DRY_RUN_HEADER, PreviewAnswer
from events.subjects import ALLOCATOR_PREVIEW, command
from services.gateway.http.app import routes
from services.gateway.http.changes import may_be_tried
from tests.integration.test_gateway_access import Case, Targets, cases
from tests.integration.test_past import NETWORKS, Mesh, is_kind, mesh
from tests.support.gateway import create_network, done, register_machine
from tests.support.reach_net import direct, unreachable
from tests.support.secured_plane import API, SecuredPlane, secured_plane
from tests.support.waiting import wait_until

__all__ = ["mesh"]

TRIED = {"dry_run": "true"}
UNTRIED = {
    ("POST", f"{API}/session"),
    ("DELETE", f"{API}/session"),
    ("POST", f"{API}/agents/challenge"),
    ("POST", f"{API}/agents/enrol"),
    ("POST", f"{API}/agents/renew"),
    ("POST", f"{API}/bus-credentials"),
    ("POST", f"{API}/log/checkpoints"),
    ("POST", f"{API}/log/verification"),
}
"""What is more than its commands, or takes none."""

UNDO = ("POST", f"{API}/commands/{{command_id}}/undo")
"""Has tests of its own."""


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[SecuredPlane]:
    async with secured_plane(tmp_path) as running:
        yield running


def alike(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events without what time does to them."""
    timeless = {"expires_at", "created_at"}
    return [
        {name: event[name] for name in ("kind", "actor", "command_id", "network_uuids", "machine_uuids")}
        | {"data": {name: value for name, value in event["data"].items() if name not in timeless}}
        for event in events
    ]


async def test_every_change_is_tried_and_then_made(plane: SecuredPlane) -> None:
    admin = await plane.admin()
    targets = Targets(admin, plane)
    known = cases(targets, str(await register_machine(admin, "db-1")))
    tryable = {
        (method, route.path) for route in routes() for method in route.methods or () if may_be_tried(route.dependant)
    }
    changing = {(method, path) for method, path in known if method != "GET"}
    assert tryable | {UNDO} == changing - UNTRIED | {UNDO}
    for method, path in sorted(tryable - {UNDO}):
        case = known[method, path]
        place, body = path.format(**await targets.make(case.target)), case.body()
        await tried_and_made(plane, admin, method, place, body, case)
    for method, path in UNTRIED:
        answer = await admin.request(method, path, params=TRIED, json=known[method, path].body())
        assert answer.status_code == 422, (method, path)
        assert "dry_run" in answer.text


async def tried_and_made(
    plane: SecuredPlane, admin: httpx2.AsyncClient, method: str, place: str, body: Any, case: Case
) -> None:
    before, headers = await plane.position(), {"Idempotency-Key": str(uuid4())}
    answer = await admin.request(method, place, params=TRIED, json=body, headers=headers)
    assert answer.status_code == 200, (method, place, answer.text)
    assert await plane.position() == before
    told = answer.json()
    assert told["position"] == before
    assert "wla_" not in answer.text
    assert "wlb_" not in answer.text
    assert "secret_hash" not in answer.text
    made = await admin.request(method, place, json=body, headers=headers)
    assert made.status_code == case.status, (method, place, made.text)
    events = (await done(admin.get(f"{API}/events", params={"after": before})))["items"]
    assert alike(told["events"]) == alike(events)
    assert [event["text"].partition(", until")[0] for event in told["events"]] == [
        event["text"].partition(", until")[0] for event in events
    ]
    again = await done(admin.request(method, place, params=TRIED, json=body, headers=headers))
    if events and method != "DELETE":
        assert [command["executed"] for command in again["commands"]] == [True]
        assert again["events"] == []
        assert again["effects"]["total"] == 0


async def test_a_change_that_would_be_refused_is_refused_the_same(mesh: Mesh) -> None:
    office = await create_network(mesh.http, "office", "10.1.0.0/16")
    await mesh.join(office, "one")
    for method, place, body in (
        ("DELETE", f"{NETWORKS}/{office}", None),
        ("DELETE", f"{NETWORKS}/{uuid4()}", None),
        ("POST", NETWORKS, {"name": "OFFICE", "network_cidr": "10.2.0.0/16"}),
        ("POST", NETWORKS, {"name": "lab", "network_cidr": "10.1.2.0/24"}),
        ("PATCH", f"{NETWORKS}/{office}", {"name": ""}),
    ):
        tried = await mesh.http.request(method, place, params=TRIED, json=body)
        made = await mesh.http.request(method, place, json=body)
        assert not made.is_success
        assert (tried.status_code, tried.json()) == (made.status_code, made.json())
    odd = await mesh.http.delete(f"{NETWORKS}/{office}", params={"dry_run": "perhaps"})
    assert odd.status_code == 422
    both = await mesh.http.delete(f"{NETWORKS}/{office}?force=true&dry_run=true&dry_run=false")
    assert both.status_code == 422
    unknown = await mesh.http.patch(f"{NETWORKS}/{office}", params=TRIED | {"force": "true"}, json={"name": "a"})
    assert unknown.status_code == 422


async def test_several_commands_are_tried_one_after_the_other(mesh: Mesh) -> None:
    office = await create_network(mesh.http, "office", "10.1.0.0/16")
    body = {"name": "bureau", "is_default": True, "route_reflector_mode": True}
    told = await done(mesh.http.patch(f"{NETWORKS}/{office}", params=TRIED, json=body))
    assert [command["kind"] for command in told["commands"]] == [
        "rename-network",
        "set-default-network",
        "set-route-reflector-mode",
    ]
    assert [event["text"] for event in told["events"]] == [
        "renamed network office to bureau",
        "made office the default network",
        "turned route reflector mode on in office",
    ]
    assert (await done(mesh.http.get(f"{NETWORKS}/{office}")))["name"] == "office"


async def test_losing_a_transit_tells_the_paths_that_go_through_it(mesh: Mesh) -> None:
    office = await create_network(mesh.http, "office", "10.1.0.0/16")
    one, two, via = [await mesh.join(office, name) for name in ("one", "two", "via")]
    await through(mesh, office, one, two, via)
    told = await done(mesh.http.delete(f"{NETWORKS}/{office}/machines/{via}", params=TRIED))
    changes = [(change["what"], change["kind"]) for change in told["effects"]["items"]]
    assert ("address", "removed") in changes
    assert ("peer", "removed") in changes
    assert ("path", "changed") in changes
    assert ("session", "removed") in changes
    lost = next(
        change for change in told["effects"]["items"] if (change["what"], change["kind"]) == ("path", "changed")
    )
    assert {machine["name"] for machine in lost["machines"]} == {"one", "two"}
    assert await mesh.kind(office, one, two) == "transit"


async def through(mesh: Mesh, office: UUID, one: UUID, two: UUID, via: UUID) -> None:
    """Have two machines reach each other through a third."""
    await mesh.report(office, via, direct(one), direct(two))
    await mesh.report(office, one, direct(via), unreachable(two))
    await mesh.report(office, two, direct(via), unreachable(one))
    await wait_until(lambda: is_kind(mesh, office, one, two, "transit"), what="they reach each other through the third")


async def test_who_would_join_becomes_a_peer_later(mesh: Mesh) -> None:
    office = await create_network(mesh.http, "office", "10.1.0.0/16")
    await mesh.join(office, "one")
    new = await register_machine(mesh.http, "new")
    told = await done(mesh.http.post(f"{NETWORKS}/{office}/machines", params=TRIED, json={"machine_uuid": str(new)}))
    assert told["commands"][0]["assignments"] == [{"machine_uuid": str(new), "wg_ip_address": "10.1.0.2"}]
    changes = [(change["what"], change["kind"]) for change in told["effects"]["items"]]
    assert changes == [("address", "added"), ("path", "added"), ("session", "added")]
    assert told["later"] == [
        "new becomes a peer of one in office once its agent has announced a key; then each two of them have a path and "
        "a BGP session.",
        "new is offline now, and will do so when back.",
    ]


async def test_what_agents_do_is_told_as_coming_later(mesh: Mesh) -> None:
    office = await create_network(mesh.http, "office", "10.1.0.0/16")
    new, other = [await register_machine(mesh.http, name) for name in ("new", "other")]

    async def later(method: str, place: str, body: Any = None) -> list[str]:
        return list((await done(mesh.http.request(method, place, params=TRIED, json=body)))["later"])

    place = f"{NETWORKS}/{office}/machines"
    assert (await later("POST", place, {"machine_uuid": str(new)}))[0] == (
        "new has no peers in office until it and another machine there have announced a key."
    )
    both = {"machine_uuids": [str(new), str(other)]}
    assert await later("POST", f"{place}/batch", both) == [
        "new and other become peers of each other in office once their agents have announced a key; then each two of "
        "them have a path and a BGP session.",
        "new and other are offline now, and will do so when back.",
    ]
    one = await mesh.join(office, "one")
    await mesh.join(office, "two")
    assert await later("POST", f"{API}/machines/{one}/rotate-key", {}) == [
        "one makes itself a new key in office, when it is back online. Then its peer there can take it in."
    ]
    assert "step by step" in (await later("PATCH", f"{NETWORKS}/{office}", {"route_reflector_mode": True}))[0]
    assert await later("PATCH", f"{NETWORKS}/{office}", {"name": "bureau"}) == []


async def test_programs_try_commands_too(mesh: Mesh) -> None:
    office = await create_network(mesh.http, "office", "10.1.0.0/16")
    before = await log.last_sequence(mesh.client)
    body = orjson.dumps({"network_id": str(office), "name": "bureau"})
    for header in (DRY_RUN_HEADER, "wl-dry-run"):
        reply = await mesh.client.request(command("rename-network"), body, headers={header: "1"}, timeout=30)
        told = orjson.loads(reply.data)
        assert [event["text"] for event in told["events"]] == ["renamed network office to bureau"]
        assert [change["what"] for change in told["effects"]["items"]] == ["network"]
    for name, header, code in (("bureau", "yes", 422), ("bureau", "", 422), ("no good name!", "1", 422)):
        body = orjson.dumps({"network_id": str(office), "name": name})
        reply = await mesh.client.request(command("rename-network"), body, headers={DRY_RUN_HEADER: header}, timeout=30)
        assert reply.headers is not None
        assert reply.headers[ERROR_CODE_HEADER] == str(code)
    assert await log.last_sequence(mesh.client) == before


async def test_real_commands_do_not_wait_for_previews(mesh: Mesh) -> None:
    """A crowd of previews waits in line; each command is decided after one of them at most."""
    request = {"kind": "register-machine", "command_id": str(uuid4()), "actor": "t:t", "machine_id": str(uuid4())}
    body = orjson.dumps({"commands": [request | {"hostname": "m"}]})
    asked = [asyncio.create_task(bus.ask(mesh.client, ALLOCATOR_PREVIEW, body, 20)) for _ in range(200)]
    await asyncio.sleep(0)
    await register_machine(mesh.http, "real")
    waiting = sum(not task.done() for task in asked)
    assert waiting > 0
    answers = [PreviewAnswer.model_validate_json(answer) for answer in await asyncio.gather(*asked)]
    assert all(answer.commands[0].done().changed for answer in answers)
    assert {answer.position for answer in answers} <= {0, 1}


async def test_odd_previews_are_refused(mesh: Mesh) -> None:
    one = {"kind": "set-default-network", "command_id": str(uuid4()), "actor": "t:t", "network_id": None}
    for body in (b"", b"[]", {"commands": []}, {"commands": [one, one]}, {"commands": [{}]}, {"commands": [one] * 65}):
        with pytest.raises(InvalidInputError):
            await bus.ask(mesh.client, ALLOCATOR_PREVIEW, body if isinstance(body, bytes) else orjson.dumps(body), 5)
