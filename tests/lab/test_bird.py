"""The machine's speaker with real BIRDs: sessions, switching, policies, gateways, and what happens when BIRD dies."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from agent.bgp.intent import Announced, Owner
from tests.support.birds import (
    Station,
    address,
    intent,
    machine_id,
    network_id,
    prefix,
    reflected,
    stations,
    watching,
)
from tests.support.namespaces import command, enter
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.lab

FOUR = range(1, 5)


@pytest.fixture
def four(tmp_path: Path) -> Iterator[dict[int, Station]]:
    """Four machines in a full mesh that has come up."""
    with stations(tmp_path, dict.fromkeys(FOUR, (9,))) as machines:
        for number, machine in machines.items():
            machine.apply(intent(number, 4))
        for number, machine in machines.items():
            machine.await_routes(*(set(FOUR) - {number}))
        yield machines


def plan(machines: dict[int, Station], stage: str, *reflectors: int) -> None:
    for number, machine in machines.items():
        plain = intent(number, 4)
        machine.apply(replace(plain, **reflected(plain, stage, *reflectors)))


def await_sessions(machine: Station, *wanted: tuple[int, str]) -> None:
    wait_until_sync(
        lambda: machine.established().keys() == set(wanted), what=f"{machine.name}: {machine.observed().sessions}"
    )


def test_routes_go_through_the_interface_to_their_owner_with_the_machines_own_address(
    four: dict[int, Station],
) -> None:
    plain = intent(1, 4)
    route = four[1].routes()[str(prefix(2))]
    assert (route["gateway"], route["dev"], route["prefsrc"]) == ("10.9.0.2", plain.interface, "10.9.0.1")
    four[1].apply(replace(plain, narrow=(address(9, 2),), narrow_mtu=1300))
    wait_until_sync(lambda: four[1].routes()[str(prefix(2))].get("metrics") == [{"mtu": 1300}])
    assert "metrics" not in four[1].routes()[str(prefix(3))]


def test_a_network_is_switched_and_back_without_a_route_ever_missing(four: dict[int, Station]) -> None:
    with watching(*four.values()) as watches:
        plan(four, "switching", 1, 2)
        mesh = [(number, "mesh") for number in FOUR]
        await_sessions(four[3], *(set(mesh) - {(3, "mesh")}), (1, "client"), (2, "client"))
        before = four[3].established()
        plan(four, "reflectors", 1, 2)
        await_sessions(four[3], (1, "client"), (2, "client"))
        others = [(number, "reflector") for number in FOUR if number != 1]
        await_sessions(four[1], (2, "client"), *others)
        after = four[3].established()
        assert {key: after[key].since for key in after} == {key: before[key].since for key in after}

        plan(four, "reflectors", 1, 2, 4)
        await_sessions(four[3], (1, "client"), (2, "client"), (4, "client"))
        plan(four, "reflectors", 2, 4)
        await_sessions(four[3], (2, "client"), (4, "client"))
        await_sessions(four[1], (2, "client"), (4, "client"))

        plan(four, "switching", 2, 4)
        await_sessions(four[3], *(set(mesh) - {(3, "mesh")}), (2, "client"), (4, "client"))
        plan(four, "mesh")
        await_sessions(four[1], *(set(mesh) - {(1, "mesh")}))
        await_sessions(four[3], *(set(mesh) - {(3, "mesh")}))
        for number, (machine, watch) in enumerate(zip(four.values(), watches, strict=True), start=1):
            assert watch.lost() == []
            machine.await_routes(*(set(FOUR) - {number}))


@pytest.mark.parametrize("stage", ["mesh", "reflectors"])
def test_when_bird_is_killed_it_is_started_again_and_no_route_is_lost_anywhere(
    four: dict[int, Station], stage: str
) -> None:
    if stage == "reflectors":
        plan(four, "switching", 1, 2)
        await_sessions(four[1], *[(n, kind) for n in (2, 3, 4) for kind in ("mesh", "reflector")], (2, "client"))
        plan(four, "reflectors", 1, 2)
        wanted = [*((number, "reflector") for number in (2, 3, 4)), (2, "client")]
    else:
        wanted = [(number, "mesh") for number in (2, 3, 4)]
    await_sessions(four[1], *wanted)
    killed = four[1].pid
    with watching(*four.values()) as watches:
        four[1].kill()
        wait_until_sync(lambda: four[1].seen[-1].speaker.state == "failed", what="its death is told")
        for number in (2, 3, 4):
            wait_until_sync(lambda n=number: "Up" not in bfd(four[n], 1), what="BFD misses it")  # type: ignore[misc]
        wait_until_sync(lambda: four[1].seen[-1].speaker.state == "running", what="it runs again")
        assert four[1].pid != killed
        await_sessions(four[1], *wanted)
        for number in (2, 3, 4):
            wait_until_sync(lambda n=number: "Up" in bfd(four[n], 1), what="BFD has it again")  # type: ignore[misc]
        # What is withdrawn now goes, everywhere: so all sessions stand, and nothing went before.
        for number, machine in four.items():
            plain = intent(number, 4, announced=())
            machine.apply(replace(plain, **reflected(plain, stage, *((1, 2) if stage == "reflectors" else ()))))
        for machine, watch in zip(four.values(), watches, strict=True):
            machine.await_routes()
            assert len(watch.lost()) == 3, watch.lost()


def bfd(machine: Station, other: int) -> str:
    """What a machine's BFD says of another."""
    text = command("birdc", "-s", str(machine.folder / "bird.ctl"), "show", "bfd", "sessions", check=False)
    return " ".join(line for line in text.splitlines() if line.startswith(f"{address(9, other)} "))


