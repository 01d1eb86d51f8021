"""A mesh of real machines with real WireGuard: it forms, changes, and survives what goes wrong.

The tests share one mesh, and each leaves it as it was.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deploy.lab.lab import ping_all
from deploy.lab.machine import Machine
from deploy.lab.mesh import Mesh, wait_for
from tests.lab.watching import (
    FIVE,
    NETWORK,
    PROBE,
    WIREGUARD,
    captured,
    crash,
    interface_of,
    is_online,
    packets,
    revive,
    unbroken_ping,
)

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

SECRET = "Wireloom"


@contextmanager
def joined(mesh: Mesh, name: str) -> Iterator[Machine]:
    """Another machine, in the network while the block lasts."""
    machine = mesh.lab.machines[name] if name in mesh.lab.machines else mesh.add(name)
    mesh.await_known([name])
    mesh.wireloom("machine", "assign", name, "--network", NETWORK)
    yield machine
    mesh.wireloom("machine", "unassign", name, "--network", NETWORK)
    mesh.await_interface_gone(name)


def test_every_machine_reaches_every_other_at_its_mesh_address(mesh: Mesh) -> None:
    assert mesh.addresses(NETWORK) == {name: f"172.16.0.{place}" for place, name in enumerate(FIVE, 1)}
    pings = ping_all(mesh.pairs(NETWORK))
    assert len(pings) == 20
    assert None not in pings.values(), pings


def test_between_machines_only_wireguard_and_probes_are_seen_on_the_wire(mesh: Mesh) -> None:
    router = mesh.lab.router
    one, other = mesh.machines[:2]
    address = mesh.addresses(NETWORK)[other.name]
    pattern = SECRET.encode().hex()
    with captured(router) as capture:
        said = one.run(["ping", "-n", "-c", "5", "-i", "0.05", "-p", pattern, address])
        assert " 0% packet loss" in said
        assert f"PATTERN: 0x{pattern}" in said
    between = f"not arp and not icmp6 and not host {mesh.control.address} and not host 2001:2::2"
    assert len(packets(router, capture, f"{between} and {WIREGUARD}")) >= 10
    assert packets(router, capture, f"{between} and not {WIREGUARD} and not {PROBE}") == []
    assert SECRET.encode() not in capture.read_bytes()


def test_a_machine_joins_and_leaves_and_nobody_else_notices(mesh: Mesh) -> None:
    one, other = mesh.machines[1:3]
    addresses = mesh.addresses(NETWORK)
    with unbroken_ping(one, addresses[other.name]):
        with joined(mesh, "m6") as machine:
            mesh.await_all_reach_all(NETWORK, [*FIVE, "m6"])
            address = mesh.addresses(NETWORK)["m6"]
            assert address == "172.16.0.6"
        assert machine.ping(addresses[one.name], timeout=0.5) is None
        assert one.ping(address, timeout=0.5) is None
        assert one.run(["wg", "show", interface_of(one)[0], "peers"]).count("\n") == len(FIVE) - 1


def test_a_killed_agent_leaves_its_tunnels_and_the_next_takes_them_over(mesh: Mesh) -> None:
    one, other = mesh.machines[:2]
    before = interface_of(one)
    with unbroken_ping(one, mesh.addresses(NETWORK)[other.name]):
        mesh.agents[one.name].kill()
        with joined(mesh, "m6"):
            revive(mesh, one)
            mesh.await_all_reach_all(NETWORK, [*FIVE, "m6"])
        assert interface_of(one) == before


def test_without_a_control_plane_tunnels_stay_and_a_machine_comes_back_from_its_disk(mesh: Mesh) -> None:
    one, other, third = mesh.machines[2:5]
    addresses = mesh.addresses(NETWORK)
    with unbroken_ping(one, addresses[other.name]):
        mesh.kill_control_plane()
        assert not mesh.is_ready()
        crash(mesh, third)
        mesh.start_agent(third)
        wait_for(lambda: third.ping(addresses[one.name]), f"{third.name} to reach {one.name} again")
        wait_for(lambda: other.ping(addresses[third.name]), f"{other.name} to reach {third.name} again")
        mesh.start_control_plane()
        for name in FIVE:
            wait_for(lambda name=name: is_online(mesh, name), f"{name} to be back")  # type: ignore[misc]
    assert mesh.addresses(NETWORK) == addresses
    with joined(mesh, "m6"):
        mesh.await_all_reach_all(NETWORK, [*FIVE, "m6"])


def test_what_others_change_on_an_interface_is_repaired(mesh: Mesh) -> None:
    machine = mesh.machines[3]
    interface, index = interface_of(machine)
    address = f"{mesh.addresses(NETWORK)[machine.name]}/32"
    peers = sorted(machine.run(["wg", "show", interface, "peers"]).split())
    machine.run(["wg", "set", interface, "peer", peers[0], "remove"])
    machine.run(["wg", "set", interface, "peer", peers[1], "allowed-ips", "10.0.0.0/8"])
    machine.run(["ip", "address", "del", address, "dev", interface])
    machine.run(["ip", "address", "add", "10.99.0.1/24", "dev", interface])
    machine.run(["ip", "route", "flush", "dev", interface])

    def is_right() -> bool:
        shown = machine.run(["ip", "-4", "-oneline", "address", "show", "dev", interface]).split()
        same_peers = sorted(machine.run(["wg", "show", interface, "peers"]).split()) == peers
        return same_peers and address in shown and "10.99.0.1/24" not in shown

    wait_for(is_right, "the interface to be repaired")
    mesh.await_all_reach_all(NETWORK, FIVE)
    assert interface_of(machine) == (interface, index)


def test_a_machine_is_in_two_networks_and_one_is_deleted_by_force(mesh: Mesh) -> None:
    members = [machine.name for machine in mesh.machines[:3]]
    mesh.wireloom("network", "create", "second", "10.9.0.0/24")
    mesh.wireloom("machine", "assign", *members, "--network", "second")
    mesh.await_all_reach_all("second", members)
    assert [len(mesh.interfaces(name)) for name in FIVE] == [2, 2, 2, 1, 1]
    assert mesh.machines[3].ping(mesh.addresses("second")["m1"], timeout=0.5) is None
    one, other = mesh.machines[:2]
    with unbroken_ping(one, mesh.addresses(NETWORK)[other.name]):
        mesh.wireloom("network", "delete", "second", "--force", "--yes")
        wait_for(lambda: all(len(mesh.interfaces(name)) == 1 for name in FIVE), "the second interfaces to go")
    mesh.await_all_reach_all(NETWORK, FIVE)


def test_sigterm_ends_an_agent_cleanly_and_leaves_its_tunnels(mesh: Mesh) -> None:
    one, other = mesh.machines[:2]
    with unbroken_ping(one, mesh.addresses(NETWORK)[other.name]):
        agent = mesh.agents[one.name]
        agent.signal(signal.SIGTERM)
        assert agent.wait() == 0
        wait_for(lambda: not is_online(mesh, one.name), f"{one.name} to be offline at once", 5)
        revive(mesh, one)


def test_sigterm_ends_the_control_plane_cleanly_and_it_goes_on_where_it_was(mesh: Mesh) -> None:
    addresses = mesh.addresses(NETWORK)
    assert mesh.control_plane
    assert mesh.control_plane.stop() == 0
    left = mesh.control.run(["ps", "-e", "-o", "comm="]).split()
    assert not {"nats-server", "wireloom", "python", "python3"} & set(left), left
    mesh.start_control_plane()
    assert mesh.addresses(NETWORK) == addresses
