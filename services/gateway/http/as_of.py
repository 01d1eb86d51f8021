"""What `?at=` means for routes: why some do not take it, and how answers say of when they are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from events.errors import InvalidInputError, NotFoundError
from services.gateway.past import Past

AT = "at"

AT_HEADER = "X-Wireloom-At"
"""On answers about the past: the log's position then, and the time."""

SINCE_HEADER = "X-Wireloom-Reports-Since"
"""On answers about a moment from before all that machines reported is known: since when it is."""

_WHY = {
    "show_tunnels": "handshakes and traffic are asked of the machine's agent, and nobody writes them down",
    "show_revocation": "machines tell what they have dropped while they run, and nobody writes it down",
    "show_diff": "it compares two moments",
    "list_events": "events are listed by their own times",
    "follow_events": "events are listed by their own times",
}
"""Why there is no past, by the route's name, else by its tag."""

_WHY_TAGGED = {
    "accounts": "accounts and tokens are shown as they are now",
    "bootstrap tokens": "tokens are shown as they are now",
    "session": "it is about who asks now",
    "agents": "it is about who asks now",
    "keys": "keys and access to the message bus are shown as they are now",
    "health": "it is about how the control plane is now",
}

_HINTS = {
    "show_diff": "Give `from`, and `to`.",
    "list_events": "Give `since` and `until`, or `before` a position.",
    "follow_events": "Give `since`, or `after` a position.",
}


def timeless(method: str, name: str, tags: Sequence[str]) -> InvalidInputError:
    """The refusal of `at` on a route that does not know it."""
    if method not in ("GET", "HEAD"):
        return InvalidInputError(
            "A change is made now: it takes no `at`.", hint="Leave `at` out; to look back, read.", field=AT
        )
    why = _WHY.get(name) or next((_WHY_TAGGED[tag] for tag in tags if tag in _WHY_TAGGED), "it is about the present")
    return InvalidInputError(
        f"This cannot be looked at as it was: {why}.", hint=_HINTS.get(name, "Leave `at` out."), field=AT
    )


def absent(error: NotFoundError, position: int) -> None:
    """Have an error say that what was not found may be there at another moment."""
    error.hint = f"Asked as of log position {position}: it may have come later, or gone before."


def headers_of(past: Past) -> dict[str, str]:
    """The headers of an answer about the past. The log's beginning has no time."""
    at = str(past.position) if past.time.year <= 1 else f"{past.position} {_written(past.time)}"
    since = {} if past.is_complete or past.reports_since is None else {SINCE_HEADER: _written(past.reports_since)}
    return {AT_HEADER: at} | since


def _written(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