def test_an_agent_that_begins_anew_finds_its_bird_and_disturbs_nothing(four: dict[int, Station]) -> None:
    await_sessions(four[1], *[(number, "mesh") for number in (2, 3, 4)])
    pid, before = four[1].pid, four[1].established()
    with watching(*four.values()) as watches:
        four[1].end()
        four[1].seen.clear()
        four[1].begin()
        four[1].apply(intent(1, 4))
        await_sessions(four[1], *[(number, "mesh") for number in (2, 3, 4)])
        assert four[1].pid == pid
        assert {key: session.since for key, session in four[1].established().items()} == {
            key: session.since for key, session in before.items()
        }
        assert [watch.lost() for watch in watches] == [[]] * 4


def test_a_speaker_that_is_stopped_takes_its_routes_along_and_the_others_know_at_once(four: dict[int, Station]) -> None:
    four[1].stop()
    assert four[1].routes() == {}
    assert not (four[1].folder / "bird.pid").exists()
    for number in (2, 3, 4):
        four[number].await_routes(*({2, 3, 4} - {number}))


def test_a_machine_that_leaves_its_last_network_has_no_bird(four: dict[int, Station]) -> None:
    four[1].apply()
    wait_until_sync(lambda: not (four[1].folder / "bird.pid").exists(), what="BIRD has ended")
    wait_until_sync(lambda: four[1].routes() == {})
    four[1].apply(intent(1, 4))
    four[1].await_routes(2, 3, 4)


def test_a_configuration_with_a_fault_is_not_used_and_told(four: dict[int, Station]) -> None:
    plain = intent(1, 4)
    four[1].apply(replace(plain, members=(*plain.members, plain.members[0])))
    wait_until_sync(lambda: four[1].seen[-1].speaker.reason, what="the complaint")
    assert "refuses its configuration" in four[1].seen[-1].speaker.reason
    assert four[1].seen[-1].speaker.state == "running"
    assert len(four[1].routes()) == 3
    four[1].apply(plain)
    wait_until_sync(lambda: not four[1].seen[-1].speaker.reason, what="all is well")


