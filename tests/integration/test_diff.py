"""What changed between two moments of a whole control plane, through the API and the CLI."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from typer.testing import CliRunner, Result

from events import log
from events.errors import WireloomError
from services.cli import main
from services.gateway.diff import difference, effects
from services.gateway.http import diff
from services.gateway.words import networks_of
from tests.integration.test_past import NETWORKS, Mesh, is_kind, mesh
from tests.support.gateway import create_network, done
from tests.support.reach_net import direct, unreachable
from tests.support.waiting import wait_until

__all__ = ["mesh"]

DIFF = "/api/v1/diff"


async def told(mesh: Mesh, before: object, after: object = "now", **params: Any) -> dict[str, Any]:
    """The API's answer."""
    found: dict[str, Any] = await done(mesh.http.get(DIFF, params={"from": str(before), "to": str(after)} | params))
    return found


def texts(found: dict[str, Any]) -> list[str]:
    return [change["text"] for change in found["items"]]


async def wireloom(mesh: Mesh, *arguments: str) -> Result:
    environment = {"WIRELOOM_URL": str(mesh.http.base_url), "XDG_CONFIG_HOME": "/nonexistent"}
    return await asyncio.to_thread(CliRunner().invoke, main.app, ["diff", *arguments], env=environment)


async def cut(mesh: Mesh, network: UUID, one: UUID, other: UUID, via: UUID) -> None:
    """Have two machines reach each other through a third."""
    await mesh.report(network, via, direct(one), direct(other))
    await mesh.report(network, one, direct(via), unreachable(other))
    await mesh.report(network, other, direct(via), unreachable(one))
    await wait_until(lambda: is_kind(mesh, network, one, other, "transit"), what="they reach each other through it")


async def test_what_was_decided_and_reported_meanwhile(mesh: Mesh) -> None:
    office = await create_network(mesh.http, "office", "10.1.0.0/16")
    one, two, via = [await mesh.join(office, name) for name in ("one", "two", "via")]
    await cut(mesh, office, one, two, via)
    began = datetime.now(UTC)
    position, _ = await mesh.held()

    await mesh.report(office, one, direct(two))
    await mesh.report(office, two, direct(one))
    await mesh.report(office, via, direct(one, 50))
    await done(mesh.http.patch(f"{NETWORKS}/{office}", json={"name": "bureau"}))
    await mesh.join(office, "three")
    found = await told(mesh, began.isoformat())
    assert texts(found) == [
        "network office is called bureau",
        "there is a machine three",
        "three has 10.1.0.4 in bureau",
        f"three is a peer in bureau (key {found['items'][3]['after']})",
        "one and three in bureau have not told yet how they reach each other",
        "three and two in bureau have not told yet how they reach each other",
        "three and via in bureau have not told yet how they reach each other",
        "one and two in bureau reach each other directly, before through via",
        "one and via in bureau reach each other in 50 ms, before in 10 ms",
        "one and three are to speak BGP in bureau",
        "three and two are to speak BGP in bureau",
        "three and via are to speak BGP in bureau",
    ]
    assert (found["from"]["position"], found["total"], found["left_out"]) == (position, 12, [])
    assert found["to"]["position"] == await log.last_sequence(mesh.client)
    assert [change["is_lesser"] for change in found["items"]].count(True) == 1
    back = await told(mesh, "now", began.isoformat())
    assert {change["kind"] for change in back["items"]} == {"removed", "changed"}
    assert "one and two in office reach each other through via, before direct" in texts(back)

    await mesh.report(office, one, unreachable(two))
    await mesh.report(office, two, unreachable(one))
    await mesh.report(office, via, direct(one))
    await done(mesh.http.patch(f"{NETWORKS}/{office}", json={"name": "office"}))
    await done(mesh.http.delete(f"/api/v1/machines/{found['items'][1]['machines'][0]['uuid']}?force=true"))
    assert texts(await told(mesh, began.isoformat())) == [], "all was changed back"


async def test_what_is_not_a_moment_or_a_network_is_refused(mesh: Mesh) -> None:
    office = await create_network(mesh.http, "office", "10.1.0.0/16")
    for params, status, field in (
        ({}, 422, "from"),
        ({"from": "foo"}, 422, "from"),
        ({"from": "0", "to": "3000-01-01"}, 422, "to"),
        ({"from": "0", "at": "1"}, 422, "compares two moments"),
        ({"from": "99"}, 404, "from"),
        ({"from": "0", "to": "99"}, 404, "to"),
        ({"from": "0", "limit": "0"}, 422, "limit"),
        ({"from": "0", "network": "nowhere"}, 404, "network"),
    ):
        answer = await mesh.http.get(DIFF, params=params)
        assert (answer.status_code, field in answer.text) == (status, True), answer.text
    unknown = await mesh.http.get(DIFF, params={"from": "0", "network": str(uuid4())})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not-found")
    await done(mesh.http.delete(f"{NETWORKS}/{office}"))
    found = await told(mesh, 1, network=str(office))
    assert texts(found) == ["there is no network office any more"], "it need not be there any more"


