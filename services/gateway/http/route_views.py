"""Routes, virtual IPs and route policies as the API's objects. Pure."""

from __future__ import annotations

from events.records import PolicyRecord, RouteRecord, VipRecord
from services.gateway.http.policy_schemas import RoutePolicy
from services.gateway.http.route_schemas import Route, Vip


def route_view(record: RouteRecord) -> Route:
    """A route."""
    return Route(
        uuid=record.route_id,
        name=record.name,
        enabled=record.enabled,
        prefixes=record.prefixes,
        machine_uuids=record.machine_ids,
        machine_count=len(record.machine_ids),
        created_at=record.created_at,
        updated_at=record.updated_at,
    )


def vip_view(record: VipRecord) -> Vip:
    """A virtual IP."""
    check = record.health_check
    return Vip(
        uuid=record.vip_id,
        name=record.name,
        enabled=record.enabled,
        address=record.address,
        health_check_type=check.type,
        health_check_target=check.target,
        health_check_interval_seconds=check.interval_seconds,
        health_check_timeout_seconds=check.timeout_seconds,
        health_check_healthy_threshold=check.healthy_threshold,
        health_check_unhealthy_threshold=check.unhealthy_threshold,
        health_check_holdoff_seconds=check.holdoff_seconds,
        machine_uuids=record.machine_ids,
        machine_count=len(record.machine_ids),
        created_at=record.created_at,
        updated_at=record.updated_at,
    )


def policy_view(record: PolicyRecord) -> RoutePolicy:
    """A route policy."""
    return RoutePolicy(
        uuid=record.policy_id,
        name=record.name,
        description=record.description,
        direction=record.policy.direction,
        default_action=record.policy.default_action,
        local_pref=record.policy.local_pref,
        rules=record.policy.rules,
        network_uuids=record.network_ids,
        machine_uuids=record.machine_ids,
        created_at=record.created_at,
        updated_at=record.updated_at,
    )
