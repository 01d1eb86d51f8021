"""Every kind of policy rule, seen to work with real BIRDs: what one machine tells, and what another makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from agent.bgp.intent import Announced, Owner
from events.records import RibRoute
from events.routing import Policy, PolicyRule
from tests.support.birds import Station, address, intent, reflected, stations
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.lab

TOLD = ("172.20.0.0/16", "172.20.1.0/24", "172.20.1.128/25", "172.30.0.0/24")
REFLECTOR = 3


class Pair:
    """Machine 1 tells, machine 2 listens, and machine 3 reflects between them; it has policies of its own."""

    def __init__(self, machines: dict[int, Station]) -> None:
        self._machines = machines
        self._prefixes = tuple(IPv4Network(each) for each in TOLD)

    def apply(self, **policies: Policy) -> None:
        """With these policies, of machine 1 (`telling`), 2 (`hearing`) and 3 (`passing`)."""
        names = {"telling": 1, "hearing": 2, "passing": 3}
        for number, machine in self._machines.items():
            mine = {names[name]: policy for name, policy in policies.items()}.get(number)
            plain = intent(number, 3)
            owners = tuple(Owner(owner.address, self._prefixes) for owner in plain.owners)
            wish: dict[str, Any] = reflected(plain, "reflectors", REFLECTOR)
            wish |= {"owners": owners, "announced": tuple(map(Announced, self._prefixes)) if number == 1 else ()}
            if mine is not None:
                wish[f"{mine.direction}_policy"] = mine
            machine.apply(replace(plain, **wish))

    def await_heard(self, right: Callable[[dict[str, RibRoute]], bool]) -> dict[str, RibRoute]:
        """What machine 2 makes of what it is told, once it is right."""

        def heard() -> dict[str, RibRoute]:
            return {str(route.prefix): route for route in self._machines[2].observed().rib}

        wait_until_sync(lambda: right(heard()), what=f"a RIB that is right, not {heard()}")
        return heard()

    def await_used(self, *wanted: str) -> None:
        """Until machine 2's kernel has routes to these."""
        kernel = self._machines[2].routes
        wait_until_sync(lambda: kernel().keys() == set(wanted), what=f"{wanted} in the kernel")


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Station]]:
    with stations(Path(tmp_path_factory.mktemp("speakers")), dict.fromkeys((1, 2, 3), (9,))) as made:
        yield made


@pytest.fixture
def pair(machines: dict[int, Station]) -> Pair:
    """Without any policy: all is heard."""
    pair = Pair(machines)
    pair.apply()
    pair.await_heard(lambda heard: heard.keys() == set(TOLD) and all(is_plain(route) for route in heard.values()))
    return pair


def is_plain(route: RibRoute) -> bool:
    return (route.local_pref, route.med, route.as_path, route.communities) == (100, None, (), ())


def policy(direction: str, *rules: dict[str, Any], default: str = "accept", **more: Any) -> Policy:
    numbered = tuple(PolicyRule(sequence=10 * place, **rule) for place, rule in enumerate(rules, start=1))
    return Policy(direction=direction, default_action=default, rules=numbered, **more)


WHAT_PASSES = [
    ([{"action": "reject"}], "accept", ()),
    ([{"action": "accept"}], "reject", TOLD),
    ([], "reject", ()),
    ([{"action": "reject", "enabled": False}], "accept", TOLD),
    ([{"match_type": "prefix_list", "match_prefixes": ("172.20.0.0/16",)}], "reject", TOLD[:1]),
    (
        [{"match_type": "prefix_list", "match_prefixes": ("172.20.0.0/16",), "match_prefix_len_min": 24}],
        "reject",
        TOLD[1:3],
    ),
    (
        [{"match_type": "prefix_list", "match_prefixes": ("172.16.0.0/12",), "match_prefix_len_max": 24}],
        "reject",
        (TOLD[0], TOLD[1], TOLD[3]),
    ),
    (
        [
            {"action": "reject", "match_type": "prefix_list", "match_prefixes": ("172.20.1.0/24",)},
            {"action": "accept", "match_type": "prefix_list", "match_prefixes": ("172.20.1.0/24",)},
        ],
        "accept",
        (TOLD[0], TOLD[2], TOLD[3]),
    ),
]


@pytest.mark.parametrize(
    ("direction", "rules", "default", "left"),
    [*(("import", *case) for case in WHAT_PASSES), *(("export", *case) for case in WHAT_PASSES[-2:])],
)
def test_what_passes(pair: Pair, direction: str, rules: list[dict[str, Any]], default: str, left: tuple[str]) -> None:
    pair.apply(**{"hearing" if direction == "import" else "telling": policy(direction, *rules, default=default)})
    pair.await_heard(lambda heard: heard.keys() == set(left))
    pair.await_used(*left)


