"""The plan, for any networks and any damage."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from agent.desired import Increment, NetworkView
from agent.device import Changes, PeerChange
from agent.plan import diff
from agent.recording import RecordingDevices
from events.records import PeerRecord
from tests.support.device_contract import a_key

OWN = UUID(int=1)
KEYS = tuple(a_key() for _ in range(7))
"""The first is the machine's own."""
ENDPOINTS = ("192.0.2.1:1", "192.0.2.2:2", "[2001:db8::1]:1", "198.51.100.1:3")
IPS = (*(f"172.20.0.{n}/32" for n in range(6)), "0.0.0.0/0")
NAME = "wl-00000001"

machines = st.integers(2, 6).map(lambda n: UUID(int=n))
records = st.builds(
    PeerRecord,
    network_id=st.just(UUID(int=9)),
    machine_id=st.integers(1, 6).map(lambda n: UUID(int=n)),
    hostname=st.just("m"),
    address=st.integers(0, 8).map(lambda n: IPv4Address("172.20.0.0") + n),
    public_key=st.sampled_from(KEYS),
    endpoints=st.lists(st.sampled_from(ENDPOINTS), max_size=3, unique=True).map(tuple),
)
steps = st.lists(st.one_of(records, machines), max_size=25)
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


def a_view() -> NetworkView:
    return NetworkView(OWN, IPv4Network("172.20.0.0/29"), IPv4Address("172.20.0.1"), KEYS[0])


def desired_of(view: NetworkView):  # type: ignore[no-untyped-def]
    return view.desired("private", 51820, 1420)


@given(steps)
def test_increments_lead_where_a_comparison_would(steps: list[PeerRecord | UUID]) -> None:
    """Applying each record's change leaves nothing for a comparison to do but endpoints; and a member's new key, whose
    endpoint depends on where the old one was reached."""
    devices, view = RecordingDevices(), a_view()
    devices.apply(NAME, diff(desired_of(view), None, 0.0))
    compare = False
    for step in steps:
        keys = {machine_id: member.public_key for machine_id, member in view.members.items()}
        increment = view.put(step) if isinstance(step, PeerRecord) else view.drop(step)
        compare |= increment.compare
        devices.apply(NAME, Changes(peers=increment.peers))
        left = diff(desired_of(view), devices.read(NAME), 1000.0)
        member = view.members.get(step.machine_id) if isinstance(step, PeerRecord) else None
        if member is not None and keys.get(step.machine_id, member.public_key) != member.public_key:
            assert increment == Increment(compare=True)
            assert {change.public_key for change in left.peers if change.remove} == {keys[step.machine_id]}
            devices.apply(NAME, left)
            compare, left = False, diff(desired_of(view), devices.read(NAME), 1000.0)
        if compare:
            for change in left.peers:
                assert change == PeerChange(change.public_key, endpoint=change.endpoint)
        else:
            assert not left
    assert "172.20.0.1/32" not in {ip for peer in devices.peers(NAME).values() for ip in peer.allowed_ips}
    assert KEYS[0] not in devices.peers(NAME)


@given(steps, edits)
def test_any_damage_is_repaired_at_once(steps: list[PeerRecord | UUID], edits: list[PeerChange]) -> None:
    devices, view = RecordingDevices(), a_view()
    for step in steps:
        _ = view.put(step) if isinstance(step, PeerRecord) else view.drop(step)
    desired = desired_of(view)
    devices.apply(NAME, diff(desired, None, 0.0))
    devices.apply(NAME, Changes(peers=tuple(edits)))
    devices.apply(NAME, diff(desired, devices.read(NAME), 1000.0))
    assert not diff(desired, devices.read(NAME), 1000.0)
    assert {key: peer.allowed_ips for key, peer in devices.peers(NAME).items()} == {
        key: peer.allowed_ips for key, peer in desired.peers.items()
    }


@given(steps)
def test_untouched_peers_are_not_named(steps: list[PeerRecord | UUID]) -> None:
    devices, view = RecordingDevices(), a_view()
    devices.apply(NAME, diff(desired_of(view), None, 0.0))
    for step in steps:
        before = desired_of(view).peers
        _ = view.put(step) if isinstance(step, PeerRecord) else view.drop(step)
        changes = diff(desired_of(view), devices.read(NAME), 1000.0)
        after = desired_of(view).peers
        for change in changes.peers:
            assert before.get(change.public_key) != after.get(change.public_key)
        devices.apply(NAME, changes)
