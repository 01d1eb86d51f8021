"""The files that pages need beside themselves: our style and script, and those of others that the build put here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from fastapi import APIRouter
from starlette.responses import Response

from events.errors import InternalError, NotFoundError
from services.gateway.http.guard import ANYBODY, GuardedRoute

_FOLDER = files("services.gateway.pages") / "static"
_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_NAMES = ("wireloom.css", "wireloom.js", "theme.js", "logo.svg", "vendor/htmx.js", "vendor/idiomorph.js")
_FOREVER = "public, max-age=31536000, immutable"

router = APIRouter(prefix="/static", route_class=GuardedRoute)


@dataclass(frozen=True, slots=True)
class Asset:
    """One file, and a name for what it holds."""

    content: bytes
    digest: str


@cache
def _assets() -> dict[str, Asset]:
    found = {}
    for name in _NAMES:
        try:
            content = _FOLDER.joinpath(name).read_bytes()
        except FileNotFoundError as error:
            raise InternalError(
                f"The dashboard's file {name} is not there.", hint="Install Wireloom anew: the build brings it."
            ) from error
        found[name] = Asset(content, hashlib.sha256(content).hexdigest()[:16])
    return found


def asset(name: str) -> str:
    """Where browsers find a file: another place whenever it holds something else, so that they may keep it."""
    return f"/static/{_assets()[name].digest}/{name}"


@router.get("/{digest}/{name:path}", include_in_schema=False, dependencies=[ANYBODY])
async def show_asset(digest: str, name: str) -> Response:
    """A file."""
    found = _assets().get(name)
    if found is None or found.digest != digest:
        raise NotFoundError("There is no such file.", hint="Load the page anew.")
    return Response(found.content, media_type=_TYPES[name.rpartition(".")[2]], headers={"Cache-Control": _FOREVER})
