"""Routes and virtual IPs with real BIRD and real WireGuard: five machines, and a host behind one of them."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deploy.lab.lab import IP
from deploy.lab.machine import LabError, Machine, Program
from deploy.lab.mesh import AGENT, Json, Mesh, wait_for
from tests.lab.watching import FIVE, NETWORK, interface_of, unbroken_ping

pytestmark = [pytest.mark.lab, pytest.mark.timed, pytest.mark.timeout(240)]

LAN, HOST = "10.50.0.0/24", "10.50.0.2"
VIP = "203.0.113.10"
PORT = 8080
_SERVICE = f"""
import socket, sys
server = socket.create_server(("", {PORT}))
print("ready", flush=True)
while True:
    connection, _ = server.accept()
    connection.sendall(sys.argv[1].encode())
    connection.close()
"""


def uuid_of(mesh: Mesh, name: str) -> str:
    """A machine's id."""
    return next(m["uuid"] for m in mesh.get("machines?limit=1000")["items"] if m["hostname"] == name)


@pytest.fixture(scope="module")
def host(mesh: Mesh) -> Machine:
    """A machine that is in no mesh, in a network behind the first machine."""
    router, host = mesh.lab.machines[FIVE[0]], mesh.lab.make_machine("host")
    router.run(IP, text=f"link add lan0 type veth peer name eth0 netns {host.pid}", only_network=True)
    router.run(IP, text="link set lan0 up\naddress add 10.50.0.1/24 dev lan0")
    host.run(IP, text=f"link set eth0 up\naddress add {HOST}/24 dev eth0\nroute add default via 10.50.0.1")
    return host


@contextmanager
def made(mesh: Mesh, what: str, **fields: object) -> Iterator[str]:
    """A route or virtual IP, gone afterwards; its path."""
    item = mesh.send("POST", what, {"name": "in-the-lab", **fields})
    path = f"{what}/{item['uuid']}"
    try:
        yield path
    finally:
        mesh.send("DELETE", path, {})


@contextmanager
def service(machine: Machine) -> Iterator[Program]:
    """A service that says the machine's name to whoever connects."""
    program = machine.start("service", ["python3", "-c", _SERVICE, machine.name])
    try:
        wait_for(lambda: "ready" in program.log.read_text(), "the service to listen")
        yield program
    finally:
        program.kill()
        program.log.write_text("")


def who_answers(client: Machine, timeout: float = 0.3) -> str:
    """The machine that answers for the virtual IP; empty for none."""
    try:
        with client.network():
            connection = socket.create_connection((VIP, PORT), timeout)
        with connection:
            return connection.recv(100).decode()
    except OSError:
        return ""


def until_answers(client: Machine, name: str) -> float:
    """Seconds until a machine answers for the virtual IP."""
    begun = time.monotonic()
    wait_for(lambda: who_answers(client) == name, f"{name} to answer at {client.name}")
    return time.monotonic() - begun


def allowed_ips(machine: Machine) -> str:
    return machine.run(["wg", "show", "all", "allowed-ips"])


def learnt(machine: Machine) -> list[Json]:
    try:
        found: list[Json] = json.loads(machine.run(["ip", "-json", "route", "show", "table", "20179"]))
    except LabError:  # there is no such table yet
        return []
    return found


def forwarding(machine: Machine) -> dict[str, str]:
    said = machine.run(["sh", "-c", "cd /proc/sys/net/ipv4/conf && grep . */forwarding"])
    return {line.partition("/")[0]: line.rpartition(":")[2] for line in said.splitlines()}


def test_what_lies_behind_a_machine_is_reached_by_the_others_until_it_is_withdrawn(mesh: Mesh, host: Machine) -> None:
    first, second, third = (mesh.lab.machines[name] for name in FIVE[:3])
    assert set(forwarding(first).values()) == {"0"}
    tunnel, _ = interface_of(first)
    with made(mesh, "routes", prefixes=[LAN], machine_uuids=[uuid_of(mesh, FIVE[0])]) as path:
        for member in (second, third):
            wait_for(lambda member=member: member.ping(HOST, 0.3), f"{member.name} to reach {HOST}")
        assert host.ping(mesh.addresses(NETWORK)[second.name]) is not None
        assert LAN in allowed_ips(second)
        assert [route["dst"] for route in learnt(second)] == [LAN]
        opened = {name for name, value in forwarding(first).items() if value == "1"}
        assert opened == {tunnel, "lan0"}
        mesh.send("PATCH", path, {"enabled": False})
        wait_for(lambda: LAN not in allowed_ips(second) and not learnt(second), "the route to be withdrawn")
        assert second.ping(HOST, 0.3) is None
        wait_for(lambda: set(forwarding(first).values()) == {"0"}, "forwarding to be off again")


