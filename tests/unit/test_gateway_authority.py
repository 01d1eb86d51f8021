"""Roles, and which command takes which."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from events.commands import COMMAND_TYPES, INTERNAL_COMMANDS
from events.errors import ForbiddenError
from events.fields import AccountRole
from services.gateway.authority import RANKS, REQUIRED_ROLE, includes, lower, require


@dataclass
class Somebody:
    role: AccountRole


def test_every_command_that_people_may_give_has_a_role_and_no_other_has() -> None:
    assert set(REQUIRED_ROLE) == set(COMMAND_TYPES) - set(INTERNAL_COMMANDS)
    assert "viewer" not in REQUIRED_ROLE.values()


def test_a_role_includes_those_before_it() -> None:
    ordered = sorted(RANKS, key=RANKS.__getitem__)
    assert ordered == ["viewer", "operator", "admin"]
    for place, role in enumerate(ordered):
        for other_place, other in enumerate(ordered):
            assert includes(role, other) == (place >= other_place)
            assert lower(role, other) == ordered[min(place, other_place)]


def test_too_little_is_refused_with_both_roles_named() -> None:
    require(Somebody("admin"), "operator")
    require(Somebody("viewer"), "viewer")
    with pytest.raises(ForbiddenError, match="takes the role operator; yours is viewer"):
        require(Somebody("viewer"), "operator")