async def test_of_very_many_networks_not_all_are_looked_into(mesh: Mesh, monkeypatch: Any) -> None:
    monkeypatch.setattr(diff, "LOOKED_INTO", 1)
    networks = [await create_network(mesh.http, f"net-{number}", f"10.{number}.0.0/24") for number in range(2)]
    for number, network in enumerate(networks):
        for other in range(2):
            await mesh.join(network, f"m-{number}-{other}")
    found = await told(mesh, 2)
    assert [each["name"] for each in found["left_out"]] == ["net-1"]
    assert {change["mesh_network"]["name"] for change in found["items"] if change["what"] == "path"} == {"net-0"}
    alone = await told(mesh, 2, network=str(networks[1]), limit=1)
    assert (alone["left_out"], len(alone["items"]), alone["total"] > 1) == ([], 1, True)
    assert next(tally for tally in alone["tallies"] if tally["what"] == "path")["added"] == 1


async def test_what_events_would_do(mesh: Mesh) -> None:
    office = await create_network(mesh.http, "office", "10.1.0.0/16")
    one, two, via = [await mesh.join(office, name) for name in ("one", "two", "via")]
    await cut(mesh, office, one, two, via)
    end, held = await mesh.held()
    await done(mesh.http.delete(f"{NETWORKS}/{office}/machines/{via}"))
    events = [logged.event for logged in await log.read(mesh.client, end, 10)]
    await mesh.join(office, "three")
    before, after = await mesh.pasts.supposing(events, end)
    found = await effects(before, after, {network for event in events for network in networks_of(event)})
    assert [change.text for change in found.changes] == [
        "via has 10.1.0.3 in office no more",
        "via is a peer in office no more",
        "one and via in office have a path no more, before direct",
        "two and via in office have a path no more, before direct",
        "one and two in office do not reach each other, before through via",
        "one and via are not to speak BGP in office any more",
        "two and via are not to speak BGP in office any more",
    ]
    assert difference(before, after) == found
    assert held


async def test_the_command(mesh: Mesh) -> None:
    office = await create_network(mesh.http, "office", "10.1.0.0/16")
    await mesh.join(office, "hub")
    position, _ = await mesh.held()
    for number in range(10):
        await mesh.join(office, f"node-{number}")
    await done(mesh.http.post(f"{NETWORKS}", json={"name": "other", "network_cidr": "10.2.0.0/16"}))

    shown = await wireloom(mesh, str(position), "--network", "office")
    lines = shown.stdout.splitlines()
    assert shown.exit_code == 0
    assert f"(log position {position}) to 20" in lines[0]
    assert lines[2:4] == ["Machines", "  + there is a machine node-0"]
    assert "  + 55 pairs in office have not told yet how they reach each other" in lines
    assert lines[-1] == "140 changes: 140 added."
    assert "--whole tells each" in shown.stderr
    whole = await wireloom(mesh, str(position), "now", "-n", "office", "--whole", "--limit", "20")
    assert "120 more lines are not listed" in whole.stderr
    assert whole.stdout.splitlines()[-1] == "140 changes: 140 added."

    found = json.loads((await wireloom(mesh, "now", str(position), "--json")).stdout)
    assert found["to"]["position"] == position
    assert found["items"][0]["text"] == "there is no network other any more"
    await done(mesh.http.patch(f"{NETWORKS}/{office}", json={"name": "bureau"}))
    renamed = (await wireloom(mesh, str(position), "-n", "office")).stdout
    assert "  ~ network office is called bureau" in renamed.splitlines(), "it is known by each of its names"
    assert renamed.splitlines()[1:] == (await wireloom(mesh, str(position), "-n", "bureau")).stdout.splitlines()[1:]
    same = await wireloom(mesh, "1", "1")
    assert (same.exit_code, same.stdout.splitlines()[-1]) == (0, "Nothing changed.")
    await done(mesh.http.delete(f"{NETWORKS}/{office}?force=true"))
    gone = await wireloom(mesh, str(position), "-n", "office")
    assert "  - there is no network office any more" in gone.stdout.splitlines()
    for arguments, code in ((("foo",), 2), (("0", "9999"), 3), (("0", "-n", "nope"), 3)):
        refused = await wireloom(mesh, *arguments)
        assert isinstance(refused.exception, WireloomError)
        assert (refused.exception.exit_code, refused.stdout) == (code, "")