def test_agents_that_begin_anew_disturb_nothing_also_without_a_control_plane(mesh: Mesh, host: Machine) -> None:
    first, second = (mesh.lab.machines[name] for name in FIVE[:2])
    with made(mesh, "routes", prefixes=[LAN], machine_uuids=[uuid_of(mesh, FIVE[0])]):
        wait_for(lambda: second.ping(HOST, 0.3), f"{second.name} to reach {HOST}")
        mesh.kill_control_plane()
        try:
            with unbroken_ping(second, HOST):
                for machine in (first, second):
                    assert mesh.agents[machine.name].stop() == 0
                    mesh.start_agent(machine)
                    log = mesh.agents[machine.name].log
                    wait_for(lambda log=log: "BIRD runs already" in log.read_text(), "the agent to find its BIRD")
            await_sessions(mesh, [4] * 5)
        finally:
            mesh.start_control_plane()
    wait_for(lambda: not learnt(second), "the route to be withdrawn")


def sessions(machine: Machine) -> tuple[int, int]:
    """How many BGP sessions stand, and how many shall, as the agent tells."""
    found = re.search(r"BGP running: (\d+) of (\d+) sessions established", mesh_status(machine))
    return (int(found[1]), int(found[2])) if found else (0, 0)


def await_sessions(mesh: Mesh, planned: list[int]) -> None:
    """Wait until all sessions stand that shall: so many at each machine, in order."""
    found: list[tuple[int, int]] = []

    def stand() -> bool:
        found[:] = map(sessions, (mesh.lab.machines[name] for name in FIVE))
        return sorted(found) == [(each, each) for each in planned]

    try:
        wait_for(stand, f"{planned} sessions", 120)
    except LabError as error:
        raise LabError(f"{error} There are {found}.") from error


def test_a_machine_passes_on_to_its_prefixes_and_nowhere_else(mesh: Mesh, host: Machine) -> None:
    first, second = (mesh.lab.machines[name] for name in FIVE[:2])
    control = mesh.lab.machines["control"]
    with made(mesh, "routes", prefixes=[LAN], machine_uuids=[uuid_of(mesh, FIVE[0])]):
        wait_for(lambda: second.ping(HOST, 0.3), f"{second.name} to reach {HOST}")
        # As the owner of a machine can: to have the first one carry what is for somebody else.
        tunnel, _ = interface_of(second)
        key = first.run(["wg", "show", interface_of(first)[0], "public-key"]).strip()
        elsewhere = "203.0.113.77"
        control.run(IP, text=f"address add {elsewhere}/32 dev lo")
        mesh.lab.router.run(IP, text=f"route add {elsewhere}/32 via {control.address}")
        try:
            assert first.ping(elsewhere) is not None
            allowed = f"{LAN},{elsewhere}/32,{mesh.addresses(NETWORK)[first.name]}/32"
            second.run(["wg", "set", tunnel, "peer", key, "allowed-ips", allowed])
            second.run(IP, text=f"route replace {elsewhere} dev {tunnel}")
            assert second.ping(elsewhere, 0.5) is None
            # Nor does it carry from the network behind it what is not for the mesh.
            assert host.ping(elsewhere, 0.5) is None
            assert second.ping(HOST) is not None
        finally:
            second.run(IP, text=f"route del {elsewhere} dev {tunnel}")
            control.run(IP, text=f"address del {elsewhere}/32 dev lo")
            mesh.lab.router.run(IP, text=f"route del {elsewhere}/32 via {control.address}")


def test_a_route_to_where_the_tunnels_and_the_control_plane_are_takes_neither_away(mesh: Mesh) -> None:
    first, second = (mesh.lab.machines[name] for name in FIVE[:2])
    addresses = mesh.addresses(NETWORK)
    with made(mesh, "routes", prefixes=["198.18.0.0/16"], machine_uuids=[uuid_of(mesh, first.name)]):
        wait_for(lambda: learnt(second), "the route")
        assert f"dev {interface_of(second)[0]} " in second.run(["ip", "route", "get", mesh.control.address])
        agent = mesh.agents[second.name]
        assert agent.stop() == 0
        mesh.start_agent(second)
        with unbroken_ping(second, addresses[first.name]), unbroken_ping(second, addresses[FIVE[2]]):
            own = [uuid_of(mesh, second.name)]
            with made(mesh, "routes", name="other", prefixes=["10.51.0.0/16"], machine_uuids=own):
                told = "10.51.0.0/16"
                wait_for(lambda: told in allowed_ips(first), "the agent that began anew to hear of its route")
    wait_for(lambda: not learnt(second), "the route to be withdrawn")


