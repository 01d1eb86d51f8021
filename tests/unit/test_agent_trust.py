"""What an agent believes, by example."""

from __future__ import annotations

from ipaddress import IPv4Network
from uuid import UUID

import pytest

from agent.trust import SAY_AGAIN_AFTER, Entry, Judge, Refusal, Refusals, why_unusable
from events.records import MembershipRecord, PathRecord, RelayRecord, SignedRecord
from events.subjects import machine_info, network_info
from events.trust.keys import generate
from events.trust.signing import Ring, Signer, Verifier
from tests.support.device_contract import a_key
from tests.support.state_model import StateModel

NETWORK, OTHER = UUID(int=99), UUID(int=98)
MACHINE = UUID(int=1)
SCOPE = f"network:{NETWORK}"
ROOT, KEY = generate("operator"), generate("operator")


def a_judge() -> Judge:
    return Judge(Verifier(ROOT.public, Ring(version=1, keys=(KEY.public,)).signed_by(ROOT)))


def a_peer(network_id: UUID = NETWORK, signer: Signer | None = None) -> SignedRecord:
    model = StateModel(signer=signer or Signer(KEY))
    model.create_network(network_id, "n", "10.0.0.0/24")
    model.assign(network_id, MACHINE, "10.0.0.1")
    return model.signed(model.announce(network_id, MACHINE, a_key(), ())[0])


def judged(judge: Judge, said: SignedRecord, scope: str = SCOPE) -> Entry | Refusal:
    return judge.judge(scope, said.subject, said.payload.encode(), said.signature)


def reason(verdict: Entry | Refusal) -> str:
    return verdict.reason if isinstance(verdict, Refusal) else ""


def test_a_genuine_record_is_believed_to_the_byte() -> None:
    said = a_peer()
    verdict = judged(a_judge(), said)
    assert isinstance(verdict, Entry)
    assert verdict.payload == said.payload.encode()


@pytest.mark.parametrize("kind", ["path", "relay"])
def test_paths_are_believed_where_they_belong(kind: str) -> None:
    model, judge = StateModel(signer=Signer(KEY)), a_judge()
    body: PathRecord | RelayRecord = PathRecord(network_id=NETWORK, machine_id=MACHINE, peer_id=OTHER, ways=())
    if kind == "relay":
        body = RelayRecord(network_id=NETWORK, machine_id=MACHINE, peer_id=OTHER, behind=())
    subject = f"pathstate.paths.{MACHINE}.{kind}.{NETWORK}.{OTHER}"
    said, own = model.signed(model.put(subject, body)), f"paths:{MACHINE}"
    assert isinstance(judged(judge, said, own), Entry)
    assert reason(judged(judge, said, f"paths:{OTHER}")) == "misdirected"
    gone = model.signed(model.put(subject, None))
    assert isinstance(judged(judge, gone, own), Entry)
    for wrong in (
        subject.replace("pathstate.", "state."),
        subject.replace(str(OTHER), str(NETWORK)),
        subject.replace(f".{kind}.", ".peer."),
        subject.replace(str(OTHER), "x"),
    ):
        assert reason(judged(judge, model.signed(model.put(wrong, body)), own)) == "misdirected"


def test_any_change_makes_it_a_forgery() -> None:
    said, judge = a_peer(), a_judge()
    for at in range(0, len(said.payload), 7):
        changed = said.payload[:at] + chr(ord(said.payload[at]) ^ 1) + said.payload[at + 1 :]
        assert reason(judged(judge, said.model_copy(update={"payload": changed}))) == "forged"
    for signature in ("", "x", said.signature.split()[0], said.signature[:-4], said.signature + "AAAA"):
        assert reason(judged(judge, said.model_copy(update={"signature": signature}))) == "forged"


