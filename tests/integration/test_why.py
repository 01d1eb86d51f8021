"""Why, and who held what, of a whole control plane: over the API and with the program."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2

from tests.integration.test_past import NETWORKS, Mesh, is_kind, mesh
from tests.support.gateway import create_network, done, register_machine
from tests.support.program import Ended, run_wireloom
from tests.support.reach_net import direct, unreachable
from tests.support.secured_plane import API, secured_plane
from tests.support.waiting import wait_until

__all__ = ["mesh"]

WHY = f"{API}/why"
LEDGER = f"{API}/ledger"


async def why(http: httpx2.AsyncClient, what: str, **params: Any) -> Any:
    """The one chain of a question."""
    (item,) = (await done(http.get(f"{WHY}/{what}", params=params)))["items"]
    return item


async def ledger(http: httpx2.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await done(http.get(LEDGER, params=params)))["items"]
    return found


def walk(step: Any) -> Iterator[Any]:
    yield step
    for cause in step["follows_from"]:
        yield from walk(cause)


def texts(step: Any, what: str) -> list[str]:
    return [each["text"] for each in walk(step) if each["what"] == what]


async def program(mesh: Mesh, *arguments: str) -> Ended:
    return await asyncio.to_thread(run_wireloom, *arguments, WIRELOOM_URL=str(mesh.http.base_url))


async def through_another(mesh: Mesh, office: UUID) -> tuple[UUID, UUID, UUID]:
    """Two machines that reach each other through a third."""
    one, two, via = [await mesh.join(office, name) for name in ("one", "two", "via")]
    await mesh.report(office, via, direct(one), direct(two))
    await mesh.report(office, one, direct(via), unreachable(two))
    await mesh.report(office, two, direct(via), unreachable(one))
    await wait_until(lambda: is_kind(mesh, office, one, two, "transit"), what="they reach each other through the third")
    return one, two, via


async def test_why_a_machine_is_a_peer_and_why_it_is_one_no_more(mesh: Mesh) -> None:
    office = await create_network(mesh.http, "office", "10.1.0.0/16")
    one, two = [await mesh.join(office, name) for name in ("one", "two")]
    await done(mesh.http.patch(f"{API}/machines/{two}", json={"hostname": "deux"}, headers=by("cli:anna")))
    there, _ = await mesh.held()
    chain = await why(mesh.http, "peer", machine=one, peer=two)
    assert chain["text"] == "deux is a peer of one in office"
    record = chain["follows_from"][0]
    assert record["subject"] == f"state.network.{office}.peer.{two}"
    assert [field["text"].split(" ")[1] for field in record["follows_from"]] == ["address", "hostname", "key"]
    assert "renamed machine two to deux" in texts(chain, "event")
    assert {"cli:anna", "the agent of deux", "http:local"} == set(texts(chain, "actor"))

    removed = await mesh.http.delete(f"{NETWORKS}/{office}/machines/{two}", headers=by("cli:ben"))
    chain = await why(mesh.http, "peer", machine=one, peer=two)
    assert chain["text"] == "deux is not a peer of one: they have no network in common"
    assert removed.headers["X-Command-Id"] in [uuid for step in walk(chain) for uuid in step["uuids"]]
    assert "unassigned deux from office, which frees 10.1.0.2" in texts(chain, "event")
    named = await why(mesh.http, "peer", machine=one, peer=two, network=office)
    assert named["text"] == "deux is not a peer of one in office"
    assert (await why(mesh.http, "peer", machine=one, peer=two, at=there))["text"] == "deux is a peer of one in office"

    await done(mesh.http.delete(f"{API}/machines/{two}"))
    assert "deleted machine deux" in texts(await why(mesh.http, "peer", machine=one, peer=two), "event")
    await done(mesh.http.delete(f"{NETWORKS}/{office}", params={"force": "true"}))
    chain = await why(mesh.http, "path", machine=one, peer=await register_machine(mesh.http, "three"), network=office)
    assert "deleted network office with its 1 machine" in texts(chain, "event")


def by(actor: str) -> dict[str, str]:
    return {"X-Wireloom-Actor": actor}


async def test_why_a_path_is_as_it_is_and_was(mesh: Mesh) -> None:
    office = await create_network(mesh.http, "office", "10.1.0.0/16")
    before = datetime.now(UTC)
    one, two, via = await through_another(mesh, office)
    cut = datetime.now(UTC)
    pair = {"machine": one, "peer": two}
    chain = await why(mesh.http, "path", **pair)
    assert chain["text"].startswith("one reaches two in office through via")
    assert "one reported that it does not reach two directly" in texts(chain, "report")
    assert "via reported that it reaches two directly" in " ".join(texts(chain, "report"))
    assert [step["subject"] for step in walk(chain) if step["stream"] == "PATHS"] == [
        f"pathstate.paths.{one}.path.{office}.{two}"
    ]
    await done(mesh.http.patch(f"{API}/machines/{via}", json={"transit": "never"}, headers=by("cli:anna")))
    await wait_until(lambda: is_kind(mesh, office, one, two, "none"), what="there is no way")
    chain = await why(mesh.http, "path", **pair)
    assert chain["text"] == "one does not reach two in office: there is no way"
    assert "not through via, which reaches both" in texts(chain, "thing")
    assert "had no traffic of others go through via" in texts(chain, "event")
    await mesh.report(office, one, direct(two))
    await mesh.report(office, two, direct(one))
    await wait_until(lambda: is_kind(mesh, office, one, two, "direct"), what="they reach each other directly")
    assert (await why(mesh.http, "path", **pair))["text"].startswith("one reaches two in office directly")
    then = await why(mesh.http, "path", at=cut.isoformat(), **pair)
    assert then["text"].startswith("one reaches two in office through via")
    assert (await mesh.http.get(f"{WHY}/path", params=pair | {"at": before.isoformat()})).status_code == 404


async def test_why_a_prefix_is_announced_or_not(mesh: Mesh) -> None:
    office = await create_network(mesh.http, "office", "10.1.0.0/16")
    one, two = [await mesh.join(office, name) for name in ("one", "two")]
    lan = {"name": "lan", "prefixes": ["10.20.0.0/16"], "machine_uuids": [str(one)]}
    route = await done(mesh.http.post(f"{API}/routes", json=lan, headers=by("cli:anna")))
    rule = {"sequence": 10, "action": "reject", "match_type": "prefix_list", "match_prefixes": ["10.20.0.0/16"]}
    policy = {"name": "edge", "direction": "import", "machine_uuids": [str(two)], "rules": [rule]}
    await done(mesh.http.post(f"{API}/route-policies", json=policy, headers=by("cli:ben")))
    end, _ = await mesh.held()
    chain = await why(mesh.http, "route", prefix="10.20.0.0/16", machine=two)
    assert chain["text"] == "two has no route to 10.20.0.0/16 in office"
    assert "the import policy edge, two's own, rejects it, by rule 10" in texts(chain, "record")
    assert "created route lan: 10.20.0.0/16 behind one" in texts(chain, "event")
    assert {"cli:anna", "cli:ben"} <= set(texts(chain, "actor"))
    await done(mesh.http.delete(f"{API}/routes/{route['uuid']}"))
    chain = await why(mesh.http, "route", prefix="10.20.0.0/16")
    assert chain["text"] == "10.20.0.0/16 is announced nowhere"
    assert texts(chain, "event") == ["created route lan: 10.20.0.0/16 behind one", "deleted route lan"]
    assert (await why(mesh.http, "route", prefix="10.20.0.0/16", at=end))["text"].endswith("in office by one yet")


async def test_who_held_an_address_and_why_it_is_free(mesh: Mesh) -> None:
    lab = await create_network(mesh.http, "lab", "10.1.0.0/24")
    old = await mesh.join(lab, "old")
    await done(mesh.http.patch(f"{NETWORKS}/{lab}", json={"name": "cave"}))
    held, _ = await mesh.held()
    await done(mesh.http.delete(f"{NETWORKS}/{lab}", params={"force": "true"}))
    office = await create_network(mesh.http, "office", "10.1.0.0/16")
    one, two = [await register_machine(mesh.http, name) for name in ("one", "two")]
    place = f"{NETWORKS}/{office}/machines"
    await done(mesh.http.post(place, json={"machine_uuid": str(one)}))
    await done(mesh.http.delete(f"{place}/{one}", headers=by("cli:ben")))
    chain = await why(mesh.http, "address", address="10.1.0.1")
    assert chain["text"] == "10.1.0.1 is free in office"
    assert texts(chain, "thing")[1] == "one had it last"
    assert texts(chain, "actor")[0] == "cli:ben"
    await done(mesh.http.post(place, json={"machine_uuid": str(two)}))
    chain = await why(mesh.http, "address", machine=two)
    assert chain["text"] == "10.1.0.1 is two's in office"
    assert {"it was the lowest that was free then", "before that one had it"} <= set(texts(chain, "thing"))

    entries = await ledger(mesh.http, address="10.1.0.1")
    told = [(e["hostname"], e["mesh_network_name"], e["mesh_network_name_now"], e["held_until"]) for e in entries]
    assert [each[:3] for each in told] == [
        ("old", "lab", None),
        ("one", "office", "office"),
        ("two", "office", "office"),
    ]
    assert [entry["ended"] and entry["ended"]["kind"] for entry in entries] == [
        "network.deleted",
        "network.machines_unassigned",
        None,
    ]
    assert entries[1]["ended"]["actor"] == "cli:ben"
    assert [entry["hostname"] for entry in await ledger(mesh.http, address="10.1.0.1", at=held)] == ["old"]
    assert [entry["hostname"] for entry in await ledger(mesh.http, machine=old)] == ["old"]
    assert [entry["hostname"] for entry in await ledger(mesh.http, network=office)] == ["one", "two"]
    assert await pages(mesh.http) == await ledger(mesh.http)
    for asked in ({"network": str(uuid4())}, {"machine": str(uuid4())}):
        assert (await mesh.http.get(LEDGER, params=asked)).status_code == 404
    assert (await mesh.http.get(LEDGER, params={"after": "nonsense"})).status_code == 422
    asked = {"cave": ("--at", str(held)), "lab": ()}  # its name then, and the one before it was renamed
    for name, moment in asked.items():
        shown = await program(mesh, "ledger", "--network", name, *moment)
        assert shown.stdout.splitlines()[-1].split()[:2] == ["10.1.0.1", "old"]
    refused = await program(mesh, "why", "route", "datacenter")
    assert (refused.code, "neither a prefix nor a virtual IP" in refused.stderr) == (2, True)


async def pages(http: httpx2.AsyncClient) -> list[dict[str, Any]]:
    """The whole ledger, one by one."""
    found: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    while True:
        page = await done(http.get(LEDGER, params={"limit": 1} | after))
        found += page["items"]
        if page["next"] is None:
            return found
        after = {"after": page["next"]}


async def test_the_program_shows_the_chain(mesh: Mesh) -> None:
    office = await create_network(mesh.http, "office", "10.1.0.0/16")
    one, two, _ = await through_another(mesh, office)
    shown = await program(mesh, "why", "path", "one", "two")
    assert shown.code == 0, shown.stderr
    assert shown.stdout.startswith("one reaches two in office through via")
    assert "├── the control plane chose the way through via" in shown.stdout
    assert "assigned one to office as 10.1.0.1\n" in shown.stdout
    assert (await program(mesh, "why", "peer", "one", "nobody")).code == 3
    for what, asked in (("peer", {"machine": one, "peer": one}), ("route", {"prefix": "10.1.0.1/16"})):
        assert (await mesh.http.get(f"{WHY}/{what}", params=asked)).status_code == 422
    assert (await why(mesh.http, "address", address="10.9.9.9"))[
        "text"
    ] == "10.9.9.9 is in no network, and is no virtual IP"
    assert (await mesh.http.get(f"{WHY}/peer", params={"machine": one, "peer": uuid4()})).status_code == 404
    assert (await mesh.http.get(f"{WHY}/address", params={"machine": one, "address": "10.1.0.1"})).status_code == 422
    assert (await mesh.http.get(f"{WHY}/address", params={"machine": two, "network": uuid4()})).status_code == 404


async def test_the_chain_ends_at_the_account_and_its_token(tmp_path: Path) -> None:
    async with secured_plane(tmp_path) as plane:
        anna = await plane.account("anna", "operator")
        office = await create_network(anna, "office", "10.1.0.0/16")
        machine = await plane.enrolled("one")
        place = f"{NETWORKS}/{office}/machines"
        given = await anna.post(place, json={"machine_uuid": str(machine.id), "wg_ip_address": "10.1.0.9"})
        chain = await why(anna, "address", address="10.1.0.9")
        session = await done(anna.get(f"{API}/session"))
        actor = next(step for step in walk(chain) if step["what"] == "actor")
        assert actor["text"] == "account anna, with the token test"
        assert actor["uuids"][0] == session["account"]["uuid"]
        assert len(actor["uuids"]) == 2
        assert "it was asked for: the lowest that was free then was 10.1.0.1" in texts(chain, "thing")
        (entry,) = await ledger(anna, network=office)
        assert entry["began"]["actor"] == "account:anna/test"
        assert entry["began"]["command_id"] == given.headers["X-Command-Id"]