def test_a_virtual_ip_moves_to_a_healthy_machine(mesh: Mesh) -> None:
    one, two, client = (mesh.lab.machines[name] for name in (FIVE[1], FIVE[2], FIVE[3]))
    others = [machine for machine in (*mesh.machines, mesh.control) if machine is not one]
    check = {
        "health_check_type": "tcp",
        "health_check_target": str(PORT),
        "health_check_interval_seconds": 1,
        "health_check_timeout_seconds": 1,
        "health_check_healthy_threshold": 1,
        "health_check_unhealthy_threshold": 1,
    }
    machines = [uuid_of(mesh, one.name), uuid_of(mesh, two.name)]
    with service(two), made(mesh, "vips", address=VIP, machine_uuids=machines, **check):
        with service(one) as program:
            until_answers(client, one.name)
            program.kill()
            unhealthy = until_answers(client, two.name)
        with service(one):
            until_answers(client, one.name)
            mesh.lab.cut(one, *others)
            cut = until_answers(client, two.name)
            mesh.lab.mend(one, *others)
            until_answers(client, one.name)
            through = mesh.lab.machines[FIVE[4]]
            mesh.lab.cut(client, *[machine for machine in mesh.machines if machine not in {client, through}])
            wait_for(lambda: "through" in mesh_status(client), "the way through a transit")
            until_answers(client, one.name)
            mesh.lab.mend(client, *mesh.machines)
    print(f"a virtual IP moved within {unhealthy:.1f} s of its service's end, within {cut:.1f} s of its machine's cut")
    assert unhealthy < 5
    assert cut < 8
    wait_for(lambda: VIP not in allowed_ips(client), "the virtual IP to be gone")
    wait_for(lambda: VIP not in one.run(["ip", "address"]), "its address to be gone")


def until_another_reflects(mesh: Mesh, network: str) -> float:
    """Cut a reflector off that no traffic is for; seconds until another machine is one in its place."""

    def reflectors() -> set[str]:
        return {each["hostname"] for each in mesh.get(f"{network}/bgp")["reflectors"]}

    before = reflectors()
    lost = mesh.lab.machines[max(before - set(FIVE[:2]))]
    others = [machine for machine in (*mesh.machines, mesh.control) if machine is not lost]
    mesh.lab.cut(lost, *others)
    begun = time.monotonic()
    wait_for(lambda: len(reflectors()) == len(before) and lost.name not in reflectors(), "another reflector", 120)
    replaced = time.monotonic() - begun
    mesh.lab.mend(lost, *others)
    return replaced


def test_a_network_turns_to_reflectors_and_back_under_a_running_ping(mesh: Mesh, host: Machine) -> None:
    network = f"mesh-networks/{mesh.get('mesh-networks')['items'][0]['uuid']}"
    second = mesh.lab.machines[FIVE[1]]

    def turn(reflectors: bool, stage: str) -> float:
        begun = time.monotonic()
        mesh.send("PATCH", network, {"route_reflector_mode": reflectors})
        wait_for(lambda: mesh.get(network)["bgp_stage"] == stage, f"the stage to be {stage}")
        return time.monotonic() - begun

    with made(mesh, "routes", prefixes=[LAN], machine_uuids=[uuid_of(mesh, FIVE[0])]):
        wait_for(lambda: second.ping(HOST, 0.3), f"{second.name} to reach {HOST}")
        with unbroken_ping(second, HOST):
            there = turn(True, "reflectors")
            await_sessions(mesh, [3, 3, 4, 4, 4])
            replaced = until_another_reflects(mesh, network)
            await_sessions(mesh, [3, 3, 4, 4, 4])
            back = turn(False, "mesh")
            await_sessions(mesh, [4] * 5)
    print(
        f"to reflectors in {there:.1f} s, and back in {back:.1f} s; "
        f"one that was cut off had another in its place after {replaced:.1f} s"
    )


def test_routes_and_traffic_cross_between_two_meshes_at_a_gateway_and_nowhere_else(mesh: Mesh) -> None:
    gateway, member, other = (mesh.lab.machines[name] for name in (FIVE[4], FIVE[0], FIVE[3]))
    far = mesh.add("far")
    mesh.await_known(["far"])
    mesh.wireloom("network", "create", "annex", "172.17.0.0/24")
    mesh.wireloom("machine", "assign", "far", gateway.name, other.name, "--network", "annex")
    there, here = (lambda: mesh.addresses("annex").get("far", "")), mesh.addresses(NETWORK)[member.name]
    wait_for(lambda: there() and gateway.ping(there(), 0.3), "the gateway to reach the other mesh")
    assert member.ping(there(), 0.3) is None
    networks = {network["name"]: network["uuid"] for network in mesh.get("mesh-networks")["items"]}
    path = f"machines/{uuid_of(mesh, gateway.name)}/gateway"
    mesh.send("PUT", path, {"network_uuids": [networks[NETWORK], networks["annex"]]})
    wait_for(lambda: member.ping(there(), 0.3), f"{member.name} to reach the other mesh")
    assert far.ping(here) is not None
    assert "172.17.0.0/24" in allowed_ips(member)
    assert set(forwarding(other).values()) == {"0"}, "it is in both meshes, but no gateway"
    mesh.send("PUT", path, {"network_uuids": []})
    wait_for(lambda: set(forwarding(gateway).values()) == {"0"}, "forwarding to be off again")
    assert member.ping(there(), 0.3) is None


def mesh_status(machine: Machine) -> str:
    return machine.run([AGENT, "status", "--state-dir", machine.directory / "state"])
