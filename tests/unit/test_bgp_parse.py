# ruff: noqa: E501, W291 - as BIRD prints it
"""What BIRD prints, read: as version 2.0.12 wrote it here, and with what other versions add."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import IPv4Address
from uuid import UUID

from agent.bgp.names import read_session_name, reflector_name, session_name
from agent.bgp.parse import read_protocols, read_rib, read_started, sessions

NETWORK = UUID("09000000-0000-4000-8000-000000000000")
PEERS = {IPv4Address(f"10.9.0.{number}"): UUID(int=number) for number in (2, 3, 4)}

PROTOCOLS = f"""\
Name       Proto      Table      State  Since         Info
device1    Device     ---        up     2026-11-22 22:39:19.326  

kernel1    Kernel     used_routes up     2026-11-22 22:39:19.326  
  Channel ipv4
    State:          UP
    Routes:         0 imported, 2 exported, 0 preferred
    Route change stats:     received   rejected   filtered    ignored   accepted
      Import updates:              0          0          0          0          0

intake_09000000 Pipe       ---        up     2026-11-22 22:39:19.326  in_09000000 <=> rib_09000000
  Channel main
    Table:          in_09000000
  Routes:         0 imported, 6 exported
  Route change stats:     received   rejected   filtered    ignored   accepted
    Import updates:              8          8          0          0          0
    Import withdraws:            0          0        ---          0          0
    Export updates:              6          0          0          0          6
    Export withdraws:            0          0        ---          0          0

{session_name("mesh", NETWORK, UUID(int=2))} BGP        ---        up     2026-11-22 22:39:21.015  Established   
  Description:    Up: 2026-01-01 00:00:00 since
  VRF:            default
  BGP state:          Established
    Neighbor address: 10.9.0.2
    Neighbor AS:      4293569153
    Local AS:         4293569153
    Neighbor ID:      10.9.0.2
    Local capabilities
      Multiprotocol
        AF announced: ipv4
    Session:          internal multihop AS4
    Hold timer:       7.513/9
    Keepalive timer:  0.491/3
    Send hold timer:  17.513/18
  Channel ipv4
    State:          UP
    Import state:   UP
    Table:          in_09000000
    Routes:         12 imported, 1 filtered, 3 exported, 1 preferred
    BGP Next hop:   10.9.0.1

{session_name("client", NETWORK, UUID(int=3))} BGP        ---        start  2026-11-22 22:40:00  Active        Socket: Connection refused
  BGP state:          Active
    Neighbor address: 10.9.0.3
    Connect delay:    0.811/1
    Last error:       Socket: Connection refused
  Channel ipv4
    State:          DOWN

{session_name("client", NETWORK, UUID(int=4))} BGP        ---        down   2026-11-22 22:40:00.000  
  BGP state:          Down
    Neighbor address: 10.9.0.4

reflector_09000000 BGP        ---        start  2026-11-22 22:51:46.377  Passive       
  BGP state:          Passive
    Neighbor range:   10.9.0.0/24

reflector_09000000_1 BGP        ---        start  2026-11-22 22:51:47.251  OpenSent      
  BGP state:          OpenSent
    Neighbor address: 10.9.0.4

reflector_09000000_3 BGP        ---        up     2026-11-22 22:51:47.251  Established   
  BGP state:          Established
    Neighbor address: 10.9.0.4

reflector_09000000_4 BGP        ---        up     2026-11-22 22:51:47.251  Established   
  BGP state:          Established
    Neighbor address: 10.9.0.77

{session_name("mesh", UUID(int=7 << 96), UUID(int=2))} BGP        ---        up     2026-11-22 22:39:21.015  Established   
""".splitlines()

RIB = """\
Table rib_09000000:
10.60.0.0/16         unicast [mesh_x 2026-11-22 22:39:22.519 from 10.9.0.3] (100/?) [AS4200000001i]
	via 10.9.0.2 on wl-09000000
	Type: BGP univ
	BGP.origin: IGP
	BGP.as_path: 4200000001 65000 65000
	BGP.next_hop: 10.9.0.2
	BGP.med: 7
	BGP.local_pref: 150
	BGP.community: (65000,1) (0,0)
	BGP.originator_id: 10.9.0.2
	BGP.cluster_list: 10.9.0.3
	BGP.20 [t]: 00 00
                     unicast [client_y 2026-11-22 22:39:23.000] * (100/?) [i]
	via 10.9.0.3 on wl-09000000 onlink
	preference: 100
	source: BGP
	bgp_origin: IGP
	bgp_path: 
	bgp_next_hop: 10.9.0.3
	bgp_local_pref: 160
	bgp_community: (1, 2)
