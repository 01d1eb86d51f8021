"""Turns what pages show into HTML. Everything that is put in is escaped. Pure, once the templates are read."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from services.gateway.naming import count
from services.gateway.pages.assets import asset

_STEPS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))
_LONG = timedelta(days=30)
_THOUSAND = 1000


@cache
def environment() -> Environment:
    """Where templates are found, and what they may use."""
    made = Environment(
        loader=PackageLoader("services.gateway.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "after": after,
        "ago": ago,
        "left": left,
        "moment": moment,
        "quantity": quantity,
        "traffic": traffic,
        "number": number,
    }
    made.globals["asset"] = asset
    made.globals["icon"] = made.get_template("icons.html").module
    made.globals["part"] = made.get_template("parts.html").module
    return made


def render(template: str, **context: Any) -> str:
    """What a template makes of `context`."""
    return environment().get_template(template).render(context)


def moment(time: datetime | None, never: str = "never") -> Markup:
    """A time as people read it, which our script keeps saying anew: `3 minutes ago`."""
    if time is None:
        return Markup("<span>{}</span>").format(never)
    shown = f"{time:%Y-%m-%d %H:%M:%S} UTC"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(time.isoformat(), shown, shown)


def ago(time: datetime | None, now: datetime, never: str = "never") -> Markup:
    """As `moment`, seen from `now`."""
    if time is None:
        return Markup("<span>{}</span>").format(never)
    shown = f"{time:%Y-%m-%d %H:%M:%S} UTC"
    text = shown[:10] if now - time > _LONG else how_long_ago((now - time).total_seconds())
    return Markup('<time data-ago datetime="{}" title="{}">{}</time>').format(time.isoformat(), shown, text)


def left(time: datetime, now: datetime, over: str = "no time") -> Markup:
    """How long it is until then, which our script keeps saying anew: `9 minutes`; once it is past, `over`."""
    seconds, shown = (time - now).total_seconds(), f"{time:%Y-%m-%d %H:%M:%S} UTC"
    size, unit = next((step for step in _STEPS if seconds >= step[0]), _STEPS[-1])
    text = over if seconds <= 0 else count(max(1, round(seconds / size)), unit)
    return Markup('<time data-left="{}" datetime="{}" title="{}">{}</time>').format(over, time.isoformat(), shown, text)


def how_long_ago(seconds: float) -> str:
    """`3 minutes ago`."""
    for size, unit in _STEPS:
        if seconds >= size:
            return f"{count(int(seconds // size), unit)} ago"
    return "just now"


def number(value: int) -> str:
    """With commas between thousands."""
    return f"{value:,}"


def quantity(value: int, what: str) -> str:
    """A number of things, whose plural has an s."""
    return f"{value:,} {what}{'' if value == 1 else 's'}"


def after(seconds: float | None) -> str:
    """After so many seconds something was done; a hyphen where nobody has told."""
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def traffic(value: int | None) -> str:
    """Bytes as people read them: `1.2 MB`."""
    if value is None:
        return "-"
    size, units = float(value), iter(("B", "kB", "MB", "GB", "TB", "PB"))
    unit = next(units)
    while size >= _THOUSAND and (bigger := next(units, "")):
        size, unit = size / _THOUSAND, bigger
    return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
