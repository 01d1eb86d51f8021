"""The HTTP API against its own OpenAPI document: whether a request fits it or not, no answer is a fault, and each is
one that the document names."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from nats.aio.msg import Msg
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from events.subjects import ask, look
from events.trust.keys import generate
from events.tunnels import Tunnel, TunnelPart, TunnelPeer
from services.gateway.settings import Limits
from tests.support.gateway import done
from tests.support.secured_plane import API, Machine, SecuredPlane, plane_in_thread

ENDLESS = "follow_events"
SIGNING_OUT = "sign_out"
"""What makes the token count no more that it is called with."""
LAST = (
    "revoke_machine", "show_revocation", "unassign_machine", SIGNING_OUT, "revoke_token", "revoke_bootstrap_token",
    "delete_network", "delete_machine", "delete_account", "delete_route", "delete_vip", "delete_route_policy",
)  # fmt: skip
"""What takes away what others ask about, in an order in which it can."""

_PREFIX = {"prefix": "10.20.0.0/16"}

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]
EXAMPLES = 6
"""So often each operation is called with what fits, about things that exist and others, and with what does not fit."""


@dataclass
class Surroundings:
    """A control plane, and what there is in it."""

    plane: SecuredPlane
    known: dict[str, dict[str, str]]
    """The parameters of paths, by their beginnings."""
    bodies: dict[str, Any]
    """Bodies that are good, by operation: few names and ranges that are made up are."""
    queries: dict[str, dict[str, Any]]
    """Queries that are good, by operation: few machines that are made up are there."""
    other_token: str
    """For signing out with."""


@pytest.fixture
def surroundings(tmp_path: Path) -> Iterator[Surroundings]:
    plenty = 10_000_000
    limits = Limits(requests=plenty, all_requests=plenty, failures=plenty, all_failures=plenty)
    with plane_in_thread(tmp_path, limits=limits) as (plane, loop):
        yield asyncio.run_coroutine_threadsafe(furnished(plane), loop).result(60)


async def furnished(plane: SecuredPlane) -> Surroundings:
    admin = await plane.admin()

    async def made(path: str, **body: Any) -> Any:
        return await done(admin.post(f"{API}/{path}", json=body))

    network = (await made("mesh-networks", name="office", network_cidr="172.16.0.0/24", is_default=True))["uuid"]
    enrolled = await plane.enrolled("db-1")
    machine, joining = str(enrolled.id), (await made("machines", hostname="db-2"))["uuid"]
    await answer_hints(plane, enrolled, UUID(network), UUID(joining))
    account = (await made("accounts", name="ann", role="viewer"))["uuid"]
    token = (await made("tokens", name="robot", account_uuid=account))["uuid"]
    undoable = await admin.post(f"{API}/mesh-networks", json={"name": "undoable", "network_cidr": "10.99.0.0/24"})
    known = {
        f"{API}/mesh-networks": {"uuid": network, "machine_uuid": joining, "peer_uuid": machine},
        f"{API}/machines": {"uuid": machine, "network_uuid": network},
        f"{API}/accounts": {"uuid": account},
        f"{API}/tokens": {"uuid": token},
        f"{API}/bootstrap-tokens": {"uuid": (await made("bootstrap-tokens"))["uuid"]},
        f"{API}/commands": {"command_id": undoable.headers["x-command-id"]},
        f"{API}/routes": {"uuid": (await made("routes", name="lan", prefixes=["10.20.0.0/16"]))["uuid"]},
        f"{API}/vips": {"uuid": (await made("vips", name="web", address="203.0.113.10"))["uuid"]},
        f"{API}/route-policies": {"uuid": (await made("route-policies", name="edge", direction="import"))["uuid"]},
    }
    rule = {"sequence": 10, "match_type": "prefix_list", "match_prefixes": ["10.0.0.0/8"], "set_med": 5}
    bodies = {
        "create_network": {"name": "lab", "network_cidr": "10.0.0.0/24"},
        "assign_machine": {"machine_uuid": joining},
        "assign_machines": {"machine_uuids": [joining]},
        "register_machine": {"hostname": "db-3"},
        "change_machine": {"hostname": "db-4"},
        "create_account": {"name": "ben", "role": "operator"},
        "issue_token": {"name": "phone", "role": "viewer", "lifetime": "1d"},
        "sign_in": {"token": plane.admin_token},
        "create_route": {"name": "dc", "prefixes": ["10.30.0.0/16"], "machine_uuids": [machine]},
        "change_route": {"enabled": False},
        "create_vip": {"name": "mail", "address": "203.0.113.11", "health_check_type": ""},
        "change_vip": {"health_check_type": "tcp", "health_check_target": "80"},
        "create_route_policy": {"name": "out", "direction": "export", "rules": [rule]},
        "change_route_policy": {"rules": [rule]},
        "set_gateway": {"network_uuids": []},
        "pin_reflectors": {"machine_uuids": []},
        "give_bus_credentials": {"public_key": generate("user").public},
    }
    pair = {"machine": machine, "peer": joining}
    queries = {"why_peer": pair, "why_path": pair, "why_address": {"machine": machine}, "why_route": _PREFIX}
    return Surroundings(plane, known, bodies, queries, (await made("tokens", name="other"))["token"])


async def answer_hints(plane: SecuredPlane, machine: Machine, network_id: UUID, peer_id: UUID) -> None:
    """Tell of a machine's tunnels as its agent would."""
    client = await plane.joined(machine)

    async def tell(_: Msg) -> None:
        peer = TunnelPeer(machine_id=peer_id, endpoint="192.0.2.1:51820", handshake=3.5, rx_bytes=1)
        tunnel = Tunnel(network_id=network_id, interface="wl-1", backend="kernel", peers=(peer,))
        said = TunnelPart(boot_id=peer_id, counter=1, tunnels=(tunnel,))
        await client.publish(ask(machine.id, "tunnels"), said.model_dump_json().encode())

    await client.subscribe(look(machine.id), cb=tell)
    await client.flush()


