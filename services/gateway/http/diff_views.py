"""What changed between two moments as the API's objects. Pure."""

from __future__ import annotations

from typing import Any

from services.gateway.differences import Change, Difference, Named
from services.gateway.http.diff_schemas import Changes, DiffChange, DiffNamed, DiffTally


def changes_view(found: Difference) -> Changes:
    """A difference."""
    return Changes(**parts(found))


def parts(found: Difference) -> dict[str, Any]:
    """The fields of `Changes`, for what has others beside them."""
    tallies = (
        DiffTally(what=each.what, added=each.added, removed=each.removed, changed=each.changed)
        for each in found.tallies
    )
    return {"items": tuple(map(_change, found.changes)), "total": found.total, "tallies": tuple(tallies)}


def named_view(named: Named) -> DiffNamed:
    """Something that has a name."""
    return DiffNamed(uuid=named.uuid, name=named.name)


def _change(change: Change) -> DiffChange:
    return DiffChange(
        what=change.what,
        kind=change.kind,
        text=change.text,
        mesh_network=None if change.network is None else named_view(change.network),
        machines=tuple(map(named_view, change.machines)),
        item=None if change.item is None else named_view(change.item),
        field=change.field or None,
        before=change.before,
        after=change.after,
        count=change.count,
        is_lesser=change.is_lesser,
    )
