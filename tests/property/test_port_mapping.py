"""Whatever a router sends, and whenever: nothing breaks, few packets leave, and only what was asked for is believed."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.port_mapping import wire
from agent.port_mapping.asking import Asking, Send
from agent.port_mapping.upnp import location_in
from tests.support.granting_router import OWN, Play, Router

PORTS = (51820, 51821, 51822)

noise = st.one_of(
    st.binary(max_size=80),
    st.builds(lambda head, rest: head + rest, st.sampled_from([b"\x02\x81", b"\x00\x80", b"\x00\x81", b"\x02\x80"]),
              st.one_of(st.binary(min_size=6, max_size=14), st.binary(min_size=58, max_size=58))),
)  # fmt: skip

happenings = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.floats(0, 3000)),
        st.tuples(st.just("want"), st.sampled_from(PORTS)),
        st.tuples(st.just("drop"), st.sampled_from(PORTS)),
        st.tuples(st.just("noise"), noise),
        st.tuples(st.just("announce"), noise),
        st.tuples(st.just("refused"), st.none()),
        st.tuples(st.just("speak"), st.sampled_from([(), ("pcp",), ("pmp",), ("pcp", "pmp")])),
        st.tuples(st.just("result"), st.integers(0, 13)),
        st.tuples(st.just("lifetime"), st.integers(0, 2**32 - 1)),
        st.tuples(st.just("reboot"), st.none()),
    ),
    max_size=30,
)


@given(st.one_of(noise, st.binary(max_size=1200)))
def test_no_bytes_break_the_codec(packet: bytes) -> None:
    wire.read(packet)
    location_in(packet)


@settings(max_examples=150)
@given(happenings, st.sampled_from(["", "192.0.2.7:4000", "nonsense", "[::1]:5"]), st.integers())
def test_whatever_happens_little_is_asked_and_nothing_breaks(
    script: list[tuple[str, object]], upnp: str, seed: int
) -> None:
    play = Play(Asking(OWN, Random(seed), has_upnp=seed % 2 == 0), Router(), upnp=upnp)
    rng, provoked = Random(seed), 0
    begun = play.now
    for what, value in script:
        match what, value:
            case "wait", float():
                play.run(value)
            case "want", int():
                play.asking.want(play.now, value, rng.randbytes(12))
            case "drop", int():
                play.asking.drop(value)
            case "noise", bytes():
                play.asking.received(play.now, value)
            case "announce", bytes():
                play.asking.announced(play.now, value)
            case "refused", _:
                play.asking.unreachable(play.now)
            case "speak", tuple():
                play.router.speaks = frozenset(value)
            case "result", int():
                play.router.result = value
            case "lifetime", int():
                play.router.lifetime = value
            case "reboot", _:
                play.router.reboot(play.now)
        provoked += what != "wait"
        play.run(0)
    play.run(700)
    # A search is up to six packets and a renewal up to four; each happening causes at most one for each port.
    assert len(play.sent) <= 10 * len(PORTS) * (provoked + (play.now - begun) / 60 + 2)
    for port in PORTS:
        mapping = play.asking.mapping(port)
        assert mapping is None or mapping.until > play.now


@given(st.lists(noise, max_size=20))
def test_no_noise_maps_a_port_whose_nonce_nobody_knows(packets: list[bytes]) -> None:
    asking = Asking(OWN, Random(1))
    nonce = Random(2).randbytes(12)
    asking.want(0.0, PORTS[0], nonce)
    (sent,) = asking.tick(0.0)
    assert isinstance(sent, Send)
    assert sent.packet[24:36] == nonce
    for packet in packets:
        asking.received(0.0, packet)
        assert asking.mapping(PORTS[0]) is None