def test_a_prefix_is_let_in_from_its_owner_only_whoever_passes_it_on(four: dict[int, Station]) -> None:
    plan(four, "reflectors", 1)
    await_sessions(four[3], (1, "client"))
    stolen = Announced(IPv4Network("203.0.113.0/24"))
    thief = intent(2, 4)
    thief = replace(thief, **reflected(thief, "reflectors", 1), announced=(*thief.announced, stolen))
    four[2].apply(thief)
    wait_until_sync(lambda: four[2].rib("203.0.113.0/24"), what="it is announced")
    # Even a reflector that lets everything pass convinces nobody else.
    careless = intent(1, 4)
    owners = (Owner(address(9, 2), (prefix(2), stolen.prefix)), *careless.owners[1:])
    four[1].apply(replace(careless, **reflected(careless, "reflectors", 1), owners=owners))
    wait_until_sync(lambda: "203.0.113.0/24" in four[1].routes(), what="it has come so far")
    session = lambda: four[3].established()[1, "client"]  # noqa: E731
    wait_until_sync(lambda: session().imported >= 3)
    assert not four[3].rib("203.0.113.0/24")
    assert "203.0.113.0/24" not in four[3].routes()
    # It is the owner that is asked for: if machine 3 hears that it is machine 2's, it believes it.
    owned = intent(3, 4)
    owners = tuple(
        Owner(o.address, (*o.prefixes, stolen.prefix)) if o.address == address(9, 2) else o for o in owned.owners
    )
    four[3].apply(replace(owned, **reflected(owned, "reflectors", 1), owners=owners))
    wait_until_sync(lambda: "203.0.113.0/24" in four[3].routes(), what="now it is believed")


def test_only_a_reflector_tells_of_what_lies_behind_others(four: dict[int, Station]) -> None:
    """Else any member could keep alive what its owner has withdrawn: a virtual IP that is not healthy there."""
    four[4].apply(intent(4, 4, announced=()))
    for number in (1, 2, 3):
        four[number].await_routes(*({1, 2, 3} - {number}))
    four[2].end()
    lying(four[2], f"if net = {prefix(4)} then {{ bgp_next_hop = {address(9, 4)}; bgp_local_pref = 999; }}")
    session = lambda: four[1].established()[2, "mesh"]  # noqa: E731
    wait_until_sync(lambda: str(address(9, 4)) in told_by(four[2]), what="the lie is told")
    four[1].apply(intent(1, 4, announced=(Announced(prefix(1)), Announced(prefix(9)))))  # it looks again
    wait_until_sync(lambda: four[1].rib(str(prefix(9))), what="it has looked")
    assert session().imported == 1
    assert not four[1].rib(str(prefix(4)))
    four[1].await_routes(2, 3)


def lying(machine: Station, lie: str) -> None:
    """Have a machine tell the others something else than its speaker would."""
    file = machine.folder / "bird.conf"
    honest = file.read_text()
    label = f"{network_id(9).hex[:8]}"
    told = honest.replace(f"filter to_{label}\n{{\n", f"filter to_{label}\n{{\n  {lie}\n")
    own = f"protocol static own_{label} {{\n  ipv4 {{ table in_{label}; }};\n"
    file.write_text(told.replace(own, f"{own}  route {prefix(4)} blackhole;\n"))
    birdc(machine, "configure")


def told_by(machine: Station) -> str:
    return birdc(machine, f"show route all export mesh_{network_id(9).hex[:8]}_{machine_id(1).hex}")


def birdc(machine: Station, words: str) -> str:
    return command("birdc", "-s", str(machine.folder / "bird.ctl"), *words.split())


