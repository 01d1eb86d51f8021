"""What a machine is to do about BGP, from all that it was told."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Literal
from uuid import UUID

from agent.bgp.duties import Hop, Place, intent_of, owners_of, sessions_planned, vip_addresses
from agent.bgp.intent import Announced, Neighbour, Owner
from agent.bgp.words import Words
from events.records import (
    AnnouncedVip,
    AnnouncementRecord,
    BgpPlanRecord,
    NetworkPolicyRecord,
    RoutingRecord,
    VipDuty,
)
from events.routing import HealthCheck, Policy, network_asn
from events.subjects import network_announcement, network_policy

NET, OTHER_NET = UUID(int=1), UUID(int=2)
ME, ANN, BOB, EVE = (UUID(int=number) for number in range(10, 14))
VIP = UUID(int=20)
MEMBERS = {ANN: IPv4Address("172.16.0.2"), BOB: IPv4Address("172.16.0.3"), EVE: IPv4Address("172.16.0.4")}


def announcement(
    machine_id: UUID, *prefixes: str, vips: tuple[str, ...] = (), crossing: tuple[str, ...] = ()
) -> AnnouncementRecord:
    return AnnouncementRecord(
        network_id=NET,
        machine_id=machine_id,
        prefixes=tuple(map(IPv4Network, prefixes)),
        vips=tuple(AnnouncedVip(address=IPv4Address(vip), local_pref=200) for vip in vips),
        crossing=tuple(map(IPv4Network, crossing)),
    )


def place(*said: AnnouncementRecord, plan: BgpPlanRecord | None = None) -> Place:
    words = Words()
    for record in said:
        words.put(network_announcement(NET, record.machine_id), record)
    words.plan = plan
    cidr, own = IPv4Network("172.16.0.0/24"), IPv4Address("172.16.0.1")
    return Place(NET, cidr, "wl-1", own, MEMBERS, words, narrow_mtu=1328)


def other_place() -> Place:
    return replace(
        place(),
        network_id=OTHER_NET,
        cidr=IPv4Network("172.17.0.0/24"),
        interface="wl-2",
        address=IPv4Address("172.17.0.1"),
        members={EVE: IPv4Address("172.17.0.4")},
        words=Words(),
    )


def routing(*prefixes: str, gateway: tuple[UUID, ...] = (), policies: tuple[Policy, ...] = ()) -> RoutingRecord:
    duty = VipDuty(vip_id=VIP, address=IPv4Address("203.0.113.10"), local_pref=199, health_check=HealthCheck())
    return RoutingRecord(
        machine_id=ME,
        prefixes=tuple(map(IPv4Network, prefixes)),
        vips=(duty,),
        gateway=gateway,
        policies=policies,
    )


def test_without_any_word_a_machine_speaks_with_all_and_announces_nothing() -> None:
    (network,) = intent_of(ME, [place()], None, ()).networks
    assert network.asn == network_asn(NET)
    assert (network.stage, network.is_reflector, network.reflectors, network.owners) == ("mesh", False, (), ())
    assert network.members == tuple(Neighbour(machine_id, address) for machine_id, address in MEMBERS.items())
    assert network.announced == ()


def test_routes_are_announced_and_virtual_ips_only_while_healthy() -> None:
    duties = routing("10.2.0.0/16", "10.1.0.0/16")
    routes = tuple(Announced(IPv4Network(text)) for text in ("10.1.0.0/16", "10.2.0.0/16"))
    assert intent_of(ME, [place()], duties, ()).networks[0].announced == routes
    vip = Announced(IPv4Network("203.0.113.10/32"), 199)
    assert intent_of(ME, [place()], duties, {VIP}).networks[0].announced == (*routes, vip)
    assert vip_addresses(duties) == {"203.0.113.10/32"}, "healthy or not"
    assert vip_addresses(None) == frozenset()


def test_owners_are_the_others_that_may_announce_something() -> None:
    said = (
        announcement(BOB, "10.1.0.0/16", vips=("203.0.113.10",)),
        announcement(ME, "10.3.0.0/16"),
        announcement(EVE),
    )
    (network,) = intent_of(ME, [place(*said)], None, ()).networks
    prefixes = (IPv4Network("10.1.0.0/16"), IPv4Network("203.0.113.10/32"))
    assert network.owners == (Owner(MEMBERS[BOB], prefixes),)


def test_what_no_mesh_may_carry_is_believed_from_nobody() -> None:
    said = announcement(BOB, "172.16.0.0/25", "0.0.0.0/0", "127.0.0.0/8", "172.17.0.0/24", crossing=("172.18.0.0/24",))
    intent = intent_of(ME, [place(said), other_place()], None, ())
    assert intent.networks[0].owners == (Owner(MEMBERS[BOB], (IPv4Network("172.18.0.0/24"),)),)


def test_the_plan_says_who_reflects() -> None:
    plan = BgpPlanRecord(network_id=NET, stage="switching", reflectors=(ANN, ME))
    (network,) = intent_of(ME, [place(plan=plan)], None, ()).networks
    assert (network.stage, network.is_reflector) == ("switching", True)
    assert network.reflectors == (Neighbour(ANN, MEMBERS[ANN]),)
    assert sessions_planned(ME, place()) == 3
    assert sessions_planned(ME, place(plan=plan)) == 6
    assert sessions_planned(BOB, place(plan=BgpPlanRecord(network_id=NET, stage="reflectors", reflectors=(ANN,)))) == 1


def test_a_machines_own_policy_takes_the_place_of_its_networks() -> None:
    here = place()
    ours: dict[Literal["import", "export"], Policy] = {way: Policy(direction=way) for way in ("import", "export")}
    for way, policy in ours.items():
        record = NetworkPolicyRecord(network_id=NET, policy_id=UUID(int=30), policy=policy)
        here.words.put(network_policy(NET, way), record)
    own = Policy(direction="import", default_action="reject")
    (network,) = intent_of(ME, [here], routing(policies=(own,)), ()).networks
    assert (network.import_policy, network.export_policy) == (own, ours["export"])
    here.words.drop(network_policy(NET, "export"))
    assert intent_of(ME, [here], None, ()).networks[0].export_policy is None


def test_routes_cross_between_two_networks_at_least_that_the_machine_is_in() -> None:
    both = (NET, OTHER_NET)
    assert intent_of(ME, [other_place(), place()], routing(gateway=both), ()).crossing == both
    assert intent_of(ME, [place()], routing(gateway=both), ()).crossing == ()


def test_next_hops_behind_transits_are_narrow() -> None:
    there = replace(place(), narrow=frozenset({EVE, ANN, UUID(int=99)}))
    (network,) = intent_of(ME, [there], None, ()).networks
    assert (network.narrow, network.narrow_mtu) == ((MEMBERS[ANN], MEMBERS[EVE]), 1328)
    assert intent_of(ME, [place()], None, ()).networks[0].narrow_mtu == 0


def test_learnt_prefixes_belong_to_whoever_the_next_hop_is_if_he_may_announce_them() -> None:
    said = (announcement(BOB, "10.1.0.0/16", "10.2.0.0/16"), announcement(ANN, "10.1.0.0/16"))
    routes = {
        IPv4Network("10.1.0.0/16"): Hop("wl-1", MEMBERS[ANN]),
        IPv4Network("10.2.0.0/16"): Hop("wl-1", MEMBERS[BOB]),
        IPv4Network("10.3.0.0/16"): Hop("wl-1", MEMBERS[BOB]),
        IPv4Network("10.4.0.0/16"): Hop("wl-1", MEMBERS[EVE]),
        IPv4Network("10.5.0.0/16"): Hop("wl-1", IPv4Address("172.16.0.99")),
    }
    here = place(*said)
    assert owners_of(here, routes, [here.cidr]) == {"10.1.0.0/16": ANN, "10.2.0.0/16": BOB}
    elsewhere = {prefix: Hop("wl-2", hop.gateway) for prefix, hop in routes.items()}
    assert owners_of(here, elsewhere, [here.cidr]) == {}


def test_words_that_are_not_kept_are_forgotten() -> None:
    words = place(announcement(ANN, "10.1.0.0/16"), announcement(BOB, "10.2.0.0/16")).words
    words.retain({network_announcement(NET, BOB)})
    assert set(words.announcements) == {BOB}
