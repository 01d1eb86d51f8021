"""Behind routers that take another port for each destination, machines reach each other if those map their ports: here
miniupnpd does, which speaks all three protocols."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_interface
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from agent.desired import Locality
from agent.port_mapping import upnp
from agent.port_mapping.asking import Protocol
from agent.port_mapping.mapper import PortMapper
from agent.port_mapping.notes import Notes
from agent.port_mapping.releasing import release
from agent.surroundings import SystemSurroundings
from deploy.lab.lab import Lab
from deploy.lab.machine import Machine
from deploy.lab.mesh import AGENT, Mesh, wait_for
from deploy.lab.surroundings import Surroundings
from deploy.lab.theory import OFFICE
from tests.lab.granting import Granting

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

NETWORK = "mesh"
PORT = 51820
NETWORK_ID = UUID(int=7)
HOME = Locality((ip_interface("192.168.1.2/24"),), frozenset({4}), "192.168.1.1")
NO_PCP = """
table inet no_pcp {
  chain in { type filter hook input priority filter - 1; udp dport 5351 @th,64,8 2 drop; }
}
"""


def test_two_machines_behind_endpoint_dependent_translation_reach_each_other_through_mappings() -> None:
    with Lab(ipv6=False) as lab:
        mesh, surroundings = Mesh(lab), Surroundings(lab)
        mesh.start_control_plane()
        names = ("left", "right")
        for name in names:
            surroundings.settle(name, OFFICE)
        routers = {name: Granting(lab, lab.boxes[f"{name}-nat"], number) for number, name in enumerate(names, 1)}
        left, right = (lab.machines[name] for name in names)
        for name in names:
            routers[name].start()
            mesh.join(lab.machines[name], mesh.bootstrap_token())
        command = [AGENT, "run", "--state-dir"]
        mesh.agents["left"] = left.start("agent", [*command, left.directory / "state", "--no-port-mapping"])
        off = {"WIRELOOM_AGENT_NO_PORT_MAPPING": "1"}
        mesh.agents["right"] = right.start("agent", [*command, right.directory / "state"], off)
        mesh.await_known(names)
        mesh.wireloom("network", "create", NETWORK, "172.16.0.0/24")
        mesh.wireloom("machine", "assign", *names, "--network", NETWORK)
        wait_for(lambda: path(left) == path(right) == "unreachable", "both to find that they are apart")

        assert not any("dnat" in router.mapped() for router in routers.values())

        for machine in (left, right):
            assert mesh.agents[machine.name].stop() == 0
            mesh.start_agent(machine)
        mesh.await_all_reach_all(NETWORK, names)
        mapped = {name: mapping(lab.machines[name]) for name in names}
        assert {found["protocol"] for found in mapped.values()} == {"PCP"}
        hosts = {name: found["endpoint"].split(":")[0] for name, found in mapped.items()}
        assert hosts == {name: router.address for name, router in routers.items()}
        used = mesh.endpoints(names)
        others = {used[one, other].split(":")[0] for one, other in (names, names[::-1])}
        assert others & set(hosts.values()), used
        assert f"mapped by the router (PCP): {mapped['left']['endpoint']}" in status(left)

        # A router that lost its power is asked again once it announces itself.
        routers["left"].crash()
        assert "dnat" not in routers["left"].mapped()
        routers["left"].start()
        wait_for(lambda: "dnat" in routers["left"].mapped(), "the mapping to be there again")

        # An agent that stops leaves the mapping to its tunnels; one that leaves a network, or for good, ends it.
        mesh.agents["right"].stop()
        assert "dnat" in routers["right"].mapped()
        right.run([AGENT, "leave", "--state-dir", right.directory / "state"])
        assert "dnat" not in routers["right"].mapped()
        assert not (right.directory / "state").exists()
        mesh.wireloom("machine", "unassign", "left", "--network", NETWORK)
        wait_for(lambda: "dnat" not in routers["left"].mapped(), "the mapping to end with the membership")


def status(machine: Machine, *options: str) -> str:
    return machine.run([AGENT, "status", "--state-dir", machine.directory / "state", *options])


def network_of(machine: Machine) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(status(machine, "--json"))["networks"]
    return found[0] if found else {}


def path(machine: Machine) -> str:
    return next((str(peer["path"]) for peer in network_of(machine).get("peers", ())), "")


def mapping(machine: Machine) -> dict[str, str]:
    found: dict[str, str] = network_of(machine)["port_mapping"]
    return found


# -- the mapper alone


@pytest.fixture(scope="module")
def router() -> Iterator[Granting]:
    """A router, with the machine `inside` behind it."""
    with Lab(ipv6=False) as lab:
        surroundings = Surroundings(lab)
        lab.add_machine("outside")  # takes the first subnet
        surroundings.settle("inside", OFFICE)
        yield Granting(lab, lab.boxes["inside-nat"], 1)


@pytest.fixture
def inside(router: Granting) -> Iterator[Machine]:
    """The machine behind the router, in whose network the test is."""
    machine = router.lab.machines["inside"]
    with machine.network():
        yield machine
    router.crash()
    router.box.run(["nft", "delete", "table", "inet", "no_pcp"], check=False)


@asynccontextmanager
async def opened(folder: Path, *, release: bool) -> AsyncIterator[PortMapper]:
    """One life of a mapper. What fails in it, fails the test."""
    async with asyncio.TaskGroup() as group:
        mapper = PortMapper(Notes(folder), group.create_task)
        try:
            yield mapper
        finally:
            await mapper.close(release=release)


async def until_mapped(mapper: PortMapper, locality: Locality = HOME) -> str:
    """Have the port mapped; the endpoint."""
    heard = asyncio.Event()
    mapper.want(NETWORK_ID, PORT, heard.set)
    mapper.moved(locality)
    async with asyncio.timeout(15):
        while not mapper.endpoints(NETWORK_ID):
            await heard.wait()
            heard.clear()
    return mapper.endpoints(NETWORK_ID)[0]


KINDS = [
    Protocol.PCP,
    Protocol.NAT_PMP,
    pytest.param(Protocol.UPNP, marks=pytest.mark.skipif(not upnp.is_installed(), reason="miniupnpc is not there")),
]


@pytest.mark.parametrize("protocol", KINDS)
def test_each_protocol_maps_and_ends_with_a_real_router(
    protocol: Protocol, router: Granting, inside: Machine, tmp_path: Path
) -> None:
    router.start(natpmp=protocol is not Protocol.UPNP, upnp=protocol is Protocol.UPNP)
    if protocol is Protocol.NAT_PMP:
        router.box.run(["nft", "-f", "-"], text=NO_PCP)

    async def one_life(*, release: bool) -> str:
        async with opened(tmp_path, release=release) as mapper:
            return await until_mapped(mapper)

    endpoint = asyncio.run(one_life(release=False))
    assert endpoint == f"{router.address}:{PORT}"
    assert f"dport {PORT} dnat ip to 192.168.1.2:{PORT}" in router.mapped()
    (first,) = Notes(tmp_path).read().values()
    assert first.protocol is protocol
    # The next life goes on with the same mapping: to the router it is the same machine that asks.
    assert asyncio.run(one_life(release=True)) == endpoint
    assert "dnat" not in router.mapped()
    assert not list(tmp_path.iterdir())

    asyncio.run(one_life(release=False))
    release(tmp_path)
    assert "dnat" not in router.mapped()
    assert not list(tmp_path.iterdir())


def test_another_default_router_is_asked_anew(router: Granting, inside: Machine, tmp_path: Path) -> None:
    surroundings = SystemSurroundings()
    inside.run(["ip", "route", "add", "default", "via", "192.168.1.9", "metric", "50"])
    try:
        assert surroundings.look() == HOME
    finally:
        surroundings.close()
    router.start()

    async def move() -> None:
        async with opened(tmp_path, release=True) as mapper:
            endpoint = await until_mapped(mapper)
            mapper.moved(Locality((ip_interface("192.168.1.2/24"),), frozenset({4}), "192.168.1.77"))
            assert mapper.endpoints(NETWORK_ID) == ()
            assert Notes(tmp_path).read() == {}
            assert await until_mapped(mapper) == endpoint
            mapper.moved(Locality((ip_interface("198.51.100.2/24"),), frozenset({4}), "192.168.1.1"))
            assert mapper.endpoints(NETWORK_ID) == ()

    asyncio.run(move())
