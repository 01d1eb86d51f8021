"""Why: what policies say of a prefix, whom the log names, and how a chain looks in a terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import IPv4Network
from typing import Any
from uuid import UUID, uuid4

import pytest
from rich.console import Console

from events.domain import MachineRegistered
from events.records import LinkState, PathRecord, ReachEvent, Record
from events.routing import Policy, PolicyRule
from events.subjects import path
from services.cli.why_trees import why_tree
from services.gateway.why.address import address_chains
from services.gateway.why.pair import PATH, PEER, pair_chains
from services.gateway.why.path import path_chain
from services.gateway.why.receiving import verdict_of
from services.gateway.why.route import route_chains
from services.gateway.why.steps import Step
from services.gateway.why.teller import Teller
from tests.support.chains import Sight, logged
from tests.support.histories import History

LAN = IPv4Network("10.20.0.0/16")


def rule(sequence: int, **fields: Any) -> PolicyRule:
    return PolicyRule.model_validate({"sequence": sequence, "match_type": "prefix_list"} | fields)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ((), ("accept", None)),
        ((rule(10, action="reject", match_prefixes=["10.20.0.0/16"]),), ("reject", 10)),
        ((rule(10, action="reject", match_prefixes=["10.0.0.0/8"]),), ("accept", None)),
        ((rule(10, action="reject", match_prefixes=["10.0.0.0/8"], match_prefix_len_max=16),), ("reject", 10)),
        ((rule(10, action="reject", match_prefixes=["10.0.0.0/8"], match_prefix_len_min=17),), ("accept", None)),
        ((rule(10, action="reject", match_prefixes=["10.20.0.0/16"], enabled=False),), ("accept", None)),
        (
            (rule(10, match_type="community", match_communities=["65000:1"]), rule(20, match_type="any")),
            ("depends", 10),
        ),
        ((rule(10, match_prefixes=["10.20.0.0/16"]), rule(20, action="reject", match_type="any")), ("accept", 10)),
    ],
)
def test_what_a_policy_says_of_a_prefix(rules: tuple[PolicyRule, ...], expected: tuple[str, int | None]) -> None:
    verdict, by = verdict_of(Policy(direction="import", rules=rules), LAN)
    assert (verdict, by.sequence if by is not None else None) == expected


def office() -> tuple[History, UUID, list[UUID]]:
    """A network of three machines."""
    history = History()
    network_id = history.create_network()
    return history, network_id, [history.join(network_id) for _ in range(3)]


def reported(seen: Sight, network_id: UUID, one: UUID, other: UUID, state: str, **fields: Any) -> None:
    link = LinkState.model_validate({"peer_id": other, "state": state} | fields)
    event = ReachEvent(
        network_id=network_id, machine_id=one, boot_id=one, counter=1, time=datetime(2026, 2, 1, tzinfo=UTC), link=link
    )
    seen.tracks.reach.take(len(list(seen.tracks.reach.links(network_id, one))) + 1, event)


def texts(chain: Step) -> list[str]:
    return [step.text for step in chain.walk()]


def test_a_path_through_another_follows_from_both_its_links_and_from_the_link_that_is_missing() -> None:
    history, network_id, (one, two, via) = office()
    history.set_transit(via, "always")
    seen = Sight(logged(history.events))
    for end in (one, two):
        reported(seen, network_id, end, via, "direct", rtt=10)
        reported(seen, network_id, via, end, "direct", rtt=10)
    reported(seen, network_id, one, two, "unreachable", tried=(("192.0.2.1:5", "no answer"),))
    reported(seen, network_id, two, one, "unreachable")
    body = PathRecord(network_id=network_id, machine_id=one, peer_id=two, ways=((via,),))
    record = Record(revision=7, previous=0, cause=6, time=datetime(2026, 2, 1, tzinfo=UTC), body=body)
    seen.tracks.take_path(path(one, network_id, two), record)
    chain = seen.explained(lambda known: path_chain(Teller(seen, known), one, two, network_id))
    assert chain.text == "host reaches host in net-0 through host, in 20 ms"
    told = texts(chain)
    assert "host reported that it does not reach host directly: it tried 192.0.2.1:5 (no answer)" in told
    assert "host is preferred for others' traffic" in told
    assert "made host a preferred transit machine" in told
    assert [step.revision for step in chain.walk() if step.stream == "PATHS"] == [7]


def test_a_pair_without_a_network_in_common() -> None:
    history, network_id, (one, two, _) = office()
    history.unassign(network_id, two)
    seen = Sight(logged(history.events))
    for question, text in ((PEER, "host is not a peer of host"), (PATH, "host has no path to host")):
        (chain,) = seen.explained(lambda known, q=question: pair_chains(Teller(seen, known), q, one, two, None))
        assert chain.text == f"{text}: they have no network in common"
        assert "unassigned host from net-0, which frees 10.0.0.2" in texts(chain)


def test_an_address_of_a_network_that_was_deleted() -> None:
    history, network_id, _ = office()
    history.delete_network(network_id)
    seen = Sight(logged(history.events))
    address = IPv4Network("10.0.0.0/16")[1]
    (chain,) = seen.explained(lambda known: address_chains(Teller(seen, known), address, None))
    assert texts(chain)[:3] == [
        "10.0.0.1 is in no network, and is no virtual IP",
        "net-0 had the range 10.0.0.0/16",
        "deleted network gone with its 3 machines",
    ]


def test_whom_the_log_names() -> None:
    history = History()
    machine_id = history.register_machine("db-1")
    account_id = history.create_account()
    token_id = history.issue_api_token(account_id)
    seen = Sight(logged(history.events))
    account, token = (seen.mirror.name_of(item) for item in (account_id, token_id))
    assert isinstance(seen.events[0].event, MachineRegistered)

    def actor(text: str) -> tuple[str, tuple[UUID, ...]]:
        step = seen.explained(lambda known: Teller(seen, known).actor(text))
        return step.text, step.uuids

    assert actor(f"account:{account}/{token}") == (f"account {account}, with the token {token}", (account_id, token_id))
    assert actor("account:gone/laptop") == ("account gone, with the token laptop", ())
    assert actor(f"machine:{machine_id}") == ("the agent of db-1", (machine_id,))
    assert actor("machine:?") == ("machine:?", ())
    assert actor("console:root") == ("root, on the control plane's own machine", ())
    assert actor("cli:anna") == ("cli:anna", ())


def step(what: str, text: str, *follows_from: Any, **fields: Any) -> dict[str, Any]:
    empty = {"time": None, "subject": None, "revision": None, "stream": None, "position": None, "uuids": []}
    return {"what": what, "text": text, "follows_from": list(follows_from)} | empty | fields


def test_a_chain_in_a_terminal_tells_everything_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    command, machine = str(uuid4()), str(uuid4())
    time = "2026-05-03T14:02:09.000000Z"
    given = step("command", "command", step("actor", "account anna, with the token laptop"), uuids=[command])
    event = step("event", "assigned db-1 to office", given, time=time, stream="LOG", position=12)
    subject = f"state.machine.{machine}.info"
    record = step("record", "db-1", event, subject=subject, stream="STATE", revision=3, position=12, time=time)
    console = Console(width=80, record=True)
    with console.capture() as captured:
        console.print(why_tree(step("thing", "172.16.0.9 is db-1's", record, event), 80))
    lines = [line.rstrip() for line in captured.get().splitlines()]
    when = datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    assert lines == [
        "172.16.0.9 is db-1's",
        "├── db-1",
        f"│   record state.machine.{machine[:8]}….info",
        f"│   revision 3, from log 12, {when}",
        "│   └── assigned db-1 to office",
        f"│       log 12, {when}",
        "│       by account anna, with the token laptop",
        f"│       command {command}",
        "└── assigned db-1 to office",
        "    log 12, as above",
    ]


def test_a_prefix_that_crosses_follows_from_the_gateway_and_from_the_route() -> None:
    history, network_id, (one, two, _) = office()
    lab = history.create_network()
    history.assign(lab, two)
    history.set_route(one, prefixes=("10.20.0.0/16",))
    history.set_gateway(two, network_id, lab)
    seen = Sight(logged(history.events))
    here, there = (
        seen.explained(lambda known, n=item: route_chains(Teller(seen, known), LAN, None, n))[0]
        for item in (network_id, lab)
    )
    assert here.text == "10.20.0.0/16 is not announced in net-0 by host yet"
    assert not any("gateway" in text for text in texts(here))
    causes = [step.text for step in there.walk() if step.what == "record"]
    assert [text for text in causes if "gateway" in text or "route" in text] == [
        "host is a gateway between net-0 and net-1",
        f"route {next(iter(seen.mirror.routing.routes.values())).name}",
    ]