def test_an_unknown_key_may_be_known_to_a_newer_ring() -> None:
    key, judge = generate("operator"), a_judge()
    said = a_peer(signer=Signer(key))
    verdict = judged(judge, said)
    assert isinstance(verdict, Refusal)
    assert (verdict.reason, verdict.unknown_key) == ("forged", True)
    assert judge.adopt(Ring(version=2, keys=(key.public, KEY.public)).signed_by(ROOT))
    assert isinstance(judged(judge, said), Entry)
    assert isinstance(judged(judge, a_peer()), Entry)


def test_a_genuine_record_of_another_scope_is_misdirected() -> None:
    judge = a_judge()
    assert reason(judged(judge, a_peer(OTHER))) == "misdirected"
    shown_here = a_peer(OTHER).model_copy(update={"subject": a_peer().subject})
    assert reason(judged(judge, shown_here)) == "misdirected"
    assert reason(judged(judge, a_peer(), f"machine:{MACHINE}")) == "misdirected"


def test_a_tombstone_in_anothers_place_is_forged() -> None:
    """It does not say what it is about: its signature does."""
    model = StateModel(signer=Signer(KEY))
    model.create_network(NETWORK, "n", "10.0.0.0/24")
    tombstone = model.signed(model.put(network_info(NETWORK), None))
    judge = a_judge()
    assert isinstance(judged(judge, tombstone), Entry)
    elsewhere = tombstone.model_copy(update={"subject": network_info(OTHER)})
    assert reason(judged(judge, elsewhere, f"network:{OTHER}")) == "forged"


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "state",
        "state.network",
        f"state.network.{NETWORK}",
        f"live.network.{NETWORK}.info",
        f"state.network.{NETWORK}.info.more",
        f"state.network.{NETWORK}.peer.nobody",
        f"state.network.{NETWORK}.network.{MACHINE}",
        machine_info(MACHINE),
    ],
)
def test_what_no_scope_of_a_network_has_is_misdirected_even_if_it_is_signed(subject: str) -> None:
    payload = a_peer().payload
    said = SignedRecord(subject=subject, payload=payload, signature=Signer(KEY).sign(subject, payload.encode()))
    assert reason(judged(a_judge(), said)) == "misdirected"
    assert reason(judged(Judge(None), said)) == "misdirected"


def test_what_is_genuine_and_cannot_be_read_is_unusable() -> None:
    subject = a_peer().subject
    for payload in ("", "{}", "[]", '{"revision": 1}'):
        said = SignedRecord(subject=subject, payload=payload, signature=Signer(KEY).sign(subject, payload.encode()))
        assert reason(judged(a_judge(), said)) == "unusable"


def test_without_keys_no_signature_is_asked_for() -> None:
    unsigned = a_peer().model_copy(update={"signature": ""})
    assert isinstance(judged(Judge(None), unsigned), Entry)


def test_refusals_are_all_counted_and_seldom_said() -> None:
    refusals = Refusals()
    said = [refusals.count("forged", now) for now in (0.0, 1.0, 59.0, SAY_AGAIN_AFTER, 61.0)]
    assert said == [True, False, False, True, False]
    assert refusals.count("older", 61.0)
    assert refusals.counts == {"forged": 5, "older": 1}


@pytest.mark.parametrize("cidr", ["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "8.8.8.0/24", "10.0.0.0/7", "172.20.0.0/31"])
def test_a_membership_routes_only_what_a_network_may_have(cidr: str) -> None:
    model = StateModel()
    model.create_network(NETWORK, "n", "172.20.0.0/24")
    (said,) = model.assign(NETWORK, MACHINE, "172.20.0.1")
    membership = said.record.body
    assert isinstance(membership, MembershipRecord)
    assert not why_unusable(membership)
    wide = membership.model_copy(update={"network_cidr": IPv4Network(cidr, strict=False)})
    assert why_unusable(wide)
    elsewhere = membership.model_copy(update={"network_cidr": IPv4Network("10.0.0.0/8")})
    assert why_unusable(elsewhere)