@pytest.mark.parametrize("direction", ["import", "export"])
def test_what_is_changed(pair: Pair, direction: str) -> None:
    asn = intent(1, 3).asn
    first = {"match_type": "prefix_list", "match_prefixes": (TOLD[0],)}
    second = {"match_type": "prefix_list", "match_prefixes": (TOLD[1],)}
    changes = policy(
        direction,
        first | {"set_local_pref": 4_294_967_295, "set_med": 7, "prepend_as_count": 3},
        second | {"set_communities": ("65000:1", "65000:2"), "add_communities": ("1:1",)},
        local_pref=150,
    )
    pair.apply(**{"hearing" if direction == "import" else "telling": changes})
    heard = pair.await_heard(lambda heard: len(heard) == 4 and heard[TOLD[0]].med == 7)
    one, two, three = heard[TOLD[0]], heard[TOLD[1]], heard[TOLD[2]]
    assert (one.local_pref, one.med, one.as_path, one.communities) == (4_294_967_295, 7, (asn, asn, asn), ())
    assert (two.local_pref, two.med, two.as_path) == (150, None, ())
    assert set(two.communities) == {"65000:1", "65000:2", "1:1"}
    assert (three.local_pref, three.communities) == (150, ())
    pair.await_used(*TOLD)


def test_communities_are_told_and_matched_and_changed(pair: Pair) -> None:
    one, two = ({"match_type": "prefix_list", "match_prefixes": (each,)} for each in TOLD[:2])
    marked = policy("export", one | {"add_communities": ("1:1", "2:2", "3:3")}, two | {"add_communities": ("4:4",)})
    by_mark = {"match_type": "community", "match_communities": ("2:2", "9:9")}
    pair.apply(
        telling=marked,
        hearing=policy("import", by_mark | {"remove_communities": ("1:1", "5:5"), "add_communities": ("6:6",)}),
    )
    heard = pair.await_heard(lambda heard: len(heard) == 4 and "6:6" in heard[TOLD[0]].communities)
    assert set(heard[TOLD[0]].communities) == {"2:2", "3:3", "6:6"}
    assert heard[TOLD[1]].communities == ("4:4",)
    assert heard[TOLD[2]].communities == ()
    pair.apply(telling=marked, hearing=policy("import", by_mark | {"set_communities": ()}))
    pair.await_heard(lambda heard: len(heard) == 4 and heard[TOLD[0]].communities == ())
    pair.apply(telling=marked, hearing=policy("import", by_mark | {"action": "reject"}))
    pair.await_heard(lambda heard: heard.keys() == set(TOLD[1:]))


def test_an_as_path_is_matched(pair: Pair) -> None:
    asn = intent(1, 3).asn
    one, two = ({"match_type": "prefix_list", "match_prefixes": (each,)} for each in TOLD[:2])
    longer = policy("export", one | {"prepend_as_count": 1}, two | {"prepend_as_count": 2})
    for pattern, left in {
        f"{asn}": TOLD[:1],
        "? ?": TOLD[1:2],
        f"* {asn} *": TOLD[:2],
        "*": TOLD,
        "1 *": (),
    }.items():
        by_path = {"match_type": "as_path", "match_as_path": pattern}
        pair.apply(telling=longer, hearing=policy("import", by_path, default="reject"))
        pair.await_heard(lambda heard, left=left: heard.keys() == set(left))  # type: ignore[misc]


def test_a_reflector_passes_on_what_it_would_not_use_itself(pair: Pair, machines: dict[int, Station]) -> None:
    pair.apply(passing=policy("import", {"action": "reject"}))
    wait_until_sync(lambda: not machines[REFLECTOR].routes(), what="it uses nothing")
    pair.await_used(*TOLD)
    pair.apply(passing=policy("export", {"action": "reject"}))
    wait_until_sync(lambda: len(machines[REFLECTOR].routes()) == 4, what="it uses all")
    pair.await_used(*TOLD)


def test_the_preferred_machine_is_chosen_even_where_a_reflector_announces_the_same(
    machines: dict[int, Station],
) -> None:
    vip = IPv4Network("203.0.113.9/32")

    def apply(**preferences: int) -> None:
        for number, machine in machines.items():
            plain = intent(number, 3)
            owners = tuple(Owner(owner.address, (vip,)) for owner in plain.owners)
            mine = preferences.get(f"m{number}")
            machine.apply(
                replace(
                    plain,
                    **reflected(plain, "reflectors", REFLECTOR),
                    owners=owners,
                    announced=(Announced(vip, mine),) if mine is not None else (),
                )
            )

    def chosen() -> str:
        return str(machines[2].routes().get(str(vip), {}).get("gateway", ""))

    apply(m1=200, m3=199)
    wait_until_sync(lambda: chosen() == str(address(9, 1)), what="the first")
    assert str(vip) not in machines[REFLECTOR].routes()  # it answers itself
    apply(m3=199)
    wait_until_sync(lambda: chosen() == str(address(9, 3)), what="the second takes over")
    apply(m1=198, m3=199)
    assert chosen() == str(address(9, 3))
    apply(m1=200, m3=199)
    wait_until_sync(lambda: chosen() == str(address(9, 1)), what="the first is back")
