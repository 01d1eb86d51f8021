"""The routing list in the gateway's memory: what it makes of records, which lists it gives, how large scopes come."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network
from uuid import UUID, uuid4

import pytest

from events.errors import NotFoundError
from events.records import GatewayRecord, PolicyRecord, Record, RouteRecord, RoutingRecord, VipRecord
from events.routing import HealthCheck, Policy
from events.state import encode_record
from events.subjects import machine_routing, routing
from services.gateway.routed import find_item, find_items
from services.gateway.scopes import PAGE_BYTES, Scope
from tests.unit.test_gateway_mirror import START, Story

MACHINE, NETWORK = uuid4(), uuid4()


def route(name: str, prefix: str, *machines: UUID, age: int = 0) -> RouteRecord:
    made = START - timedelta(hours=age)
    return RouteRecord(
        route_id=uuid4(),
        name=name,
        enabled=True,
        prefixes=(IPv4Network(prefix),),
        machine_ids=machines,
        created_at=made,
        updated_at=made,
    )


def policy(name: str, *networks: UUID) -> PolicyRecord:
    return PolicyRecord(
        policy_id=uuid4(),
        name=name,
        description="what comes in",
        policy=Policy(direction="import"),
        network_ids=networks,
        machine_ids=(),
        created_at=START,
        updated_at=START,
    )


def put_route(story: Story, record: RouteRecord) -> UUID:
    story.put(routing("route", record.route_id), record)
    return record.route_id


def test_what_stands_is_known_by_its_kind_and_name_and_what_went_by_its_name() -> None:
    story = Story()
    lan, vip_id = put_route(story, route("lan", "10.20.0.0/16")), uuid4()
    vip = VipRecord(
        vip_id=vip_id,
        name="web",
        enabled=True,
        address=IPv4Address("203.0.113.10"),
        health_check=HealthCheck(),
        machine_ids=(MACHINE,),
        created_at=START,
        updated_at=START,
    )
    edge = policy("edge", NETWORK)
    story.put(routing("vip", vip_id), vip)
    story.put(routing("policy", edge.policy_id), edge)
    story.put(routing("gateway", MACHINE), GatewayRecord(machine_id=MACHINE, network_ids=(NETWORK, uuid4())))
    for mirror in (story.mirror, story.reloaded()):
        assert set(mirror.routing.routes) == {lan}
        assert mirror.routing.vips == {vip_id: vip}
        assert mirror.routing.policies == {edge.policy_id: edge}
        assert set(mirror.routing.gateways) == {MACHINE}
        assert [mirror.name_of(item) for item in (lan, vip_id, edge.policy_id)] == ["lan", "web", "edge"]
    for part, item in (("route", lan), ("vip", vip_id), ("policy", edge.policy_id), ("gateway", MACHINE)):
        story.put(routing(part, item), None)  # type: ignore[arg-type]
    held = story.mirror.routing
    assert [held.routes, held.vips, held.policies, held.gateways] == [{}, {}, {}, {}]
    assert story.mirror.name_of(lan) == "lan"
    with pytest.raises(NotFoundError, match="no route"):
        find_item(held.routes, lan, "route")


def test_lists_are_sorted_and_filtered() -> None:
    records = [
        route("b", "10.20.0.0/16", MACHINE, age=1),
        route("A", "10.30.0.0/16", age=3),
        route("c", "203.0.113.0/24", MACHINE, age=2),
    ]
    items = {record.route_id: record for record in records}

    def names(sort: str = "name", **fields: object) -> list[str]:
        return [items[item].name for _, item in find_items(items, sort, **fields)]  # type: ignore[arg-type]

    assert names() == ["A", "b", "c"]
    assert names("-created_at") == names("updated_at") == ["A", "c", "b"], "`take` turns the order around"
    assert names(name="a") == ["A"]
    assert names(search="10.2") == ["b"]
    assert names(machine_id=MACHINE) == ["b", "c"]
    assert names(network_id=NETWORK) == []
    edge, other = policy("edge", NETWORK), policy("other")
    policies = {each.policy_id: each for each in (edge, other)}
    assert [item for _, item in find_items(policies, "name", network_id=NETWORK)] == [edge.policy_id]
    assert len(find_items(policies, "name", search="COMES IN")) == 2


def test_large_records_come_in_smaller_pages() -> None:
    """A reply must fit into one message of the bus, whatever machines announce."""
    scope = Scope()
    prefixes = tuple(IPv4Network((0x0A000000 + (number << 8), 24)) for number in range(5_000))
    body = RoutingRecord(machine_id=MACHINE, prefixes=prefixes, vips=(), gateway=(), policies=())
    for revision in range(1, 21):
        record = Record(revision=revision, previous=revision - 1, cause=revision, time=START, body=body)
        scope.put(machine_routing(UUID(int=revision)), record, encode_record(record))
    since, sizes, told = 0, [], 0
    while True:
        reply = scope.reply("x", since)
        sizes.append(sum(len(entry.payload) for entry in reply.records))
        told, since = told + len(reply.records), reply.revision
        if not reply.more:
            break
    assert (told, since) == (20, 20)
    assert len(sizes) > 3
    assert max(sizes) <= PAGE_BYTES
    assert max(len(reply.model_dump_json()) for reply in [scope.reply("x", 0)]) < 1_000_000
