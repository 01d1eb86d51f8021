"""Which reports of their links machines are believed."""

from __future__ import annotations

from uuid import uuid4

import pytest
from pydantic import ValidationError

from events.errors import InvalidInputError, NotFoundError, RateLimitedError
from events.records import LinkState, ReachRequest
from services.gateway.reach import REPEATED_AFTER, REPORTS, is_about_members
from services.gateway.reporters import BOOTS_KEPT, PERIOD, StaleReportError
from tests.support.reach_net import Net, direct, unreachable


def test_only_what_is_new_is_written() -> None:
    net = Net(3)
    one, two, three = net.machines
    (event,) = net.ask(one, direct(two))
    assert (event.network_id, event.machine_id, event.counter, event.link) == (net.id, one, 1, direct(two))
    net.report(one, direct(two), direct(three))
    assert net.ask(one, direct(two), direct(three), counter=50) == ()
    changed = net.ask(one, direct(two, 20), direct(three), unreachable(two, "192.0.2.1:51820"), counter=51)
    assert [event.link for event in changed] == [unreachable(two, "192.0.2.1:51820")], "of two the last counts"


def test_what_stands_for_long_is_written_again_before_it_leaves_the_stream() -> None:
    net = Net(2)
    one, two = net.machines
    net.report(one, direct(two))
    net.seconds += int(REPEATED_AFTER.total_seconds()) - 1
    assert net.ask(one, direct(two), counter=50) == ()
    net.seconds += 1
    assert len(net.ask(one, direct(two), counter=51)) == 1


def test_since_when_outlives_the_report_that_began_it() -> None:
    net = Net(2)
    one, two = net.machines
    (first,) = net.ask(one, direct(two, 10))
    net.reach.take(1, first)
    net.seconds += 60
    (second,) = net.ask(one, direct(two, 20), counter=2)
    anew = Net(0).reach
    anew.take(2, second)
    link = anew.link(net.id, one, two)
    assert link is not None
    assert link.since == first.time < second.time
    (third,) = net.ask(one, unreachable(two), counter=3)
    assert third.since == net.now


def test_a_report_that_may_have_been_written_is_followed_by_another() -> None:
    net = Net(3)
    one, two, three = net.machines
    net.report(one, direct(two), direct(three))
    (lost,) = net.ask(one, unreachable(two), counter=50)
    net.reach.doubt(lost)
    again = net.ask(one, direct(two), direct(three), counter=51)
    assert [event.link for event in again] == [direct(two)], "the lost one may come to stand after what is known here"
    net.reach.written(90, again[0])
    assert net.ask(one, direct(two), counter=52) == ()


def test_a_whole_report_ends_what_it_does_not_name() -> None:
    net = Net(4)
    one, two, three, four = net.machines
    net.report(one, direct(two), direct(three), unreachable(four))
    ended = net.ask(one, direct(two), counter=50, whole=True)
    assert [(event.link.peer_id, event.link.state) for event in ended] == [(three, "unreachable")]


def test_an_old_report_is_refused() -> None:
    net = Net(2)
    one, two = net.machines
    net.ask(one, direct(two), counter=5)
    for counter in (4, 5):
        with pytest.raises(StaleReportError):
            net.ask(one, unreachable(two), counter=counter)
    assert net.ask(one, unreachable(two), counter=6)


def test_what_reach_holds_counts_too() -> None:
    """As after a restart: it is all that is known then."""
    net = Net(2)
    one, two = net.machines
    net.report(one, direct(two))
    with pytest.raises(StaleReportError):
        net.ask(one, unreachable(two), counter=net.seconds)
    assert net.ask(one, unreachable(two), counter=net.seconds + 1)


def test_a_report_of_an_earlier_start_is_refused() -> None:
    net = Net(2)
    one, two = net.machines
    boots = [uuid4() for _ in range(BOOTS_KEPT + 1)]
    for number, boot in enumerate(boots, 1):
        net.ask(one, direct(two, 10 if number % 2 else 20), boot=boot)
    for boot in boots[:-1]:
        with pytest.raises(StaleReportError):
            net.ask(one, unreachable(two), boot=boot, counter=1000)
    assert net.ask(one, unreachable(two), boot=boots[-1], counter=2)


def test_who_is_not_in_the_network_is_not_reported_of() -> None:
    net = Net(2)
    one, two = net.machines
    stranger, elsewhere = uuid4(), Net(1)
    with pytest.raises(NotFoundError, match="not in the network"):
        net.ask(stranger, direct(two))
    foreign = ReachRequest(network_id=elsewhere.id, boot_id=uuid4(), counter=1, links=(direct(two),))
    with pytest.raises(NotFoundError):
        net.reach.accept(one, foreign, net.mirror, net.now)
    assert net.ask(one, direct(stranger), direct(one)) == ()


def test_whether_the_mirror_may_be_behind() -> None:
    net = Net(2)
    one, two = net.machines
    said = ReachRequest(network_id=net.id, boot_id=uuid4(), counter=1, links=(direct(two),))
    assert is_about_members(one, said, net.mirror)
    assert not is_about_members(uuid4(), said, net.mirror)
    assert not is_about_members(one, said.model_copy(update={"network_id": uuid4()}), net.mirror)
    assert not is_about_members(one, said.model_copy(update={"links": (direct(uuid4()),)}), net.mirror)


@pytest.mark.parametrize("counter", [-1, 1 << 63])
def test_a_report_has_a_number_that_counts_up(counter: int) -> None:
    with pytest.raises(ValidationError):
        ReachRequest(network_id=uuid4(), boot_id=uuid4(), counter=counter, links=())


def test_too_many_reports_are_refused_for_a_while() -> None:
    net = Net(3)
    one, two, three = net.machines
    for counter in range(1, REPORTS + 1):
        net.ask(one, direct(two), counter=counter)
    with pytest.raises(RateLimitedError):
        net.ask(one, direct(two), counter=REPORTS + 1)
    assert net.ask(three, direct(two)), "others are not hindered"
    net.seconds += int(PERIOD) + 1
    assert net.ask(one, direct(two), counter=REPORTS + 1), "the refused one left nothing behind"
    for counter in range(REPORTS + 2, 2 * REPORTS + 2):
        net.seconds -= 3600
        assert net.ask(one, direct(two), counter=counter), "a clock that is set back hinders nobody"


@pytest.mark.parametrize(
    "said",
    [
        {"rtt": 11},
        {"rtt": -1},
        {"endpoint": "x" * 101},
        {"endpoint": "\x1b[2J"},
        {"tried": [("192.0.2.1:1", "caf\u00e9")]},
        {"tried": [("192.0.2.1:1", "no answer")] * 65},
        {"state": "unreachable", "rtt": 10},
        {"state": "unreachable", "endpoint": "192.0.2.1:1"},
    ],
)
def test_a_machine_cannot_report_anything_it_likes(said: dict[str, object]) -> None:
    net = Net(2)
    one, two = net.machines
    link = LinkState.model_validate({"peer_id": two, "state": "direct"} | said)
    with pytest.raises(InvalidInputError):
        net.ask(one, link)
    assert net.ask(one, direct(two)), "nothing of it counts, its number neither"


def test_a_report_that_comes_late_changes_nothing() -> None:
    net = Net(2)
    one, two = net.machines
    net.report(one, direct(two), unreachable(two))
    link = net.reach.link(net.id, one, two)
    assert link is not None
    assert link.before is not None
    net.reach.take(link.before.sequence, link.before.event)
    assert net.reach.link(net.id, one, two) == link
