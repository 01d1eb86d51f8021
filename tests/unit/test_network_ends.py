"""What people are told before they delete a network."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network
from uuid import UUID, uuid4

import pytest

from events.errors import NotFoundError
from events.records import BootstrapTokenRecord, GatewayRecord, NetworkRecord, VipRecord
from events.routing import HealthCheck
from events.subjects import access, network_info, routing
from services.gateway.mirror import Mirror
from services.gateway.pages.network_ends import end_of
from tests.unit.test_gateway_mirror import START, Story
from tests.unit.test_gateway_routing import policy, put_route, route

NOW = START + timedelta(hours=1)


def told(story: Story, network_id: UUID) -> str:
    return " ".join(end_of(story.mirror, network_id, NOW).effects)


def token(network_id: UUID, *, uses: int | None = 1, used: int = 0, hours: int = 2) -> BootstrapTokenRecord:
    return BootstrapTokenRecord(
        token_id=uuid4(),
        secret_hash=uuid4().hex * 2,
        created_at=START,
        created_by="cli:alice",
        expires_at=START + timedelta(hours=hours),
        uses=uses,
        used=used,
        network_id=network_id,
    )


def test_of_an_empty_one_there_is_little_to_tell() -> None:
    story = Story()
    office = story.network("office")
    end = end_of(story.mirror, office, NOW)
    assert (end.name, end.machine_count) == ("office", 0)
    assert end.effects == (
        "No machine is assigned to it, so no connection ends.",
        "172.16.0.0/24 is free for another network.",
    )


def test_there_must_be_one() -> None:
    with pytest.raises(NotFoundError):
        end_of(Mirror(), uuid4(), NOW)


def test_who_is_in_no_other_network_is_counted() -> None:
    story = Story()
    office, lab = story.network("office"), story.network("lab", "10.1.0.0/16")
    one, two = story.machine("one"), story.machine("two")
    story.assign(office, one, "172.16.0.1")
    assert "1 machine leaves and loses its address here: one. It is then in no mesh network" in told(story, office)
    story.assign(office, two, "172.16.0.2")
    assert "2 machines leave" in told(story, office)
    assert "All are then in no mesh network" in told(story, office)
    story.assign(lab, two, "10.1.0.1")
    assert "1 of them is then in no mesh network" in told(story, office)
    story.assign(lab, one, "10.1.0.2")
    assert "no mesh network" not in told(story, office)


def test_what_names_it_is_named() -> None:
    story = Story()
    office, lab = story.network("office"), story.network("lab", "10.1.0.0/16")
    inside, outside = story.machine("inside"), story.machine("outside")
    story.assign(office, inside, "172.16.0.1")
    put_route(story, route("lan", "10.20.0.0/16", inside))
    put_route(story, route("elsewhere", "10.21.0.0/16", outside))
    vip = VipRecord(
        vip_id=uuid4(),
        name="web",
        enabled=True,
        address=IPv4Address("10.8.0.1"),
        health_check=HealthCheck(),
        machine_ids=(outside, inside),
        created_at=START,
        updated_at=START,
    )
    story.put(routing("vip", vip.vip_id), vip)
    for each in (policy("edge", office, lab), policy("core", lab)):
        story.put(routing("policy", each.policy_id), each)
    story.put(routing("gateway", inside), GatewayRecord(machine_id=inside, network_ids=(office, lab)))
    said = told(story, office)
    assert "Routes stay, and are announced here no more: lan." in said
    assert "Virtual IPs stay, and answer here no more: web." in said
    assert "Route policies name it no more: edge." in said
    assert "Gateways let nothing cross between it and other networks any more: inside." in said


def test_the_default_one_and_its_pinned_reflectors() -> None:
    story = Story()
    office = uuid4()
    record = NetworkRecord(
        network_id=office,
        name="office",
        network_cidr=IPv4Network("172.16.0.0/24"),
        is_default=True,
        route_reflector_mode=True,
        created_at=START,
        reflectors=(uuid4(), uuid4()),
    )
    story.put(network_info(office), record)
    said = told(story, office)
    assert "There is no default network until you choose another" in said
    assert "The choice of its 2 pinned route reflectors is forgotten." in said


def test_only_tokens_that_count_are_counted() -> None:
    story = Story()
    office = story.network("office")
    counting = (token(office), token(office, uses=None, used=9))
    spent = (token(office, used=1), token(office, hours=1), token(uuid4()))
    revoked = token(office).model_copy(update={"revoked_at": START})
    for each in (*counting, *spent, revoked):
        story.put(access("bootstrap", each.token_id), each)
    assert "2 bootstrap tokens for it let no machine in any more." in told(story, office)
