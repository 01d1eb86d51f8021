"""Commands taken back through a whole control plane: over the API, by whom it may be, and with `wireloom undo`."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from nats.aio.client import Client

from events import bus, log, state
from events.commands import Undo
from events.errors import WireloomError
from events.records import MembershipRequest
from events.subjects import ask
from events.trust.permissions import inbox
from services.gateway import deeds
from services.gateway.programs import OFFERED
from services.topology.rebuild import compare
from tests.support.gateway import control_plane, create_network, deriving, done, register_machine
from tests.support.program import ControlPlane, free_port, running
from tests.support.secured_plane import API, secured_plane
from tests.support.waiting import wait_until

NETWORKS, COMMANDS = f"{API}/mesh-networks", f"{API}/commands"


@pytest.fixture
async def http(bus_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with control_plane(bus_url) as http:
        yield http


@pytest.fixture
async def client(bus_url: str) -> AsyncIterator[Client]:
    connection = await bus.connect(bus_url, "test")
    yield connection
    await connection.close()


async def assign(http: httpx2.AsyncClient, network: UUID, machine: UUID, **fields: Any) -> str:
    """Assign a machine; the command's id."""
    body = {"machine_uuid": str(machine)} | fields
    return str((await http.post(f"{NETWORKS}/{network}/machines", json=body)).headers["x-command-id"])


async def announce(bus_url: str, network: UUID, machine: UUID) -> None:
    """Have a machine's agent announce its key."""
    key = base64.b64encode(machine.bytes * 2).decode()
    request = MembershipRequest(network_id=network, public_key=key, listen_port=51820)
    agent = await bus.connect(bus_url, "agent", inbox=inbox(str(machine)))
    await bus.ask(agent, ask(machine, "membership"), request.model_dump_json().encode(), 5)
    await agent.close()


async def refused(http: httpx2.AsyncClient, path: str, status: int, **more: Any) -> dict[str, Any]:
    """The problem with which an undo is refused."""
    answer = await http.post(path, **more)
    assert answer.status_code == status, answer.text
    problem: dict[str, Any] = answer.json()
    return problem


async def test_an_undo_and_its_undo(http: httpx2.AsyncClient) -> None:
    office = await create_network(http, "office", "172.16.0.0/24")
    renamed = await http.patch(f"{NETWORKS}/{office}", json={"name": "main"}, headers={"X-Wireloom-Actor": "cli:ann"})
    told = await done(http.get(f"{COMMANDS}/{renamed.headers['x-command-id']}"))
    assert (told["actor"], told["undo"]["possible"], told["undo"]["role"]) == ("cli:ann", True, "operator")
    assert [event["text"] for event in told["events"]] == ["renamed network office to main"]
    assert [event["text"] for event in told["undo"]["events"]] == ["renamed network main to office"]

    path = f"{COMMANDS}/{told['command_id']}/undo"
    tried = await done(http.post(path, params={"dry_run": "true"}))
    assert [event["text"] for event in tried["events"]] == ["renamed network main to office"]
    key = {"Idempotency-Key": str(uuid4()), "X-Wireloom-Actor": "cli:ben"}
    undone = await http.post(path, headers=key, params={"position": told["events"][0]["sequence"]})
    assert undone.status_code == 200
    assert (undone.json()["undone"], undone.json()["changed"]) == (told["command_id"], True)
    assert undone.headers["x-command-id"] == undone.json()["command_id"] == key["Idempotency-Key"]
    assert [(event["actor"], event["text"]) for event in undone.json()["events"]] == [
        ("cli:ben", "renamed network main to office")
    ]
    assert (await done(http.get(f"{NETWORKS}/{office}")))["name"] == "office"
    assert (await http.post(path, headers=key)).json() == undone.json(), "a repetition is answered the same"

    problem = await refused(http, path, 409)
    assert problem["code"] == "cannot-undo"
    assert f"event {undone.json()['log_sequence']}, by cli:ben" in problem["detail"]
    told = await done(http.get(f"{COMMANDS}/{told['command_id']}"))
    assert (told["undo"]["possible"], told["undo"]["detail"]) == (False, problem["detail"])
    await done(http.post(f"{COMMANDS}/{key['Idempotency-Key']}/undo"))
    assert (await done(http.get(f"{NETWORKS}/{office}")))["name"] == "main"


