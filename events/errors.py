"""Everything that can be refused or go wrong, as one tree.

    WireloomError
    ├── InvalidInputError       the request can never succeed as it stands
    │   ├── InvalidCidrError        a network's range is not usable
    │   └── InvalidNameError        a network's name or a machine's hostname is not usable
    ├── NotFoundError           what was named does not exist (or does no longer)
    ├── ConflictError           the request does not fit the present state
    │   ├── NameTakenError          another thing of the kind has this name
    │   ├── CidrOverlapError        another network's range shares addresses with this one
    │   ├── RouteOverlapError       a route or virtual IP and a network would share addresses
    │   ├── PrefixTakenError        another route or virtual IP has this prefix or address
    │   ├── PolicyTakenError        the network or machine has a route policy for this direction
    │   ├── NotMemberError          the machine is not in the network
    │   ├── NetworkFullError        every address of the network is taken
    │   ├── AddressUnavailableError the requested address is taken or not assignable
    │   ├── IdTakenError            the id belongs to something else
    │   ├── InUseError              machines are still assigned; needs force
    │   ├── KeyTakenError           another machine of the network has this public key
    │   ├── MachineDeletedError     the machine was deleted and its id is spent
    │   ├── CommandIdReusedError    one command id was used for two different commands
    │   ├── IdentityTakenError      the machine or the identity key has enrolled as something else
    │   ├── LastAdminError          nobody could manage the control plane any more
    │   ├── CannotUndoError         what a command did cannot be taken back (any more)
    │   └── AgentSilentError        the machine's agent does not answer
    ├── UnauthenticatedError    nobody knows who asks
    ├── ForbiddenError          who asks may not do this
    │   ├── TokenRefusedError       a bootstrap token does not (or no longer) let anybody in
    │   └── MachineRevokedError     the machine was revoked, for good
    ├── RateLimitedError        too many requests; wait
    ├── UnavailableError        a part of the control plane does not answer; try again
    └── InternalError           a fault of ours

Each carries what was wrong (`detail`) and what would be right (`hint`). The class attributes map it, once and for
everybody, to an HTTP status (RFC 9110), a problem type (RFC 9457), a NATS reply and an exit code.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import orjson

PROBLEM_TYPE_PREFIX = "urn:wireloom:problem:"


class WireloomError(Exception):
    """Base of everything that Wireloom refuses or fails at. Raised only through its subclasses."""

    code: ClassVar[str] = "error"
    title: ClassVar[str] = "Wireloom could not do this"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, detail: str, *, hint: str = "", field: str | None = None) -> None:
        """`detail` says what was asked and why it cannot be, `hint` what to do, `field` which input is meant."""
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.field = field

    def __str__(self) -> str:
        return f"{self.detail} {self.hint}".strip()

    def to_problem(self) -> dict[str, Any]:
        """This error as an RFC 9457 problem object, with `code`, `hint` and `field` as extension members."""
        problem: dict[str, Any] = {
            "type": PROBLEM_TYPE_PREFIX + self.code,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        if self.hint:
            problem["hint"] = self.hint
        if self.field:
            problem["field"] = self.field
        return problem

    def to_json(self) -> bytes:
        """The problem object as JSON bytes, for replies over the bus."""
        return orjson.dumps(self.to_problem())

    @classmethod
    def all_codes(cls) -> dict[str, type[WireloomError]]:
        """Every class of the tree by its code."""
        found: dict[str, type[WireloomError]] = {cls.code: cls}
        for child in cls.__subclasses__():
            found |= child.all_codes()
        return found

    @classmethod
    def from_problem(cls, problem: dict[str, Any]) -> Self | WireloomError:
        """The error that a problem object describes; an unknown code becomes an `InternalError`."""
        kind = WireloomError.all_codes().get(str(problem.get("code")), InternalError)
        return kind(
            str(problem.get("detail", "no detail was given")),
            hint=str(problem.get("hint", "")),
            field=problem.get("field"),
        )


class InvalidInputError(WireloomError):
    """Raised when a request can never succeed as it stands."""

    code = "invalid-input"
    title = "The request is not valid"
    status = 422
    exit_code = 2


class InvalidCidrError(InvalidInputError):
    """Raised when a network's range is not canonical, not private, or of an unusable size."""

    code = "invalid-cidr"
    title = "The network CIDR is not usable"


class InvalidNameError(InvalidInputError):
    """Raised when a network's name or a machine's hostname is not usable."""

    code = "invalid-name"
    title = "The name is not usable"


