"""The words that are exchanged with wireguard-go, after https://www.wireguard.com/xplatform/."""

from __future__ import annotations

import base64

import pytest

from agent import uapi
from agent.device import Changes, Peer, PeerChange

KEY = base64.b64encode(bytes(range(32))).decode()
HEX = bytes(range(32)).hex()
OTHER = base64.b64encode(bytes(32 * [7])).decode()


def test_a_peer_is_set() -> None:
    change = PeerChange(KEY, endpoint="[2001:db8::1]:5", keepalive=25, add_allowed_ips=frozenset({"10.0.0.2/32"}))
    said = uapi.encode_set(Changes(private_key=OTHER, listen_port=51820, peers=(change,)), OTHER)
    assert said.decode() == (
        f"set=1\nprivate_key={'07' * 32}\nlisten_port=51820\npublic_key={HEX}\nendpoint=[2001:db8::1]:5\n"
        "persistent_keepalive_interval=25\nallowed_ip=10.0.0.2/32\n\n"
    )


def test_an_allowed_ip_is_taken_away_by_a_throwaway_peer() -> None:
    change = PeerChange(KEY, remove_allowed_ips=frozenset({"10.0.0.2/32"}))
    throwaway = "07" * 32
    assert uapi.encode_set(Changes(peers=(change,)), OTHER).decode() == (
        f"set=1\npublic_key={throwaway}\nallowed_ip=10.0.0.2/32\npublic_key={throwaway}\nremove=true\n"
        f"public_key={HEX}\n\n"
    )


def test_what_is_not_wireguards_is_not_said() -> None:
    assert uapi.encode_set(Changes(mtu=1420, up=True, add_addresses=frozenset({"10.0.0.1/32"})), OTHER) == b""


def test_an_answer_is_read() -> None:
    answer = (
        f"private_key={'07' * 32}\nlisten_port=51820\nfwmark=1\n"
        f"public_key={HEX}\npreshared_key={'00' * 32}\nprotocol_version=1\nendpoint=192.0.2.1:5\n"
        "last_handshake_time_sec=1700000000\nlast_handshake_time_nsec=500000000\ntx_bytes=10\nrx_bytes=20\n"
        "persistent_keepalive_interval=25\nallowed_ip=10.0.0.2/32\nallowed_ip=10.1.0.0/16\n"
        f"public_key={'09' * 32}\npreshared_key={'01' * 32}\nlast_handshake_time_sec=0\nerrno=0\n\n"
    ).encode()
    tunnel = uapi.parse_get(answer)
    assert (tunnel.private_key, tunnel.listen_port) == (OTHER, 51820)
    first, second = tunnel.peers.values()
    assert first == Peer(
        frozenset({"10.0.0.2/32", "10.1.0.0/16"}), "192.0.2.1:5", 25, False, 1700000000.5, rx_bytes=20, tx_bytes=10
    )
    assert second == Peer(preshared=True)
    assert uapi.parse_error(answer) == 0
    assert uapi.parse_error(b"errno=-98\n\n") == 98
    with pytest.raises(ValueError, match="no errno"):
        uapi.parse_error(b"\n\n")


def test_an_interface_without_a_key_is_read() -> None:
    assert uapi.parse_get(b"listen_port=1\nerrno=0\n\n") == uapi.Tunnel(None, 1, {})