async def test_an_address_that_somebody_else_has_now(http: httpx2.AsyncClient) -> None:
    office = await create_network(http, "office", "172.16.0.0/24")
    one, other = [await register_machine(http, name) for name in ("web-1", "web-2")]
    await assign(http, office, one)
    left = (await http.delete(f"{NETWORKS}/{office}/machines/{one}")).headers["x-command-id"]
    taken = await assign(http, office, other, wg_ip_address="172.16.0.1")
    problem = await refused(http, f"{COMMANDS}/{left}/undo", 409)
    assert problem["detail"].startswith("172.16.0.1 in the network office was given to web-2 since: event ")
    assert problem["hint"].endswith(f"wireloom undo {taken}")
    await done(http.post(f"{COMMANDS}/{taken}/undo"))
    await done(http.post(f"{COMMANDS}/{left}/undo"))
    assert (await done(http.get(f"{NETWORKS}/{office}/machines/{one}")))["wg_ip_address"] == "172.16.0.1"
    assert (await http.get(f"{NETWORKS}/{office}/machines/{other}")).status_code == 404


async def test_a_deleted_network_comes_back_for_machines_and_people(
    http: httpx2.AsyncClient, bus_url: str, client: Client
) -> None:
    office = await create_network(http, "office", "172.16.0.0/24", is_default=True)
    one, other, former = [await register_machine(http, name) for name in ("web-1", "web-2", "web-3")]
    for machine in (one, other, former):
        await assign(http, office, machine)
        await announce(bus_url, office, machine)
    await done(http.delete(f"{NETWORKS}/{office}/machines/{former}"))
    policy = {"name": "edge", "direction": "import", "network_uuids": [str(office)]}
    policy_uuid = (await done(http.post(f"{API}/route-policies", json=policy)))["uuid"]
    for again in range(2):
        deleted = await http.delete(f"{NETWORKS}/{office}", params={"force": "true"})
        assert deleted.is_success
        undone = await done(http.post(f"{COMMANDS}/{deleted.headers['x-command-id']}/undo"))
        assert [event["kind"] for event in undone["events"]] == [
            "network.created",
            "network.machines_assigned",
            "routing.policy_updated",
        ]
        found = await done(http.get(f"{NETWORKS}/{office}"))
        assert (found["name"], found["is_default"], found["machine_count"]) == ("office", True, 2)
        for machine, address in ((one, "172.16.0.1"), (other, "172.16.0.2")):
            member = await done(http.get(f"{NETWORKS}/{office}/machines/{machine}"))
            assert (member["wg_ip_address"], member["public_key"]) == (address, None)
            await announce(bus_url, office, machine)
        assert (await done(http.get(f"{API}/route-policies/{policy_uuid}")))["network_uuids"] == [str(office)]
        await wait_until(lambda: peers_of(http, one, 1), what="the two see each other again")
        await wait_until(lambda: is_as_derived(client), what=f"STATE is as a rebuild after {again + 1}")
    async with deriving(bus_url):  # another topology service begins from what stands in STATE
        await assign(http, office, former, wg_ip_address="172.16.0.3")
        await announce(bus_url, office, former)
        await wait_until(lambda: peers_of(http, one, 2), what="the third is seen, too")
        await wait_until(lambda: is_as_derived(client), what="STATE is as a rebuild")


async def peers_of(http: httpx2.AsyncClient, machine: UUID, count: int) -> bool:
    return len((await done(http.get(f"{API}/machines/{machine}/peers")))["items"]) == count


async def is_as_derived(client: Client) -> bool:
    return not await compare(client)


async def test_a_topology_service_that_reads_deletion_and_return_at_once(bus_url: str, client: Client) -> None:
    """What the deletion makes meaningless is purged before the same is written again."""
    async with control_plane(bus_url) as http:
        office = await create_network(http, "office", "172.16.0.0/24")
        machine = await register_machine(http, "web-1")
        await assign(http, office, machine)
        await announce(bus_url, office, machine)
        deleted = (await http.delete(f"{NETWORKS}/{office}", params={"force": "true"})).headers["x-command-id"]
        await done(http.patch(f"{API}/machines/{machine}", json={"hostname": "web-2"}))
        await done(http.post(f"{COMMANDS}/{deleted}/undo"))
        await announce(bus_url, office, machine)
        await wait_until(lambda: is_as_derived(client), what="STATE is as a rebuild")
    await client.jetstream().delete_stream("STATE")
    async with deriving(bus_url):
        end = await log.last_sequence(client)
        await wait_until(lambda: has_come_to(client, end), what="STATE is made anew")
        await wait_until(lambda: is_as_derived(client), what="and the same")


async def has_come_to(client: Client, end: int) -> bool:
    try:
        last = await state.last_message(client)
    except WireloomError:
        return False
    return last is not None and last.position >= end


