"""Links within a page of the past lead to the same moment. Pure.

It is done to the whole page once it is made, so that no template has to think of it: in HTML as our templates make it
attributes stand in double quotes, and what people write is escaped.
"""

from __future__ import annotations

import re

_TAG = re.compile(r"<(a|button|form|input|select)\s([^>]*)>")
_ADDRESS = re.compile(r'(?<![\w-])(href|hx-get)="([^"]*)"')
_ACTION = re.compile(r'(?<![\w-])action="([^"]*)"')
_OURS = re.compile(r"(?:/networks|/machines)(?=[/?#]|$)|paths/")
_NOW = "data-now"
"""On links that lead to the present, or to another moment."""


def keep_moment(html: str, at: str) -> str:
    """The page, with `at` (which needs no escaping) in all that leads to other pages that can be of a moment."""

    def kept(found: re.Match[str]) -> str:
        tag, attributes = found[1], found[2]
        if _NOW in attributes:
            return found[0]
        if tag == "form":
            action = _ACTION.search(attributes)
            hidden = f'<input type="hidden" name="at" value="{at}">' if action and _OURS.match(action[1]) else ""
            return found[0] + hidden
        if "hx-include" in attributes:
            return found[0]  # the form around it says it
        told = _ADDRESS.sub(lambda each: f'{each[1]}="{with_moment(each[2], at, "&amp;")}"', attributes)
        return f"<{tag} {told}>"

    return _TAG.sub(kept, html)


def with_moment(address: str, at: str, joint: str = "&") -> str:
    """An address of a page, at a moment; itself where that page has only a present."""
    if not _OURS.match(address):
        return address
    path, hash_sign, fragment = address.partition("#")
    return f"{path}{joint if '?' in path else '?'}at={at}{hash_sign}{fragment}"
