"""Why: over any history, each step names an event that made what it is said to follow from, the last one that did."""

from __future__ import annotations

from itertools import islice
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from events.domain import (
    DomainEvent,
    MachineRegistered,
    MachineRenamed,
    MachinesAssigned,
    MachinesUnassigned,
    MachineTransitSet,
    MembershipRegistered,
)
from events.records import PeerRecord
from services.gateway.why.address import address_chains, machine_chains
from services.gateway.why.peer import peer_chain
from services.gateway.why.route import route_chains
from services.gateway.why.steps import Step
from services.gateway.why.teller import Teller
from tests.support.chains import Sight, logged
from tests.support.histories import History

SEEDS = st.integers(0, 2**32)
STEPS = st.integers(1, 60)


def sight(seed: int, steps: int) -> Sight:
    history = History(seed)
    for _ in range(steps):
        history.step()
    return Sight(logged(history.events))


def check_events(seen: Sight, chain: Step) -> None:
    """Each event step is one of the log, from a command and who gave it."""
    for step in chain.walk():
        if step.what == "event":
            assert step.position is not None
            event = seen.events[step.position - 1].event
            command = step.follows_from[0]
            assert (step.time, command.what, command.uuids) == (event.time, "command", (event.command_id,))
            assert [actor.text for actor in command.follows_from] == [event.actor]
        if step.what == "record":
            assert seen.events[(step.position or 0) - 1].event.time == step.time


def caused(seen: Sight, step: Step) -> DomainEvent:
    """The event that a field follows from."""
    position = step.follows_from[0].position
    assert position is not None
    return seen.events[position - 1].event


@settings(max_examples=30)
@given(seed=SEEDS, steps=STEPS)
def test_each_field_of_a_peer_follows_from_the_last_event_that_set_it(seed: int, steps: int) -> None:
    seen = sight(seed, steps)
    for network_id, network in seen.mirror.networks.items():
        for peer_id in list(network.members)[:3]:
            others = [one for one in network.members if one != peer_id]
            if not others:
                continue
            chain = seen.explained(
                lambda known, n=network_id, p=peer_id, o=others[0]: peer_chain(Teller(seen, known), o, p, n)
            )
            check_events(seen, chain)
            body = network.peers.get(peer_id)
            assert chain.follows_from[0].what == "record"
            if body is not None:
                check_fields(seen, chain, body)
            else:
                assert "no key" in chain.text


def check_fields(seen: Sight, chain: Step, body: PeerRecord) -> None:
    address, hostname, key, *more = chain.follows_from[0].follows_from
    assigned, named, announced = (caused(seen, step) for step in (address, hostname, key))
    assert isinstance(assigned, MachinesAssigned)
    assert (body.machine_id, body.address) in [(each.machine_id, each.address) for each in assigned.assignments]
    assert isinstance(named, MachineRegistered | MachineRenamed)
    assert named.hostname == body.hostname
    assert isinstance(announced, MembershipRegistered)
    assert (announced.machine_id, announced.public_key) == (body.machine_id, body.public_key)
    transits = [caused(seen, step) for step in more if step.text.startswith("its transit")]
    assert [event.transit for event in transits if isinstance(event, MachineTransitSet)] in ([], [body.transit])
    assert transits or body.transit == "auto"


@settings(max_examples=30)
@given(seed=SEEDS, steps=STEPS)
def test_an_address_follows_from_its_assignment_or_from_who_left_it(seed: int, steps: int) -> None:
    seen = sight(seed, steps)
    for network_id, network in seen.mirror.networks.items():
        assert network.record is not None
        held = {member.address: machine_id for machine_id, member in network.members.items()}
        for address in islice(network.record.network_cidr.hosts(), 4):
            (chain,) = seen.explained(lambda known, a=address, n=network_id: address_chains(Teller(seen, known), a, n))
            check_events(seen, chain)
            cause = seen.events[(next(s for s in chain.walk() if s.what == "event").position or 0) - 1].event
            if address in held:
                assert isinstance(cause, MachinesAssigned)
                assert (held[address], address) in [(each.machine_id, each.address) for each in cause.assignments]
            elif chain.time is not None:
                assert isinstance(cause, MachinesUnassigned)
                assert address in [each.address for each in cause.assignments]
            else:
                assert "nobody has ever had it" in chain.text


@settings(max_examples=30)
@given(seed=SEEDS, steps=STEPS)
def test_everything_that_there_ever_was_has_a_why(seed: int, steps: int) -> None:
    seen = sight(seed, steps)
    machines = [each.event.machine_id for each in seen.events if isinstance(each.event, MachineRegistered)]
    networks: list[UUID | None] = [None, *seen.mirror.networks]
    prefixes = {prefix for route in seen.mirror.routing.routes.values() for prefix in route.prefixes}
    for network_id in networks[:3]:
        for machine_id in machines[:4]:
            for chain in seen.explained(lambda k, m=machine_id, n=network_id: machine_chains(Teller(seen, k), m, n)):
                check_events(seen, chain)
            for prefix in sorted(prefixes)[:2]:
                for chain in seen.explained(
                    lambda k, p=prefix, m=machine_id, n=network_id: route_chains(Teller(seen, k), p, m, n)
                ):
                    check_events(seen, chain)