async def test_a_command_is_found_far_back_in_the_log(
    http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deeds, "CHUNK", 2)
    first = (await http.post(NETWORKS, json={"name": "a", "network_cidr": "10.0.0.0/24"})).headers
    machines = [await register_machine(http, f"m{number}") for number in range(4)]
    path = f"{NETWORKS}/{(await done(http.get(NETWORKS)))['items'][0]['uuid']}/machines/batch"
    assigned = await http.post(path, json={"machine_uuids": [str(machine) for machine in machines]})
    for command_id, position in (
        (first["x-command-id"], first["x-log-sequence"]),
        (assigned.headers["x-command-id"], assigned.headers["x-log-sequence"]),
    ):
        found = await done(http.get(f"{COMMANDS}/{command_id}"))
        assert str(found["events"][-1]["sequence"]) == position
        assert found == await done(http.get(f"{COMMANDS}/{command_id}", params={"position": position}))
    problem = (await http.get(f"{COMMANDS}/{uuid4()}")).json()
    assert (problem["code"], "no event of the command" in problem["detail"]) == ("not-found", True)
    assert (await http.get(f"{COMMANDS}/{uuid4()}", params={"position": 10**12})).status_code == 404


async def test_who_may_undo_what(tmp_path: Path) -> None:
    async with secured_plane(tmp_path) as plane:
        admin, operator, viewer = [
            await plane.admin(),
            await plane.account("olga", "operator"),
            await plane.account("vera", "viewer"),
        ]
        body = {"name": "ann", "role": "viewer"}
        account = (await admin.post(f"{API}/accounts", json=body)).headers["x-command-id"]
        network = (await admin.post(NETWORKS, json={"name": "a", "network_cidr": "10.0.0.0/24"})).headers[
            "x-command-id"
        ]
        before = await plane.position()
        for who, path in ((viewer, network), (viewer, account), (operator, account)):
            problem = await refused(who, f"{COMMANDS}/{path}/undo", 403)
            assert problem["code"] == "forbidden"
            await refused(who, f"{COMMANDS}/{path}/undo", 403, params={"dry_run": "true"})
        assert await plane.position() == before
        seen = await done(viewer.get(f"{COMMANDS}/{account}"))
        assert (seen["undo"]["role"], "secret_hash" in str(seen)) == ("admin", False)
        assert (seen["undo"]["possible"], "yours is viewer" in seen["undo"]["detail"]) == (False, True)
        undone = await done(operator.post(f"{COMMANDS}/{network}/undo"))
        assert undone["events"][0]["actor"].startswith("account:olga")
        await done(admin.post(f"{COMMANDS}/{account}/undo"))


def test_programs_give_no_undo() -> None:
    """What role it takes, only the log says, which the gateway reads for people."""
    assert Undo not in OFFERED


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("undo")
    with running(folder / "up", "--data-dir", str(folder / "data"), "--bus-port", str(free_port())) as plane:
        yield plane


def test_wireloom_undo(plane: ControlPlane) -> None:
    plane.json("network", "create", "office", "172.16.0.0/24")
    plane.add_machines("web-1", "web-2")
    assert plane.run("machine", "assign", "web-1", "-n", "office").code == 0
    assert plane.run("machine", "unassign", "web-1", "-n", "office").code == 0
    assert plane.run("machine", "assign", "web-2", "-n", "office").code == 0
    told = plane.run("log", "--commands").stdout.splitlines()
    assert told[0].split() == ["Position", "Command", "Time", "Who", "What"]
    left = next(line.split() for line in told if "unassigned web-1" in line)
    for name in left[:2]:
        refused = plane.run("undo", name)
        assert (refused.code, refused.stdout) == (4, "")
        assert "172.16.0.1 in the network office was given to web-2 since: event" in refused.stderr
        assert "wireloom undo" in refused.stderr
    tried = plane.run("undo", "--last", "--dry-run")
    assert tried.stdout.startswith("What ")
    assert "unassigned web-2 from office" in tried.stdout
    assert tried.stdout.endswith("Nothing was changed.\n")
    undone = plane.run("undo", "--last")
    assert undone.code == 0
    assert "assigned web-2 to office as 172.16.0.1\nis taken back by:\n" in undone.stdout
    assert "Undone, by command" in undone.stdout
    answer = plane.json("undo", left[0])
    assert (answer["undone"], answer["changed"]) == (left[1], True)
    shown = plane.json("network", "show", "office")
    assert [machine["hostname"] for machine in shown["machines"]] == ["web-1"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "Say which command to undo."),
        (("1", "--last"), 2, "That names two commands."),
        (("nonsense",), 2, "neither the id of a command nor a position"),
        (("99999",), 3, "There is no event at the position 99999"),
        (("0",), 3, "There is no event at the position 0"),
        ((str(UUID(int=7)),), 3, "The log has no event of the command"),
    ],
)
def test_wireloom_undo_of_what_is_no_command(
    plane: ControlPlane, arguments: tuple[str, ...], code: int, said: str
) -> None:
    ended = plane.run("undo", *arguments)
    assert (ended.code, said in ended.stderr) == (code, True), ended.stderr
