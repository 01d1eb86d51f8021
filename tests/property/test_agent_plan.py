"""The plan, for any networks and any damage."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from agent.device import Changes, PeerChange
from agent.members import Increment
from agent.plan import diff
from agent.recording import RecordingDevices
from agent.view import NetworkView
from events.records import PathRecord, PeerRecord, RelayRecord
from tests.support.device_contract import a_key

NETWORK = UUID(int=9)
OWN = UUID(int=1)
KEYS = tuple(a_key() for _ in range(7))
"""The first is the machine's own."""
ENDPOINTS = ("192.0.2.1:1", "192.0.2.2:2", "[2001:db8::1]:1", "198.51.100.1:3")
IPS = (*(f"172.20.0.{n}/32" for n in range(6)), "0.0.0.0/0")
NAME = "wl-00000001"

machines = st.integers(2, 6).map(lambda n: UUID(int=n))
records = st.builds(
    PeerRecord,
    network_id=st.just(NETWORK),
    machine_id=st.integers(1, 6).map(lambda n: UUID(int=n)),
    hostname=st.just("m"),
    address=st.integers(0, 8).map(lambda n: IPv4Address("172.20.0.0") + n),
    public_key=st.sampled_from(KEYS),
    endpoints=st.lists(st.sampled_from(ENDPOINTS), max_size=3, unique=True).map(tuple),
)
anybody = st.integers(1, 7).map(lambda n: UUID(int=n))
paths = st.builds(
    PathRecord,
    network_id=st.just(NETWORK),
    machine_id=st.just(OWN),
    peer_id=machines,
    ways=st.lists(st.lists(anybody, max_size=3).map(tuple), max_size=3).map(tuple),
)
relays = st.builds(
    RelayRecord,
    network_id=st.just(NETWORK),
    machine_id=st.just(OWN),
    peer_id=machines,
    behind=st.lists(st.tuples(anybody, anybody), max_size=4).map(tuple),
)
findings = st.tuples(machines, st.sampled_from(("", *ENDPOINTS)))
looks = st.sampled_from((0.5, 1.0, 3.0))
Step = PeerRecord | PathRecord | RelayRecord | tuple[UUID, str] | UUID | float
"""What happens to a view; a number: so many seconds later the interface is looked at."""
steps = st.lists(st.one_of(records, records, paths, relays, findings, machines, looks), max_size=40)
edits = st.lists(
    st.builds(
        PeerChange,
        public_key=st.sampled_from(KEYS),
        remove=st.booleans(),
        endpoint=st.none() | st.sampled_from((*ENDPOINTS, "203.0.113.9:9")),
        keepalive=st.none() | st.integers(0, 60),
        add_allowed_ips=st.frozensets(st.sampled_from(IPS), max_size=3),
        remove_allowed_ips=st.frozensets(st.sampled_from(IPS), max_size=2),
    ),
    max_size=6,
)


def a_view(is_transit: bool = False) -> NetworkView:
    view = NetworkView(NETWORK, OWN, IPv4Network("172.20.0.0/29"), IPv4Address("172.20.0.1"), KEYS[0])
    view.is_transit = is_transit
    return view


class Clock:
    """Where a look is taken at an interface."""

    def __init__(self, devices: RecordingDevices) -> None:
        self.now = 0.0
        self.devices = devices


def take(view: NetworkView, step: Step, clock: Clock | None = None) -> Increment:
    match step:
        case float():
            if clock is None:
                return Increment()
            clock.now += step
            return view.watch(clock.now, clock.devices.peers(NAME))
        case PeerRecord():
            return view.put(step)
        case PathRecord():
            return view.put_path(step) if step.ways else view.drop_path(step.peer_id)
        case RelayRecord():
            return view.put_relay(step) if step.behind else view.drop_relay(step.peer_id)
        case UUID():
            return view.drop(step)
        case machine_id, endpoint:
            return view.found(machine_id, endpoint)


def desired_of(view: NetworkView):  # type: ignore[no-untyped-def]
    return view.desired("private", 51820)