10.50.1.0/24         blackhole [own_09000000 2026-11-22 22:39:19] * (200)
	Type: static univ
	BGP.local_pref: 100
10.51.0.0/16         unreachable [mesh_z 2026-11-22 22:39:19.000] ! (100/-) [i]
	Type: BGP univ
	BGP.as_path: 4200000002
	BGP.next_hop: 10.9.0.1
	BGP.local_pref: 4294967295
""".splitlines()


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_sessions_are_read_with_their_peers_and_purposes() -> None:
    found = {(s.peer_id.int, s.purpose): s for s in sessions(read_protocols(PROTOCOLS), "09000000", PEERS)}
    assert found.keys() == {(2, "mesh"), (3, "client"), (4, "client"), (4, "reflector")}
    mesh = found[2, "mesh"]
    assert (mesh.state, mesh.since) == ("established", at("2026-11-22 22:39:21.015"))
    assert (mesh.imported, mesh.exported, mesh.error) == (12, 3, "")
    refused = found[3, "client"]
    assert (refused.state, refused.error, refused.since) == (
        "active",
        "Socket: Connection refused",
        at("2026-11-22 22:40:00"),
    )
    assert found[4, "client"].state == "idle"


def test_of_two_connections_with_a_client_the_one_that_stands_counts() -> None:
    protocols = read_protocols(PROTOCOLS)
    for told in (protocols, protocols[::-1]):
        states = {(s.peer_id.int, s.purpose): s.state for s in sessions(told, "09000000", PEERS)}
        assert states[4, "reflector"] == "established"


def test_the_counters_of_an_intake_are_kept() -> None:
    (intake,) = [each for each in read_protocols(PROTOCOLS) if each.name == "intake_09000000"]
    assert len(intake.changes) == 4


def test_routes_are_read_in_order_the_best_first() -> None:
    own, lost, best, other = read_rib(RIB, IPv4Address("10.9.0.1"))
    assert (str(own.prefix), own.next_hop, own.best, own.local_pref) == ("10.50.1.0/24", None, True, 100)
    assert (str(lost.prefix), lost.next_hop, lost.best, lost.local_pref) == ("10.51.0.0/16", None, False, 4_294_967_295)
    assert (str(best.prefix), best.best, best.communities, best.as_path) == ("10.60.0.0/16", True, ("1:2",), ())
    assert (best.local_pref, str(best.next_hop)) == (160, "10.9.0.3")
    assert (other.prefix, other.best, other.med) == (best.prefix, False, 7)
    assert other.as_path == (4_200_000_001, 65_000, 65_000)
    assert other.communities == ("65000:1", "0:0")
    assert other.since == at("2026-11-22 22:39:22.519")


def test_what_is_not_understood_is_passed_over() -> None:
    headless = ["Network not found", "\tBGP.med: 1", "                     unicast [x 2026-11-22 22:39:19] (1)"]
    assert read_rib(headless, IPv4Address("10.9.0.1")) == ()
    assert read_protocols(["nonsense", "  Routes:         1 imported, 1 exported"]) == []
    assert read_started(["BIRD 2.0.12", "Last reboot on 2026-11-22 22:42:43.661"]) == at("2026-11-22 22:42:43.661")
    assert read_started(["BIRD 2.0.12"]) is None


def test_names_of_sessions_tell_what_they_are_for_and_fit_in_bird() -> None:
    for kind in ("mesh", "client"):
        name = session_name(kind, NETWORK, UUID(int=2**128 - 1))  # type: ignore[arg-type]
        read = read_session_name(name)
        assert read is not None
        assert (read.kind, read.label, read.machine_id) == (kind, "09000000", UUID(int=2**128 - 1))
        assert len(name) <= 64
    assert read_session_name(f"{reflector_name(NETWORK)}_12") is not None
    assert read_session_name(reflector_name(NETWORK)) is None
