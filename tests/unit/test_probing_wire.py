"""Probe packets: who can read them, who can make them, and how large they are."""

from __future__ import annotations

from uuid import UUID

import pytest

from agent.keys import generate_private_key, public_key
from agent.probing.mappings import Mappings
from agent.probing.wire import MAGIC, SIZE, Message, Ping, Pong, Sealer

MESSAGES: list[Message] = [Ping(2**64 - 1, 1.5), Pong(7, "192.0.2.1:51820"), Pong(0, "[2001:db8::1]:65535")]


def two() -> tuple[Sealer, Sealer]:
    keys = [(private, public_key(private)) for private in (generate_private_key(), generate_private_key())]
    one, other = Sealer(*keys[0]), Sealer(*keys[1])
    one.add(other.public_key)
    other.add(one.public_key)
    return one, other


@pytest.mark.parametrize("message", MESSAGES)
def test_what_is_sealed_is_opened_by_the_peer_alone(message: Message) -> None:
    one, other = two()
    packet = one.seal(other.public_key, message)
    assert other.open(packet) == (one.public_key, message)
    assert one.open(packet) is None, "its own packet, thrown back"
    third, _ = two()
    third.add(one.public_key)
    assert third.open(packet) is None


@pytest.mark.parametrize("message", MESSAGES)
def test_every_flipped_bit_and_every_other_length_is_refused(message: Message) -> None:
    one, other = two()
    packet = one.seal(other.public_key, message)
    for bit in range(8 * len(packet)):
        changed = bytearray(packet)
        changed[bit // 8] ^= 1 << bit % 8
        assert other.open(bytes(changed)) is None, bit
    for length in range(len(packet)):
        assert other.open(packet[:length]) is None
    assert other.open(packet + b"\0") is None


def test_a_pong_is_as_large_as_its_ping_and_neither_looks_like_wireguard() -> None:
    one, other = two()
    packets = [one.seal(other.public_key, message) for message in MESSAGES]
    assert {len(packet) for packet in packets} == {SIZE}
    assert all(packet.startswith(MAGIC) for packet in packets)
    assert MAGIC[0] not in (1, 2, 3, 4)


def test_the_same_message_never_looks_the_same_but_for_the_pairs_hint() -> None:
    one, other = two()
    first, second = (one.seal(other.public_key, MESSAGES[0]) for _ in range(2))
    assert first[:12] == second[:12]
    assert first[12:] != second[12:]
    third, _ = two()
    assert one.seal(third.public_key, MESSAGES[0])[4:12] != first[4:12], "other pairs have other hints"
    assert other.seal(one.public_key, MESSAGES[0])[4:12] != first[4:12], "and so has the other direction"


def test_who_was_removed_is_opened_no_more() -> None:
    one, other = two()
    other.remove(one.public_key)
    assert other.open(one.seal(other.public_key, MESSAGES[0])) is None


def test_a_key_of_low_order_is_refused() -> None:
    one, _ = two()
    with pytest.raises(ValueError, match="no key"):
        one.seal("AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", MESSAGES[0])


A, B, C = (UUID(int=n) for n in range(3))


def test_an_address_seen_by_two_is_known_and_one_that_differs_is_not() -> None:
    mappings = Mappings()
    mappings.saw(A, "x:1", "192.0.2.1:1")
    assert mappings.known() == ("192.0.2.1:1",), "by the word of the only one"
    mappings.saw(B, "y:1", "192.0.2.1:2")
    assert mappings.known() == (), "another port for another destination"
    mappings.saw(C, "z:1", "192.0.2.1:2")
    assert mappings.known() == ("192.0.2.1:2",)
    mappings.forget(C, ("z:1",))
    assert mappings.known() == ()
    mappings.forget(B, ("y:1",))
    assert mappings.known() == ("192.0.2.1:1",)
    mappings.saw(A, "x:1", "192.0.2.1:9")
    assert mappings.known() == ("192.0.2.1:9",), "the router began anew"


def test_one_peer_alone_cannot_have_many_addresses_believed() -> None:
    mappings = Mappings()
    for number in range(10):
        mappings.saw(A, f"x:{number}", f"192.0.2.{number}:1")
    assert len(mappings.known()) == 2
    mappings.own = frozenset({"198.51.100.1:1"})
    mappings.saw(B, "y:1", "198.51.100.1:1")
    mappings.saw(C, "y:1", "198.51.100.1:1")
    assert "198.51.100.1:1" not in mappings.known()
