"""A route policy's rules as one writes them on the command line. Pure.

A rule is its sequence number, `accept` or `reject`, and what it matches and sets as `name=value`:

    10 accept prefix=10.0.0.0/8,192.168.0.0/16 max=24 local-pref=200 add=65000:1
    20 reject as-path='* 4200000001 *'
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import orjson

from events.errors import InvalidInputError
from services.cli.api import Json

_LISTS = {
    "prefix": "match_prefixes",
    "community": "match_communities",
    "set": "set_communities",
    "add": "add_communities",
    "remove": "remove_communities",
}
_NUMBERS = {
    "min": "match_prefix_len_min",
    "max": "match_prefix_len_max",
    "local-pref": "set_local_pref",
    "med": "set_med",
    "prepend": "prepend_as_count",
}
_TEXTS = {"as-path": "match_as_path", "description": "description"}
_MATCHES = {"prefix": "prefix_list", "community": "community", "as-path": "as_path"}

HELP = (
    "A rule, in quotes; several times. Such as: 10 accept prefix=10.0.0.0/8 max=24 local-pref=200. It matches any "
    "route, or prefix=P,P with min=N and max=N, community=C,C or as-path='* ASN'; it sets local-pref=N, med=N, "
    "add=C,C, remove=C,C, set=C,C, prepend=N; it may have description=TEXT and be disabled."
)
_HINT = "Write it like: 10 accept prefix=10.0.0.0/8 max=24 local-pref=200"


def parse_rule(text: str) -> Json:
    """The rule as the API takes it. Raises `InvalidInputError`."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise _refuse(text, f"{error}".rstrip(".").lower()) from error
    if len(words) < 2 or not _is_number(words[0]) or words[1] not in ("accept", "reject"):
        raise _refuse(text, "it begins with its sequence number, and accept or reject")
    rule: Json = {"sequence": int(words[0]), "action": words[1]}
    for word in words[2:]:
        _read_word(text, word, rule)
    return rule


def read_rules(path: Path) -> list[Json]:
    """The rules in a JSON file: a list, or an object with `rules`, as `wireloom policy show --json` prints it.

    Raises `InvalidInputError`.
    """
    try:
        read: Any = orjson.loads(path.read_bytes())
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}.", hint="Check the path.") from error
    except orjson.JSONDecodeError as error:
        raise InvalidInputError(f"{path} is not JSON: {error}.", hint="Write a list of rules.") from error
    rules = read.get("rules") if isinstance(read, dict) else read
    if not isinstance(rules, list):
        raise InvalidInputError(f"{path} holds no list of rules.", hint="Write a list, or an object with `rules`.")
    return rules


def _read_word(text: str, word: str, rule: Json) -> None:
    name, equals, value = word.partition("=")
    if word == "disabled":
        rule["enabled"] = False
    elif equals and name in _LISTS:
        rule[_LISTS[name]] = [part for part in value.split(",") if part]
    elif equals and name in _TEXTS:
        rule[_TEXTS[name]] = value
    elif equals and name in _NUMBERS:
        if not _is_number(value):
            raise _refuse(text, f"{name} takes a number")
        rule[_NUMBERS[name]] = int(value)
    else:
        raise _refuse(text, f"it has no {name!r}")
    if name in _MATCHES:
        if "match_type" in rule:
            raise _refuse(text, "it matches one of prefix, community and as-path")
        rule["match_type"] = _MATCHES[name]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10


def _refuse(text: str, why: str) -> InvalidInputError:
    return InvalidInputError(f"The rule {text!r} cannot be read: {why}.", hint=_HINT)
