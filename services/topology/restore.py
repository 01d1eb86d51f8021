"""A topology made from what it wrote, so that it goes on where it stopped. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import UUID

from events.errors import InternalError
from events.records import (
    AccountRecord,
    AnnouncementRecord,
    ApiTokenRecord,
    Body,
    BootstrapTokenRecord,
    FormerTokenRecord,
    GatewayRecord,
    IdentityRecord,
    MachineRecord,
    MembershipRecord,
    NetworkPolicyRecord,
    NetworkRecord,
    PeerRecord,
    PolicyRecord,
    RouteRecord,
    RoutingRecord,
    SubjectRecord,
    VipRecord,
)
from events.subjects import access, as_uuid, machine_membership, machine_routing, scope, scope_of
from services.topology.access import Account
from services.topology.core import Topology
from services.topology.derived import all_announcements, all_memberships, all_peers, all_policies
from services.topology.roster import Machine, Member, Network

_TOKENS = "access:token"
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class DamagedStateError(InternalError):
    """Raised when the records of STATE cannot all have been written by a topology."""

    code = "damaged-state"
    title = "The derived state is damaged"


def restore(records: Iterable[SubjectRecord]) -> tuple[Topology, list[str]]:
    """The topology that wrote these records (all of STATE, in any order), and the purges that are not done: a service
    may have died before them, and a server that dies may forget them.

    Raises `DamagedStateError`.
    """
    restorer = _Restorer()
    try:
        return restorer.topology, restorer.restore(records)
    except KeyError as error:
        raise DamagedStateError(
            f"STATE lacks a record that others need: nothing tells of {error.args[0]}.",
            hint="Delete the stream STATE: the topology service makes it anew from the log.",
        ) from error


class _Restorer:
    """Fills an empty topology from records."""

    def __init__(self) -> None:
        self.topology = Topology()
        self._peers: dict[UUID, list[PeerRecord | None]] = defaultdict(list)
        self._memberships: dict[UUID, dict[UUID, MembershipRecord | None]] = defaultdict(dict)
        self._announced: dict[UUID, list[AnnouncementRecord]] = defaultdict(list)
        self._policed: dict[UUID, list[NetworkPolicyRecord]] = defaultdict(list)
        self._duties: dict[UUID, RoutingRecord | None] = {}
        self._tokens: list[tuple[int, ApiTokenRecord | FormerTokenRecord]] = []
        """The API tokens, each with the cause of its record."""
        self._newest: dict[str, int] = defaultdict(int)
        """For each scope, the cause of its last record."""
        self._tokens_changed_at = _LONG_AGO

    def restore(self, records: Iterable[SubjectRecord]) -> list[str]:
        """Take all records in; returns the purges that are due."""
        for entry in records:
            self._take(entry)
        return self._join_members() + self._join_peers() + self._join_routing() + self._join_tokens()

    def _take(self, entry: SubjectRecord) -> None:
        topology, record, body = self.topology, entry.record, entry.record.body
        in_scope = scope_of(entry.subject)
        topology.position = max(topology.position, record.cause)
        topology.revisions[in_scope] = max(topology.revisions.get(in_scope, 0), record.revision)
        self._newest[in_scope] = max(self._newest[in_scope], record.cause)
        if isinstance(body, NetworkRecord):
            topology.networks[body.network_id] = Network(body)
            if body.reflectors:
                topology.pinned.add(body.network_id)
            if body.is_default:
                topology.default = body.network_id
        elif isinstance(body, MachineRecord):
            topology.machines[body.machine_id] = Machine(body)
        elif isinstance(body, MembershipRecord):
            self._memberships[body.machine_id][body.network_id] = body
        elif isinstance(body, PeerRecord):
            self._peers[body.network_id].append(body)
        elif body is None:
            self._take_tombstone(entry.subject)
        elif isinstance(body, ApiTokenRecord | FormerTokenRecord):
            self._tokens.append((record.cause, body))
            if record.cause == self._newest[in_scope]:
                self._tokens_changed_at = record.time
        elif isinstance(body, BootstrapTokenRecord | IdentityRecord | AccountRecord):
            self._take_access(body)
        else:
            self._take_routing(body)

    def _take_routing(self, body: Body) -> None:
        if isinstance(body, RouteRecord | VipRecord | PolicyRecord | GatewayRecord):
            self.topology.routing.hold(body)
        elif isinstance(body, AnnouncementRecord):
            self._announced[body.network_id].append(body)
        elif isinstance(body, NetworkPolicyRecord):
            self._policed[body.network_id].append(body)
        elif isinstance(body, RoutingRecord):
            self._duties[body.machine_id] = body

    def _take_access(self, body: BootstrapTokenRecord | IdentityRecord | AccountRecord) -> None:
        access_list = self.topology.access
        if isinstance(body, BootstrapTokenRecord):
            access_list.bootstraps[body.token_id] = body
        elif isinstance(body, IdentityRecord):
            access_list.identities[body.machine_id] = body
        else:
            access_list.accounts[body.account_id] = Account(body)

    def _take_tombstone(self, subject: str) -> None:
        match subject.split("."):
            case _, "network", network_id, "peer", _:
                self._peers[as_uuid(network_id)].append(None)
            case _, "network", network_id, "announcement", _:
                self._announced[as_uuid(network_id)] += []
            case _, "network", network_id, "policy", _:
                self._policed[as_uuid(network_id)] += []
            case _, "machine", machine_id, "network", network_id:
                self._memberships[as_uuid(machine_id)][as_uuid(network_id)] = None
            case _, "machine", machine_id, "routing":
                self._duties[as_uuid(machine_id)] = None

    def _join_members(self) -> list[str]:
        due = []
        for machine_id, memberships in self._memberships.items():
            machine = self.topology.machines.get(machine_id)
            if machine is None:
                due.append(all_memberships(machine_id))
                continue
            for network_id, membership in memberships.items():
                if not self._join(machine, network_id, membership):
                    due.append(machine_membership(machine_id, network_id))
        return due

    def _join(self, machine: Machine, network_id: UUID, membership: MembershipRecord | None) -> bool:
        """Put a machine where its membership belongs; False if that is to be purged."""
        machine_id = machine.record.machine_id
        network = self.topology.networks.get(network_id)
        if network is None:
            # The same event may have told the machine what its duties are now.
            if self._newest[scope("machine", machine_id)] >= self._newest[scope("network", network_id)]:
                return False
            machine.void.add(network_id)
        elif membership is None:
            network.former.add(machine_id)
            machine.left.add(network_id)
        else:
            network.members[machine_id] = Member(membership.address, membership.assigned_at, membership.key_generation)
            machine.networks.add(network_id)
        return True

    def _join_peers(self) -> list[str]:
        topology, due = self.topology, []
        for network_id, peers in self._peers.items():
            network = topology.networks.get(network_id)
            if network is None:
                due.append(all_peers(network_id))
                continue
            for peer in filter(None, peers):
                member = network.members[peer.machine_id]
                member.public_key, member.endpoints = peer.public_key, peer.endpoints
                member.listen_port = peer.listen_port
        return due

    def _join_routing(self) -> list[str]:
        topology, announcing, due = self.topology, self.topology.announcing, []
        for network_id, announced in self._announced.items():
            if network_id not in topology.networks:
                due.append(all_announcements(network_id))
                continue
            for record in announced:
                announcing.hold(record)
        for network_id, policies in self._policed.items():
            if network_id not in topology.networks:
                due.append(all_policies(network_id))
                continue
            for policy in policies:
                announcing.policies[network_id, policy.policy.direction] = policy
        for machine_id, duties in self._duties.items():
            if machine_id not in topology.machines:
                due.append(machine_routing(machine_id))
            elif duties is not None:
                announcing.duties[machine_id] = duties
        return due

    def _join_tokens(self) -> list[str]:
        due = []
        for cause, token in self._tokens:
            expires_at = token.expires_at
            is_expired = expires_at is not None and expires_at <= self._tokens_changed_at
            if is_expired and cause < self._newest[_TOKENS]:
                due.append(access("token", token.token_id))
            elif isinstance(token, ApiTokenRecord):
                self.topology.access.hold_token(token)
            else:
                self.topology.access.hold_former_token(token)
        return due
