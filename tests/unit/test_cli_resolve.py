"""What a person means by a name."""

from __future__ import annotations

from uuid import uuid4

import pytest

from events.errors import InvalidInputError, NotFoundError
from services.cli.resolve import as_uuid, choose_machines, choose_network


def machine(hostname: str) -> dict[str, str]:
    return {"uuid": str(uuid4()), "hostname": hostname}


def test_a_uuid_is_told_from_a_name() -> None:
    uuid = str(uuid4())
    assert as_uuid(uuid.upper()) == uuid
    assert as_uuid("office") is None
    assert as_uuid(uuid.replace("-", "")) is None  # a name may look like that


def test_a_network_is_found_by_name_and_by_uuid() -> None:
    networks = [{"uuid": str(uuid4()), "name": "office"}, {"uuid": str(uuid4()), "name": "lab"}]
    assert choose_network("Lab", networks) is networks[1]
    assert choose_network(networks[0]["uuid"].upper(), networks) is networks[0]


def test_an_unknown_network_suggests_those_that_look_like_it() -> None:
    networks = [{"uuid": str(uuid4()), "name": name} for name in ("office-mesh", "lab")]
    with pytest.raises(NotFoundError, match="no network 'ofice-mesh'") as refusal:
        choose_network("ofice-mesh", networks)
    assert refusal.value.hint == "Did you mean office-mesh?"
    with pytest.raises(NotFoundError) as refusal:
        choose_network("zebra", networks)
    assert "wireloom network list" in refusal.value.hint


def test_machines_come_in_the_order_asked_for_and_once() -> None:
    machines = [machine(f"web-{n}") for n in range(4)]
    chosen = choose_machines(["WEB-3", machines[1]["uuid"], "web-3"], machines)
    assert chosen == [machines[3], machines[1]]


def test_a_hostname_of_several_machines_lists_their_uuids() -> None:
    twins = [machine("db"), machine("db")]
    with pytest.raises(InvalidInputError, match="2 machines have the hostname 'db'") as refusal:
        choose_machines(["db"], [*twins, machine("web")])
    assert all(twin["uuid"] in refusal.value.hint for twin in twins)
    assert choose_machines([twins[1]["uuid"]], twins) == [twins[1]]


def test_an_unknown_machine_suggests_those_that_look_like_it() -> None:
    with pytest.raises(NotFoundError) as refusal:
        choose_machines(["web-1", "web1"], [machine("web-1"), machine("db")])
    assert refusal.value.hint == "Did you mean web-1?"
