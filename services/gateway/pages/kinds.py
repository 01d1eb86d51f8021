"""What the kinds of events are called, in groups as people look for them. Pure."""

from __future__ import annotations

GROUPS: dict[str, dict[str, str]] = {
    "Networks": {
        "network.created": "Network created",
        "network.renamed": "Network renamed",
        "network.default_set": "Default network changed",
        "network.route_reflector_mode_set": "Route reflector mode changed",
        "network.deleted": "Network deleted",
    },
    "Members": {
        "network.machines_assigned": "Machines assigned",
        "network.machines_unassigned": "Machines unassigned",
        "network.membership_registered": "Key and endpoints announced",
        "network.key_rotation_requested": "Key rotation requested",
    },
    "Machines": {
        "access.machine_enrolled": "Machine enrolled",
        "machine.registered": "Machine registered",
        "machine.renamed": "Machine renamed",
        "machine.agent_updated": "Agent updated",
        "machine.transit_set": "Transit changed",
        "access.machine_revoked": "Machine revoked",
        "machine.deleted": "Machine deleted",
    },
    "Routing": {
        "routing.route_created": "Route created",
        "routing.route_updated": "Route changed",
        "routing.route_deleted": "Route deleted",
        "routing.vip_created": "Virtual IP created",
        "routing.vip_updated": "Virtual IP changed",
        "routing.vip_deleted": "Virtual IP deleted",
        "routing.policy_created": "Route policy created",
        "routing.policy_updated": "Route policy changed",
        "routing.policy_deleted": "Route policy deleted",
        "routing.gateway_set": "Gateway changed",
        "routing.reflectors_pinned": "Route reflectors pinned",
        "routing.machine_unrouted": "Machine taken out of routing",
        "routing.network_unrouted": "Network taken out of routing",
    },
    "Access": {
        "access.bootstrap_token_created": "Bootstrap token created",
        "access.bootstrap_token_revoked": "Bootstrap token revoked",
        "access.account_created": "Account created",
        "access.account_role_set": "Account's role changed",
        "access.account_deleted": "Account deleted",
        "access.api_token_issued": "API token issued, signed in",
        "access.api_token_revoked": "API token revoked, signed out",
    },
}
"""Every kind there is, once."""

NAMES: dict[str, str] = {kind: name for group in GROUPS.values() for kind, name in group.items()}
