"""The recording backend keeps the contract of all backends."""

from __future__ import annotations

import pytest

from agent.device import Changes, PortTakenError
from agent.keys import generate_private_key, public_key
from agent.recording import RecordingDevices
from events.interfaces import interface_name
from tests.support.device_contract import DeviceContract


class TestRecordingDevices(DeviceContract):
    @pytest.fixture
    def devices(self) -> RecordingDevices:
        return RecordingDevices()

    def test_a_taken_port_is_refused(self, devices: RecordingDevices, interface: str) -> None:
        devices.taken_ports.add(51820)
        with pytest.raises(PortTakenError):
            devices.apply(interface, Changes(create=True, listen_port=51820))


def test_interface_names_fit_linux() -> None:
    from uuid import UUID

    assert interface_name(UUID("0123456789ab4def8123456789abcdef")) == "wl-01234567"


def test_keys_are_as_wireguard_makes_them() -> None:
    # RFC 7748, section 6.1.
    private = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo="
    assert public_key(private) == "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="
    key = generate_private_key()
    assert len(key) == 44
    assert key != generate_private_key()


def test_a_change_shows_no_private_key() -> None:
    assert "secret" not in repr(Changes(private_key="secret"))
