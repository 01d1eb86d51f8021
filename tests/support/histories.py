"""Valid histories of events for tests: what the allocator could have written, without an allocator."""

from __future__ import annotations

import base64
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network
from typing import Any
from uuid import UUID

from events.codec import digest_of
from events.domain import (
    ACCESS_ID,
    GENESIS_HASH,
    REGISTRY_ID,
    ROUTING_ID,
    AccountCreated,
    AccountDeleted,
    AccountRoleSet,
    ApiTokenIssued,
    ApiTokenRevoked,
    Assignment,
    BootstrapTokenCreated,
    BootstrapTokenRevoked,
    DefaultNetworkSet,
    DomainEvent,
    GatewaySet,
    KeyRotationRequested,
    MachineAgentUpdated,
    MachineDeleted,
    MachineEnrolled,
    MachineRegistered,
    MachineRenamed,
    MachineRevoked,
    MachinesAssigned,
    MachinesUnassigned,
    MachineTransitSet,
    MachineUnrouted,
    MembershipRegistered,
    NetworkCreated,
    NetworkDeleted,
    NetworkRenamed,
    NetworkUnrouted,
    PolicyCreated,
    PolicyDeleted,
    PolicyUpdated,
    ReflectorsPinned,
    RouteCreated,
    RouteDeleted,
    RouteReflectorModeSet,
    RouteUpdated,
    VipCreated,
    VipDeleted,
    VipUpdated,
)
from events.routing import HealthCheck, Policy, PolicyRule
from events.trust.keys import encode_public

_START = datetime(2026, 1, 1, tzinfo=UTC)