def test_every_answer_is_one_that_the_document_names(surroundings: Surroundings) -> None:
    plane = surroundings.plane
    ca = str(plane.identity.folder / "tls" / "ca.pem")
    schema = schemathesis.openapi.from_url(f"{plane.url}{API}/openapi.json", verify=ca)
    operations = {each.definition.raw["operationId"]: each for each in (f.ok() for f in schema.get_all_operations())}
    assert len(operations) > 40
    assert set(surroundings.bodies) < set(operations)
    statuses: dict[str, set[int]] = defaultdict(set)
    for name in (*sorted(set(operations) - set(LAST)), *LAST):
        operation = operations[name]
        if name == ENDLESS:
            continue
        there = next((k for start, k in surroundings.known.items() if operation.path.startswith(f"{start}/{{")), None)
        good = {"path_parameters": there} if there else {}
        good |= {"body": surroundings.bodies[name]} if name in surroundings.bodies else {}
        good |= {"query": surroundings.queries[name]} if name in surroundings.queries else {}
        fitting = [operation.as_strategy(**good), operation.as_strategy()] if good else [operation.as_strategy()]
        token = surroundings.other_token if name == SIGNING_OUT else plane.admin_token
        shown = {"Authorization": f"Bearer {token}"}
        with requests.Session() as session:
            session.verify = ca
            for cases in fitting:
                statuses[name] |= run(cases, session, shown, CHECKS, EXAMPLES)
            if operation.body or operation.query or operation.path_parameters:
                misfits = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
                statuses[name] |= run(misfits, session, shown, [*CHECKS, negative_data_rejection], EXAMPLES)
            statuses[name] |= run(operation.as_strategy(), session, {}, [*CHECKS, ignored_auth], 2)
    without_success = {name for name, seen in statuses.items() if not seen & {200, 201, 204}}
    assert without_success == {"enrol", "renew"}  # these take a proof
    assert set().union(*statuses.values()) >= {400, 401, 404, 409, 422}


def run(
    cases: st.SearchStrategy[Case],
    session: requests.Session,
    headers: dict[str, str],
    checks: list[Any],
    examples: int,
) -> set[int]:
    """Send cases and check the answers, whose statuses are returned."""
    statuses: set[int] = set()

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def send(case: Case) -> None:
        response = case.call_and_validate(session=session, headers=headers, checks=checks, verify=session.verify)
        statuses.add(response.status_code)

    send()
    return statuses
