"""What pydantic finds wrong with a request, as one of our errors. Pure."""

from __future__ import annotations

from pydantic import ValidationError

from events.errors import InvalidInputError

SAID_BY_US = "Value error, "
"""What pydantic puts before the words of our own ValueErrors."""


def invalid(error: ValidationError, skip: int = 0) -> InvalidInputError:
    """The first fault that was found. `skip` leaves out the first parts of its place, such as a union's tag."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"][skip:])
    return InvalidInputError(
        f"{field or 'request'}: {first['msg'].removeprefix(SAID_BY_US)}.", hint="Correct it.", field=field or None
    )
