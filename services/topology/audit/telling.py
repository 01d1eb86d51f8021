"""What differs, as findings: what stands there, and what should. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import orjson

from events.audit.findings import Code, Finding

_VALUE_WIDTH = 80
_FIELDS_SHOWN = 3


def record_differs(subject: str, expected: bytes | None, found: bytes | None) -> Finding:
    """A record of STATE that is not the one that follows from the log."""
    if found is None:
        assert expected is not None
        follows = orjson.loads(expected)
        return finding("state", subject, follows["cause"], f"STATE lacks {subject}", shown(follows))
    try:
        held = orjson.loads(found)
        cause = int(held["cause"])
    except (ValueError, KeyError, TypeError):
        held, cause = None, 0
    if expected is None:
        problem = f"STATE holds {subject}, which does not follow from the log"
        return finding("state", subject, cause, problem, "nothing there")
    follows = orjson.loads(expected)
    stands, right = contrast(held, follows)
    return finding("state", subject, follows["cause"], f"STATE differs at {subject}: {stands}", right)


def contrast(held: Any, follows: Any) -> tuple[str, str]:
    """In which fields two JSON documents differ: what stands there, and what follows."""
    apart = list(_apart(held, follows))
    more = f" and {len(apart) - _FIELDS_SHOWN} more" if len(apart) > _FIELDS_SHOWN else ""
    stands = ", ".join(f"{name} is {shown(one)}" for name, one, _ in apart[:_FIELDS_SHOWN])
    right = ", ".join(f"{name} {shown(other)}" for name, _, other in apart[:_FIELDS_SHOWN])
    return f"{stands}{more}" or "it is written in another form", right


def finding(code: Code, subject: str, position: int, problem: str, expected: str) -> Finding:
    """A finding about what stands on a subject."""
    return Finding(
        code=code,
        position=max(position, 0),
        problem=problem,
        expected=expected,
        aggregate=_about(subject),
        subject=subject,
    )


def shown(value: Any) -> str:
    """A JSON value, cut where it is long."""
    text = orjson.dumps(value).decode()
    return text if len(text) <= _VALUE_WIDTH else f"{text[:_VALUE_WIDTH]}…"


def _about(subject: str) -> UUID | None:
    """The network or machine that a subject belongs to; None for what belongs to no one."""
    _, kind, *rest = subject.split(".")
    try:
        return UUID(rest[0]) if kind in ("network", "machine", "paths", "bgp") and rest else None
    except ValueError:
        return None


def _apart(one: Any, other: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two JSON documents differ, by the names of their fields."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            yield from _apart(one.get(key), other.get(key), f"{name}.{key}" if name else key)
    elif one != other:
        yield name or "the record", one, other