class History:
    """Writes events one after the other, each valid after those before it, chained as in the log."""

    def __init__(self, seed: int = 0) -> None:
        self.events: list[DomainEvent] = []
        self.actor = "cli:test"
        """Who gives the commands."""
        self.networks: dict[UUID, dict[UUID, IPv4Address]] = {}
        """Each network's members and their addresses."""
        self.machines: list[UUID] = []
        self.bootstrap_tokens: list[UUID] = []
        """Those that were not revoked."""
        self.identities: dict[UUID, str] = {}
        """The identity keys of the machines that have enrolled and were not revoked."""
        self.accounts: dict[UUID, set[UUID]] = {}
        """Each account's API tokens."""
        self.routes: dict[UUID, list[UUID]] = {}
        """Each route's machines."""
        self.vips: dict[UUID, list[UUID]] = {}
        self.policies: dict[UUID, tuple[list[UUID], list[UUID]]] = {}
        """Each policy's networks and machines."""
        self.directions: dict[UUID, str] = {}
        """Each policy's direction."""
        self.gateways: dict[UUID, list[UUID]] = {}
        """By machine."""
        self.pins: dict[UUID, list[UUID]] = {}
        """By network."""
        self._sessions: defaultdict[UUID, set[UUID]] = defaultdict(set)
        """The sessions that were begun with each API token."""
        self._revoked: set[UUID] = set()
        self._generations: dict[tuple[UUID, UUID], int] = {}
        self._passed = timedelta()
        self._default: UUID | None = None
        self._cidrs: dict[UUID, IPv4Network] = {}
        self._random = random.Random(seed)
        self._versions: dict[UUID, int] = {}
        self._hashes: dict[UUID, str] = {}

    def create_network(self, is_default: bool = False) -> UUID:
        network_id = self._uuid()
        network_cidr = IPv4Network((0x0A000000 + (len(self._cidrs) << 16), 16))
        self._record(
            NetworkCreated,
            REGISTRY_ID,
            network_id=network_id,
            name=f"net-{len(self._cidrs)}",
            network_cidr=network_cidr,
            route_reflector_mode=False,
            is_default=is_default,
        )
        self._cidrs[network_id] = network_cidr
        self.networks[network_id] = {}
        if is_default:
            self._default = network_id
        return network_id

    def rename_network(self, network_id: UUID, name: str = "renamed") -> None:
        self._record(NetworkRenamed, REGISTRY_ID, network_id=network_id, name=name, previous_name="before")

    def set_default(self, network_id: UUID | None) -> None:
        if network_id != self._default:
            self._record(DefaultNetworkSet, REGISTRY_ID, network_id=network_id, previous_network_id=self._default)
            self._default = network_id

    def set_route_reflector_mode(self, network_id: UUID, enabled: bool) -> None:
        self._record(RouteReflectorModeSet, REGISTRY_ID, network_id=network_id, enabled=enabled)

    def delete_network(self, network_id: UUID) -> None:
        members = self.networks.pop(network_id)
        # The two are written together; whoever reads them must not mind in which order.
        is_first = self._random.random() < 0.5
        if is_first:
            self._unroute_network(network_id)
        self._record(NetworkDeleted, REGISTRY_ID, network_id=network_id, name="gone", machine_count=len(members))
        if self._default == network_id:
            self._default = None
        if not is_first:
            self._unroute_network(network_id)

    def register_machine(self, hostname: str = "host") -> UUID:
        machine_id = self._uuid()
        self._record(MachineRegistered, machine_id, machine_id=machine_id, hostname=hostname, agent_version="1")
        self.machines.append(machine_id)
        return machine_id

    def rename_machine(self, machine_id: UUID, hostname: str = "other") -> None:
        self._record(MachineRenamed, machine_id, machine_id=machine_id, hostname=hostname, previous_hostname="host")

    def set_transit(self, machine_id: UUID, transit: str = "never") -> None:
        self._record(MachineTransitSet, machine_id, machine_id=machine_id, transit=transit)

    def update_agent(self, machine_id: UUID, agent_version: str = "2") -> None:
        self._record(MachineAgentUpdated, machine_id, machine_id=machine_id, agent_version=agent_version)

    def delete_machine(self, machine_id: UUID) -> None:
        """By force: out of its networks first."""
        self._leave_networks(machine_id)
        if machine_id in self.identities:
            self._revoke_identity(machine_id)
        is_first = self._random.random() < 0.5
        if is_first:
            self._unroute_machine(machine_id)
        self._record(MachineDeleted, machine_id, machine_id=machine_id, hostname="host")
        self.machines.remove(machine_id)
        if not is_first:
            self._unroute_machine(machine_id)

    def assign(self, network_id: UUID, *machine_ids: UUID) -> None:
        members = self.networks[network_id]
        taken = set(members.values())
        free = (address for address in self._cidrs[network_id].hosts() if address not in taken)
        joining = {machine_id: next(free) for machine_id in machine_ids}
        self._record(MachinesAssigned, network_id, network_id=network_id, assignments=_assignments(joining))
        members |= joining
        self._generations |= {(network_id, machine_id): 0 for machine_id in joining}

    def unassign(self, network_id: UUID, *machine_ids: UUID) -> None:
        leaving = {machine_id: self.networks[network_id].pop(machine_id) for machine_id in machine_ids}
        self._record(MachinesUnassigned, network_id, network_id=network_id, assignments=_assignments(leaving))

    def announce(self, network_id: UUID, machine_id: UUID) -> str:
        """A membership registered with a new key, which is returned."""
        public_key = base64.b64encode(self._random.randbytes(32)).decode()
        self._record(
            MembershipRegistered,
            network_id,
            network_id=network_id,
            machine_id=machine_id,
            public_key=public_key,
            listen_port=51820,
            endpoints=(f"192.0.2.1:{self._random.randint(1, 65535)}",),
        )
        return public_key

    def rotate_key(self, network_id: UUID, machine_id: UUID) -> int:
        """A request for a new key, and its generation."""
        generation = self._generations[network_id, machine_id] = self._generations[network_id, machine_id] + 1
        self._record(
            KeyRotationRequested, network_id, network_id=network_id, machine_id=machine_id, generation=generation
        )
        return generation

    def create_bootstrap_token(self, uses: int | None = None, network_id: UUID | None = None) -> UUID:
        token_id = self._uuid()
        self._record(
            BootstrapTokenCreated,
            ACCESS_ID,
            token_id=token_id,
            secret_hash=self._random.randbytes(32).hex(),
            expires_at=self._now() + timedelta(days=365),
            uses=uses,
            network_id=network_id,
        )
        self.bootstrap_tokens.append(token_id)
        return token_id

    def revoke_bootstrap_token(self, token_id: UUID) -> None:
        self._record(BootstrapTokenRevoked, ACCESS_ID, token_id=token_id)
        self.bootstrap_tokens.remove(token_id)

    def enrol(self, token_id: UUID, machine_id: UUID | None = None, identity_key: str | None = None) -> UUID:
        """A machine is let in, a new one if none is given."""
        is_new = machine_id is None
        machine_id = machine_id or self._uuid()
        identity_key = identity_key or encode_public("user", self._random.randbytes(32))
        self._record(MachineEnrolled, ACCESS_ID, machine_id=machine_id, identity_key=identity_key, token_id=token_id)
        self.identities[machine_id] = identity_key
        if is_new:
            self._record(MachineRegistered, machine_id, machine_id=machine_id, hostname="host", agent_version="1")
            self.machines.append(machine_id)
        return machine_id

    def revoke_machine(self, machine_id: UUID) -> None:
        """Out of its networks first."""
        self._leave_networks(machine_id)
        self._revoke_identity(machine_id)
        self._unroute_machine(machine_id)

    def set_route(
        self,
        *machine_ids: UUID,
        route_id: UUID | None = None,
        prefixes: tuple[str, ...] = ("192.168.0.0/24",),
        enabled: bool = True,
    ) -> UUID:
        """A new route, or as it is now."""
        kind = RouteCreated if route_id is None else RouteUpdated
        route_id = route_id or self._uuid()
        self._record(
            kind,
            ROUTING_ID,
            route_id=route_id,
            name=f"route-{route_id.hex[:8]}",
            enabled=enabled,
            prefixes=tuple(IPv4Network(prefix) for prefix in prefixes),
            machine_ids=machine_ids,
        )
        self.routes[route_id] = list(machine_ids)
        return route_id

    def delete_route(self, route_id: UUID) -> None:
        self._record(RouteDeleted, ROUTING_ID, route_id=route_id, name="gone")
        del self.routes[route_id]

    def set_vip(
        self, *machine_ids: UUID, vip_id: UUID | None = None, address: str = "203.0.113.10", enabled: bool = True
    ) -> UUID:
        """A new virtual IP, or as it is now."""
        kind = VipCreated if vip_id is None else VipUpdated
        vip_id = vip_id or self._uuid()
        self._record(
            kind,
            ROUTING_ID,
            vip_id=vip_id,
            name=f"vip-{vip_id.hex[:8]}",
            enabled=enabled,
            address=IPv4Address(address),
            health_check=HealthCheck(type="tcp", target="80"),
            machine_ids=machine_ids,
        )
        self.vips[vip_id] = list(machine_ids)
        return vip_id

    def delete_vip(self, vip_id: UUID) -> None:
        self._record(VipDeleted, ROUTING_ID, vip_id=vip_id, name="gone")
        del self.vips[vip_id]

    def set_policy(
        self,
        direction: str = "import",
        networks: tuple[UUID, ...] = (),
        machines: tuple[UUID, ...] = (),
        policy_id: UUID | None = None,
        local_pref: int | None = None,
    ) -> UUID:
        """A new route policy, or as it is now."""
        kind = PolicyCreated if policy_id is None else PolicyUpdated
        policy_id = policy_id or self._uuid()
        self._record(
            kind,
            ROUTING_ID,
            policy_id=policy_id,
            name=f"policy-{policy_id.hex[:8]}",
            description="",
            policy=Policy(direction=direction, local_pref=local_pref, rules=(PolicyRule(sequence=10),)),
            network_ids=networks,
            machine_ids=machines,
        )
        self.policies[policy_id] = (list(networks), list(machines))
        self.directions[policy_id] = direction
        return policy_id

    def delete_policy(self, policy_id: UUID) -> None:
        self._record(PolicyDeleted, ROUTING_ID, policy_id=policy_id, name="gone")
        del self.policies[policy_id]

    def set_gateway(self, machine_id: UUID, *network_ids: UUID) -> None:
        self._record(GatewaySet, ROUTING_ID, machine_id=machine_id, network_ids=network_ids)
        self.gateways[machine_id] = list(network_ids)
        if not network_ids:
            del self.gateways[machine_id]

    def pin_reflectors(self, network_id: UUID, *machine_ids: UUID) -> None:
        self._record(ReflectorsPinned, ROUTING_ID, network_id=network_id, machine_ids=machine_ids)
        self.pins[network_id] = list(machine_ids)
        if not machine_ids:
            del self.pins[network_id]

    def create_account(self, role: str = "operator") -> UUID:
        account_id = self._uuid()
        self._record(AccountCreated, ACCESS_ID, account_id=account_id, name=f"account-{account_id.hex[:8]}", role=role)
        self.accounts[account_id] = set()
        return account_id

    def set_account_role(self, account_id: UUID, role: str = "viewer") -> None:
        self._record(AccountRoleSet, ACCESS_ID, account_id=account_id, role=role, previous_role="operator")

    def delete_account(self, account_id: UUID) -> None:
        self._record(AccountDeleted, ACCESS_ID, account_id=account_id, name=f"account-{account_id.hex[:8]}")
        del self.accounts[account_id]

    def issue_api_token(self, account_id: UUID, *, is_session: bool = False, begun_with: UUID | None = None) -> UUID:
        token_id = self._uuid()
        self._record(
            ApiTokenIssued,
            ACCESS_ID,
            token_id=token_id,
            account_id=account_id,
            name=f"token-{token_id.hex[:8]}",
            role="viewer",
            use="session" if is_session else "api",
            secret_hash=self._random.randbytes(32).hex(),
            expires_at=self._now() + timedelta(hours=12) if is_session else None,
            begun_with=begun_with,
        )
        self.accounts[account_id].add(token_id)
        if begun_with is not None:
            self._sessions[begun_with].add(token_id)
        return token_id

    def let_pass(self, time: timedelta) -> None:
        """Have the next event happen later."""
        self._passed += time

    def revoke_api_token(self, account_id: UUID, token_id: UUID) -> None:
        self._record(ApiTokenRevoked, ACCESS_ID, token_id=token_id, account_id=account_id)
        self.accounts[account_id] -= {token_id, *self._sessions.pop(token_id, ())}

    def join(self, network_id: UUID) -> UUID:
        """A new machine, assigned and announced."""
        machine_id = self.register_machine()
        self.assign(network_id, machine_id)
        self.announce(network_id, machine_id)
        return machine_id

    def step(self) -> None:
        """One random change, of one event or a few, that is possible now."""
        networks = list(self.networks)
        machines = [one for one in self.machines if one not in self._revoked]
        members = [(network_id, one) for network_id in networks for one in self.networks[network_id]]
        strangers = [
            (network_id, one) for network_id in networks for one in machines if one not in self.networks[network_id]
        ]
        pick = self._random.choice
        possible: list[Any] = [lambda: self.create_network(pick((True, False))), self.register_machine]
        if members:
            possible += [lambda: self.announce(*pick(members))] * 3
            possible += [lambda: self.unassign(*pick(members)), lambda: self.rotate_key(*pick(members))]
        if strangers:
            possible += [lambda: self.assign(*pick(strangers))] * 3
            possible += [lambda: self._assign_all(pick(strangers)[0])]
        if networks:
            possible += [
                lambda: self.rename_network(pick(networks), f"net-{self._random.randint(0, 9)}"),
                lambda: self.set_default(pick([*networks, None])),
                lambda: self.set_route_reflector_mode(pick(networks), pick((True, False))),
                lambda: self.delete_network(pick(networks)),
            ]
        if machines:
            possible += [
                lambda: self.rename_machine(pick(machines), f"host-{self._random.randint(0, 9)}"),
                lambda: self.update_agent(pick(machines)),
                lambda: self.set_transit(pick(machines), pick(("auto", "always", "never"))),
                lambda: self.delete_machine(pick(self.machines)),
            ]
        pick(possible + self._access_steps() + self._routing_steps(networks, machines))()

    def _routing_steps(self, networks: list[UUID], machines: list[UUID]) -> list[Any]:
        pick = self._random.choice

        def some(items: list[UUID], most: int = 3) -> tuple[UUID, ...]:
            return tuple(self._random.sample(items, min(len(items), self._random.randint(0, most))))

        def prefixes() -> tuple[str, ...]:
            return tuple(f"192.168.{number}.0/24" for number in sorted(self._random.sample(range(6), 2)))

        def address() -> str:
            return f"203.0.113.{self._random.randint(1, 5)}"

        def policy(policy_id: UUID | None = None) -> None:
            direction, preference = pick(("import", "export")), pick((None, 50))
            others = [one for one in self.policies if one != policy_id and self.directions[one] == direction]
            taken = {each for one in others for named in self.policies[one] for each in named}
            free = [[each for each in items if each not in taken] for items in (networks, machines)]
            self.set_policy(direction, some(free[0]), some(free[1]), policy_id, preference)

        possible: list[Any] = []
        if machines:
            possible += [
                lambda: self.set_route(*some(machines), prefixes=prefixes(), enabled=pick((True, True, False))),
                lambda: self.set_vip(*some(machines), address=address()),
                policy,
                lambda: self.set_gateway(pick(machines), *some(networks)),
                lambda: self.set_gateway(pick(machines), *networks[:3]),
            ]
        if networks:
            possible.append(lambda: self.pin_reflectors(pick(networks), *some(machines)))
        if self.routes:
            possible += [
                lambda: self.set_route(*some(machines), route_id=pick(list(self.routes)), prefixes=prefixes()),
                lambda: self.delete_route(pick(list(self.routes))),
            ]
        if self.vips:
            possible += [
                lambda: self.set_vip(
                    *some(machines), vip_id=pick(list(self.vips)), address=address(), enabled=pick((True, False))
                ),
                lambda: self.delete_vip(pick(list(self.vips))),
            ]
        if self.policies:
            possible += [
                lambda: policy(pick(list(self.policies))),
                lambda: self.delete_policy(pick(list(self.policies))),
            ]
        return possible

    def _unroute_machine(self, machine_id: UUID) -> None:
        """Out of everything that names it; nothing happens where nothing does."""
        lists = [*self.routes.values(), *self.vips.values(), *(each[1] for each in self.policies.values())]
        named = [each for each in (*lists, *self.pins.values()) if machine_id in each]
        if not named and machine_id not in self.gateways:
            return
        self._record(MachineUnrouted, ROUTING_ID, machine_id=machine_id)
        for each in named:
            each.remove(machine_id)
        self.gateways.pop(machine_id, None)
        self.pins = {network_id: pinned for network_id, pinned in self.pins.items() if pinned}

    def _unroute_network(self, network_id: UUID) -> None:
        lists = (*(one[0] for one in self.policies.values()), *self.gateways.values())
        named = [each for each in lists if network_id in each]
        if not named and network_id not in self.pins:
            return
        self._record(NetworkUnrouted, ROUTING_ID, network_id=network_id)
        for each in named:
            each.remove(network_id)
        self.gateways = {machine_id: crossed for machine_id, crossed in self.gateways.items() if crossed}
        self.pins.pop(network_id, None)

    def _access_steps(self) -> list[Any]:
        pick = self._random.choice
        machines, accounts = list(self.identities), list(self.accounts)
        tokens = [(account, token) for account in accounts for token in sorted(self.accounts[account])]
        strangers = [one for one in self.machines if one not in self.identities and one not in self._revoked]
        possible: list[Any] = [self.create_bootstrap_token, self.create_account]
        if self.bootstrap_tokens:
            possible += [lambda: self.enrol(pick(self.bootstrap_tokens))] * 2
            possible += [lambda: self.revoke_bootstrap_token(pick(self.bootstrap_tokens))]
        if self.bootstrap_tokens and strangers:
            possible += [lambda: self.enrol(pick(self.bootstrap_tokens), pick(strangers))]
        if machines:
            possible += [lambda: self.revoke_machine(pick(machines))]
        if accounts:
            possible += [
                lambda: self.set_account_role(pick(accounts), pick(("viewer", "operator", "admin"))),
                lambda: self.issue_api_token(pick(accounts), is_session=pick((True, False))),
                lambda: self.delete_account(pick(accounts)),
                lambda: self.let_pass(timedelta(hours=pick((1, 12)))),
            ]
        if tokens:
            possible += [lambda: self.revoke_api_token(*pick(tokens)), lambda: self._sign_in(*pick(tokens))]
        return possible

    def _sign_in(self, account_id: UUID, token_id: UUID) -> None:
        self.issue_api_token(account_id, is_session=True, begun_with=token_id)

    def _leave_networks(self, machine_id: UUID) -> None:
        for network_id, members in self.networks.items():
            if machine_id in members:
                self.unassign(network_id, machine_id)

    def _revoke_identity(self, machine_id: UUID) -> None:
        identity_key = self.identities.pop(machine_id)
        self._record(MachineRevoked, ACCESS_ID, machine_id=machine_id, identity_key=identity_key)
        self._revoked.add(machine_id)

    def _assign_all(self, network_id: UUID) -> None:
        joining = [one for one in self.machines if one not in self.networks[network_id] and one not in self._revoked]
        self.assign(network_id, *joining)

    def _record(self, event_type: type[DomainEvent], originator_id: UUID, **fields: Any) -> None:
        version = self._versions[originator_id] = self._versions.get(originator_id, 0) + 1
        event = event_type(
            originator_id=originator_id,
            originator_version=version,
            previous_hash=self._hashes.get(originator_id, GENESIS_HASH),
            time=self._now(),
            actor=self.actor,
            command_id=self._uuid(),
            **fields,
        )
        self._hashes[originator_id] = digest_of(event)
        self.events.append(event)

    def _now(self) -> datetime:
        return _START + self._passed + timedelta(seconds=len(self.events))

    def _uuid(self) -> UUID:
        return UUID(bytes=self._random.randbytes(16), version=4)


def _assignments(members: dict[UUID, IPv4Address]) -> tuple[Assignment, ...]:
    return tuple(Assignment(machine_id=machine_id, address=address) for machine_id, address in members.items())
