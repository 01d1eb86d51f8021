"""The parameters that a route's address may have after the question mark."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, get_origin

from fastapi.dependencies.models import Dependant
from pydantic import BaseModel
from starlette.requests import Request

from events.errors import InvalidInputError
from events.fields import shown


def parameters_of(dependant: Dependant) -> dict[str, Any]:
    """The parameters that a route knows, each with its type."""
    return dict(_known(dependant))


def require_once(request: Request, known: dict[str, Any]) -> None:
    """That each parameter is given once, but for lists. Raises `InvalidInputError`: which one should count?"""
    for name in request.query_params:
        if get_origin(known.get(name)) is not list and len(request.query_params.getlist(name)) > 1:
            raise InvalidInputError(f"{shown(name)} was given more than once.", hint="Give it once.", field=name)


def require_only(request: Request, known: Collection[str]) -> None:
    """That no parameters are given but those known. Raises `InvalidInputError`."""
    for name in request.query_params:
        if name not in known:
            raise InvalidInputError(f"There is no parameter {shown(name)} here.", hint="Leave it out.", field=name)


def _known(dependant: Dependant) -> Iterator[tuple[str, Any]]:
    for field in dependant.query_params:
        kind: Any = field.field_info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from ((each.alias or name, each.annotation) for name, each in kind.model_fields.items())
        else:
            yield field.alias, kind
    for each in dependant.dependencies:
        yield from _known(each)