class NotFoundError(WireloomError):
    """Raised when what was named does not exist, or does no longer."""

    code = "not-found"
    title = "There is no such thing"
    status = 404
    exit_code = 3


class ConflictError(WireloomError):
    """Raised when a request does not fit the present state."""

    code = "conflict"
    title = "The request does not fit the present state"
    status = 409
    exit_code = 4


class NameTakenError(ConflictError):
    """Raised when another network (account, API token, route, virtual IP, route policy) has the name."""

    code = "name-taken"
    title = "The name is taken"


class CidrOverlapError(ConflictError):
    """Raised when another network of the account shares addresses with the range."""

    code = "cidr-overlap"
    title = "The network CIDR overlaps another network"


class RouteOverlapError(ConflictError):
    """Raised when a route or virtual IP shares addresses with a network."""

    code = "route-overlap"
    title = "A route and a mesh network overlap"


class PrefixTakenError(ConflictError):
    """Raised when another route or virtual IP has the prefix or address."""

    code = "prefix-taken"
    title = "The prefix is taken"


class PolicyTakenError(ConflictError):
    """Raised when a network or machine has another route policy for the same direction."""

    code = "policy-taken"
    title = "There is a route policy for this direction already"


class NotMemberError(ConflictError):
    """Raised when a machine is to do something in a network that it is not in."""

    code = "not-a-member"
    title = "The machine is not in the network"


class NetworkFullError(ConflictError):
    """Raised when a network has no free address left."""

    code = "network-full"
    title = "The network is full"


class AddressUnavailableError(ConflictError):
    """Raised when a requested address is taken, or is not one that the network can assign."""

    code = "address-unavailable"
    title = "The address is not available"


class IdTakenError(ConflictError):
    """Raised when an id was given that belongs to something of another kind, or is reserved."""

    code = "id-taken"
    title = "The id belongs to something else"


class InUseError(ConflictError):
    """Raised when a network or machine still has assignments and the deletion was not forced."""

    code = "in-use"
    title = "Machines are still assigned"


class KeyTakenError(ConflictError):
    """Raised when another machine of the network has announced the same public key."""

    code = "key-taken"
    title = "The public key is taken"


class MachineDeletedError(ConflictError):
    """Raised when a command names a machine that was deleted: its id is spent."""

    code = "machine-deleted"
    title = "The machine was deleted"


class CommandIdReusedError(ConflictError):
    """Raised when a command id that was already executed comes back with a different command."""

    code = "command-id-reused"
    title = "The command id belongs to another command"


class IdentityTakenError(ConflictError):
    """Raised when a machine enrols with another key than before, or with a key that another machine has."""

    code = "identity-taken"
    title = "The identity belongs to another machine"


class LastAdminError(ConflictError):
    """Raised when a change would leave no account with the role admin."""

    code = "last-admin"
    title = "There must be an admin"


class CannotUndoError(ConflictError):
    """Raised when what a command did can never be taken back, or not any more: it was changed since."""

    code = "cannot-undo"
    title = "The command cannot be undone"


class AgentSilentError(ConflictError):
    """Raised when somebody wants to know what only a machine's agent knows, and that does not answer."""

    code = "agent-silent"
    title = "The agent does not answer"


class UnauthenticatedError(WireloomError):
    """Raised when a request does not show who asks, or shows a token that does not count."""

    code = "unauthenticated"
    title = "Sign in first"
    status = 401
    exit_code = 6


class ForbiddenError(WireloomError):
    """Raised when who asks may not do this."""

    code = "forbidden"
    title = "This is not allowed"
    status = 403
    exit_code = 6


class TokenRefusedError(ForbiddenError):
    """Raised when a bootstrap token is unknown, expired, revoked or used up."""

    code = "token-refused"
    title = "The bootstrap token lets nobody in"


class MachineRevokedError(ForbiddenError):
    """Raised when a machine that was revoked asks for anything."""

    code = "machine-revoked"
    title = "The machine was revoked"


class RateLimitedError(WireloomError):
    """Raised when somebody asks too often."""

    code = "rate-limited"
    title = "Too many requests"
    status = 429
    exit_code = 5

    retry_after = 1
    """After how many seconds one may ask again."""


class UnavailableError(WireloomError):
    """Raised when a part of the control plane does not answer in time; the same request may succeed later."""

    code = "unavailable"
    title = "A part of the control plane does not answer"
    status = 503
    exit_code = 5


class InternalError(WireloomError):
    """Raised for a fault of Wireloom's own."""

    code = "internal"
    title = "Wireloom failed"
    status = 500
    exit_code = 1