@given(steps, st.booleans(), st.booleans())
def test_increments_lead_where_a_comparison_would(steps: list[Step], is_transit: bool, is_probed: bool) -> None:
    """Applying each record's change leaves nothing for a comparison to do, but where the change asks for one."""
    devices, view = RecordingDevices(), a_view(is_transit)
    view.is_probed, clock = is_probed, Clock(devices)
    devices.apply(NAME, diff(desired_of(view), None, 0.0))
    for step in steps:
        increment = take(view, step, clock)
        devices.apply(NAME, increment.changes)
        is_lost = isinstance(step, tuple) and not step[1]
        if increment.compare or is_lost:  # nothing better is known: it stays where it was for as long as it answers
            devices.apply(NAME, diff(desired_of(view), devices.read(NAME), 1000.0))
        assert not diff(desired_of(view), devices.read(NAME), 1000.0)
    assert "172.20.0.1/32" not in {ip for peer in devices.peers(NAME).values() for ip in peer.allowed_ips}
    assert KEYS[0] not in devices.peers(NAME)


@given(steps, edits)
def test_any_damage_is_repaired_at_once(steps: list[Step], edits: list[PeerChange]) -> None:
    devices, view = RecordingDevices(), a_view()
    for step in steps:
        take(view, step)
    desired = desired_of(view)
    devices.apply(NAME, diff(desired, None, 0.0))
    devices.apply(NAME, Changes(peers=tuple(edits)))
    devices.apply(NAME, diff(desired, devices.read(NAME), 1000.0))
    assert not diff(desired, devices.read(NAME), 1000.0)
    assert {key: peer.allowed_ips for key, peer in devices.peers(NAME).items()} == {
        key: peer.allowed_ips for key, peer in desired.peers.items()
    }


@given(steps)
def test_untouched_peers_are_not_named(steps: list[Step]) -> None:
    devices, view = RecordingDevices(), a_view()
    devices.apply(NAME, diff(desired_of(view), None, 0.0))
    for step in steps:
        before = desired_of(view).peers
        take(view, step)
        changes = diff(desired_of(view), devices.read(NAME), 1000.0)
        after = desired_of(view).peers
        for change in changes.peers:
            assert before.get(change.public_key) != after.get(change.public_key)
        devices.apply(NAME, changes)


@given(steps)
def test_packets_go_directly_where_they_can_and_else_through_a_transit_that_is_there(steps: list[Step]) -> None:
    view = a_view()
    view.is_probed = True
    devices = RecordingDevices()
    clock = Clock(devices)
    devices.apply(NAME, diff(desired_of(view), None, 0.0))
    named: dict[UUID, tuple[tuple[UUID, ...], ...]] = {}
    for step in steps:
        devices.apply(NAME, take(view, step, clock).changes)
        devices.apply(NAME, diff(desired_of(view), devices.read(NAME), 1000.0))
        if isinstance(step, PathRecord):
            named[step.peer_id] = step.ways
        holders: dict[str, str] = {}
        for key, peer in devices.peers(NAME).items():
            for allowed_ip in peer.allowed_ips:
                assert holders.setdefault(allowed_ip, key) == key
        for machine_id, member in view.members.items():
            if machine_id in view.awaited:
                assert devices.peers(NAME)[member.public_key].endpoint is None
                continue
            endpoint = devices.peers(NAME)[member.public_key].endpoint
            # What others take the place of stays for a while, but is no way to send by.
            others = named.get(machine_id)
            ways = [way for way in view.paths.ways(machine_id) if not others or way.transits in others]
            if view.is_held(machine_id):
                continue
            if member.direct:
                assert endpoint == member.direct
            elif ways:
                there = [w for w in ways if w.first in view.members and not view.members[w.first].is_lost] or ways
                assert member.way == there[0]
                assert endpoint == member.nested(there[0])
                assert f"{there[0].own_address}/128" in devices.read(NAME).addresses  # type: ignore[union-attr]


@given(steps)
def test_what_is_forgotten_leaves_nothing_behind(steps: list[Step]) -> None:
    view = a_view()
    before = desired_of(view)
    for step in steps:
        take(view, step)
    for number in range(2, 7):
        view.drop_path(UUID(int=number))
        view.drop_relay(UUID(int=number))
        view.drop(UUID(int=number))
    assert desired_of(view) == before
    assert not view.paths.behind(UUID(int=2))
