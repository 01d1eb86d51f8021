"""The routing list as people set it, from the records: routes, virtual IPs, route policies and gateways. Pure."""

from __future__ import annotations

from uuid import UUID

from events.records import GatewayRecord, PolicyRecord, Record, RouteRecord, VipRecord


class RoutingView:
    """The newest of each that stands."""

    def __init__(self) -> None:
        self.routes: dict[UUID, RouteRecord] = {}
        self.vips: dict[UUID, VipRecord] = {}
        self.policies: dict[UUID, PolicyRecord] = {}
        self.gateways: dict[UUID, GatewayRecord] = {}
        """By machine."""
        self._former_names: dict[UUID, str] = {}

    def apply(self, subject: str, record: Record) -> None:
        """A record of STATE under `state.routing`."""
        item_id, body = UUID(subject.rpartition(".")[2]), record.body
        match body:
            case RouteRecord():
                self.routes[item_id] = body
            case VipRecord():
                self.vips[item_id] = body
            case PolicyRecord():
                self.policies[item_id] = body
            case GatewayRecord():
                self.gateways[item_id] = body
            case _:
                self._drop(subject.split(".")[2], item_id)

    def name_of(self, item: UUID) -> str | None:
        """The name of a route, virtual IP or route policy, also of one that was deleted while we listened."""
        known = self.routes.get(item) or self.vips.get(item) or self.policies.get(item)
        return known.name if known is not None else self._former_names.get(item)

    def _drop(self, part: str, item_id: UUID) -> None:
        if part == "gateway":
            self.gateways.pop(item_id, None)
            return
        name = self.name_of(item_id)
        if name is not None:
            self._former_names[item_id] = name
        for items in (self.routes, self.vips, self.policies):
            items.pop(item_id, None)