def test_routes_cross_at_a_gateway_and_do_not_come_back(tmp_path: Path) -> None:
    """Machines 1 and 2 in network 8, 2 to 4 in network 9, where 2 and 4 cross: 4 is in both, too."""
    with stations(tmp_path, {1: (8,), 2: (8, 9), 3: (9,), 4: (8, 9)}) as machines:
        places = {8: (1, 2, 4), 9: (2, 3, 4)}
        crossing = (network_id(8), network_id(9))
        cidrs = {network: IPv4Network(f"10.{network}.0.0/24") for network in places}

        def wish(number: int, network: int) -> object:
            other = 17 - network
            owners = []
            for owner in places[network]:
                prefixes = {prefix(owner)}
                if owner in (2, 4):
                    prefixes |= {cidrs[other], *(prefix(each) for each in places[other])}
                if owner != number:
                    owners.append(Owner(address(network, owner), tuple(sorted(prefixes))))
            plain = intent(number, 4, network)
            members = tuple(m for m in plain.members if m.machine_id in {machine_id(n) for n in places[network]})
            return replace(plain, members=members, owners=tuple(owners))

        for number, networks in {1: (8,), 2: (8, 9), 3: (9,), 4: (8, 9)}.items():
            machines[number].apply(
                *(wish(number, network) for network in networks),  # type: ignore[arg-type]
                crossing=crossing if number in (2, 4) else (),
            )
        asn = {network: intent(1, 4, network).asn for network in places}
        wait_until_sync(lambda: str(prefix(1)) in machines[3].routes(), what="1's prefix at 3")
        wait_until_sync(lambda: str(prefix(3)) in machines[1].routes(), what="3's prefix at 1")
        wait_until_sync(lambda: "10.8.0.0/24" in machines[3].routes(), what="the other network at 3")
        wait_until_sync(lambda: len(machines[3].rib(str(prefix(1)))) == 2, what="through both gateways")
        crossed = machines[3].rib(str(prefix(1)))
        assert {route.next_hop for route in crossed} == {address(9, 2), address(9, 4)}
        assert {route.as_path for route in crossed} == {(asn[8],)}
        # What both are in is heard from its owner itself.
        wait_until_sync(lambda: machines[3].rib(str(prefix(2)), 9))
        assert machines[3].rib(str(prefix(2)))[0].as_path == ()
        # Network 8's own prefixes never come back to it through network 9.
        assert all(asn[8] not in route.as_path for route in machines[1].observed(8).rib)
        # The gateway itself uses the network that the prefix lies in.
        assert machines[2].routes()[str(prefix(1))]["gateway"] == "10.8.0.1"
        assert machines[2].routes()[str(prefix(3))]["gateway"] == "10.9.0.3"


def test_a_bird_that_is_told_to_end_is_started_again_and_keeps_what_it_taught_the_kernel(
    four: dict[int, Station],
) -> None:
    with watching(four[1]) as (watch,):
        command("kill", "-TERM", str(four[1].pid))
        wait_until_sync(lambda: four[1].seen[-1].speaker.state == "failed", what="its end is told")
        wait_until_sync(lambda: four[1].seen[-1].speaker.state == "running", what="it runs again")
        await_sessions(four[1], *[(number, "mesh") for number in (2, 3, 4)])
        four[1].await_routes(2, 3, 4)
        assert watch.lost() == []


def test_a_bird_that_answers_no_more_is_replaced(four: dict[int, Station]) -> None:
    stuck = four[1].pid
    four[1].end()
    four[1].seen.clear()
    command("kill", "-STOP", str(stuck))
    (four[1].folder / "bird.ctl").unlink()
    four[1].begin()
    four[1].apply(intent(1, 4))
    await_sessions(four[1], *[(number, "mesh") for number in (2, 3, 4)])
    assert four[1].pid != stuck
    assert not Path(f"/proc/{stuck}").exists()


def test_where_another_program_has_the_port_it_says_so_and_begins_once_that_is_gone(tmp_path: Path) -> None:
    with stations(tmp_path, {1: (9,), 2: (9,)}) as machines, ThreadPoolExecutor(1) as thread:
        thread.submit(enter, machines[1].name).result()
        other = thread.submit(socket.create_server, ("0.0.0.0", 179)).result()
        with other:
            for number, machine in machines.items():
                machine.apply(intent(number, 2))
            wait_until_sync(lambda: machines[1].seen and machines[1].seen[-1].speaker.reason, what="it says so")
            assert machines[1].seen[-1].speaker.reason.startswith("Another program has TCP port 179")
        machines[1].await_routes(2)
        machines[2].await_routes(1)
        wait_until_sync(lambda: not machines[1].seen[-1].speaker.reason, what="all is well")
