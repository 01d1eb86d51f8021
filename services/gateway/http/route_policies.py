"""`/api/v1/route-policies`: what machines take in from the others, and tell them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import ValidationError
from starlette.responses import Response

from events.commands import CreatePolicy, DeletePolicy, Outcome, UpdatePolicy
from events.errors import InvalidInputError
from events.routing import Policy, PolicyRule
from services.gateway.http.changes import PLAIN, Change, Changing, json_response
from services.gateway.http.documents import changing, viewing
from services.gateway.http.guard import OPERATOR, VIEWER, GuardedRoute
from services.gateway.http.moments import PLAIN_AT, Viewed
from services.gateway.http.policy_schemas import (
    RoutePolicy,
    RoutePolicyChange,
    RoutePolicyCreate,
    RoutePolicyPage,
    RoutePolicyQuery,
    RuleGiven,
)
from services.gateway.http.route_views import policy_view
from services.gateway.queries import take
from services.gateway.routed import find_item, find_items
from services.gateway.seen import Seen

PATH = "/api/v1/route-policies"
router = APIRouter(prefix=PATH, tags=["routes"], route_class=GuardedRoute)

_CONTENT = ("direction", "default_action", "local_pref")


@router.get("", response_model=RoutePolicyPage, responses=viewing(), dependencies=[VIEWER])
async def list_route_policies(seen: Viewed, query: Annotated[RoutePolicyQuery, Query()]) -> Response:
    """List the route policies."""
    known = seen.mirror.routing.policies
    rows = find_items(
        known,
        query.sort,
        name=query.name,
        search=query.search,
        machine_id=query.machine_uuid,
        network_id=query.network_uuid,
    )
    page = take(rows, query.sort, query.limit, query.after)
    items = tuple(policy_view(known[policy_id]) for policy_id in page.ids)
    return json_response(RoutePolicyPage(items=items, total=page.total, next=page.next))


@router.post(
    "",
    status_code=201,
    response_model=RoutePolicy,
    responses=changing(201, located=True),
    dependencies=[OPERATOR, PLAIN],
)
async def create_route_policy(change: Changing, body: RoutePolicyCreate) -> Response:
    """Create a route policy, for all machines of some networks or for some machines."""
    policy_id = change.another_id("policy")
    outcome = await change.give(
        CreatePolicy(
            command_id=change.command_id,
            actor=change.actor,
            policy_id=policy_id,
            name=body.name,
            description=body.description,
            policy=_policy({name: getattr(body, name) for name in _CONTENT} | {"rules": _rules(body.rules)}),
            network_ids=tuple(body.network_uuids),
            machine_ids=tuple(body.machine_uuids),
        )
    )
    return await _answer(change, outcome, policy_id, 201)


@router.get("/{uuid}", response_model=RoutePolicy, responses=viewing(), dependencies=[VIEWER, PLAIN_AT])
async def show_route_policy(seen: Viewed, uuid: UUID) -> Response:
    """Show a route policy with its rules."""
    return json_response(_view(seen, uuid))


@router.patch("/{uuid}", response_model=RoutePolicy, responses=changing(200), dependencies=[OPERATOR, PLAIN])
async def change_route_policy(change: Changing, uuid: UUID, body: RoutePolicyChange) -> Response:
    """Change a route policy. Rules that are given take the place of all that there are."""
    before = find_item(change.gateway.mirror.routing.policies, uuid, "route policy")
    given = body.model_fields_set
    outcome = await change.give(
        UpdatePolicy(
            command_id=change.command_id,
            actor=change.actor,
            policy_id=uuid,
            name=body.name if "name" in given else None,
            description=body.description if "description" in given else None,
            policy=_changed(before.policy, body),
            network_ids=tuple(body.network_uuids) if "network_uuids" in given else None,
            machine_ids=tuple(body.machine_uuids) if "machine_uuids" in given else None,
        )
    )
    return await _answer(change, outcome, uuid, 200)


@router.delete(
    "/{uuid}", status_code=204, response_class=Response, responses=changing(204), dependencies=[OPERATOR, PLAIN]
)
async def delete_route_policy(change: Changing, uuid: UUID) -> Response:
    """Delete a route policy."""
    outcome = await change.give(DeletePolicy(command_id=change.command_id, actor=change.actor, policy_id=uuid))
    return await change.answer(outcome, 204, f"{PATH}/{uuid}")


def _changed(before: Policy, body: RoutePolicyChange) -> Policy | None:
    """The policy's content with what the body says of it; None where it says nothing. Raises `InvalidInputError`."""
    given: dict[str, Any] = {name: getattr(body, name) for name in _CONTENT if name in body.model_fields_set}
    if "rules" in body.model_fields_set:
        given["rules"] = _rules(body.rules)
    return _policy(dict(before) | given) if given else None


def _rules(given: Sequence[RuleGiven]) -> tuple[PolicyRule, ...]:
    return tuple(sorted((each.rule() for each in given), key=lambda rule: rule.sequence))


def _policy(fields: dict[str, Any]) -> Policy:
    try:
        return Policy(**fields)
    except ValidationError as error:
        why = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InvalidInputError(
            f"The rules do not fit together: {why}.", hint="Give each a sequence number of its own.", field="rules"
        ) from error


async def _answer(change: Change, outcome: Outcome, policy_id: UUID, status: int) -> Response:
    return await change.answer(outcome, status, f"{PATH}/{policy_id}", lambda: _view(change.gateway, policy_id))


def _view(seen: Seen, policy_id: UUID) -> RoutePolicy:
    return policy_view(find_item(seen.mirror.routing.policies, policy_id, "route policy"))
