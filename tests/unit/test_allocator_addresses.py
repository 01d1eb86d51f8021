"""The set of taken addresses against a plain set."""

from ipaddress import IPv4Network

from hypothesis import given
from hypothesis import strategies as st

from services.allocator.addresses import AddressSet

NETWORKS = [
    IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/16", "192.168.4.0/22", "192.168.1.64/27", "10.9.8.4/30")
]


@given(st.sampled_from(NETWORKS), st.data())
def test_agrees_with_a_plain_set(network: IPv4Network, data: st.DataObject) -> None:
    first = int(network.network_address) + 1
    near = st.integers(first, min(first + 4000, first + network.num_addresses - 3))
    plain = set(data.draw(st.lists(near, max_size=40)))
    plain |= set(range(first, first + data.draw(st.integers(0, min(2100, network.num_addresses - 2)))))
    taken = AddressSet.of(plain)
    for gone in data.draw(st.lists(st.sampled_from(sorted(plain)), max_size=10, unique=True) if plain else st.just([])):
        plain.remove(gone)
        taken = taken.remove(gone)
    assert taken.count == len(plain)
    assert all(address in taken for address in plain)
    assert taken.lowest_free(first) == next(a for a in range(first, first + 70_000) if a not in plain)


def test_a_full_slash_16_has_its_last_address_taken_last() -> None:
    first = int(IPv4Network("10.5.0.0/16").network_address) + 1
    taken = AddressSet()
    for expected in range(first, first + 65_534):
        found = taken.lowest_free(first)
        assert found == expected
        taken = taken.add(found)
    assert taken.count == 65_534
    assert taken.remove(first + 40_000).lowest_free(first) == first + 40_000
