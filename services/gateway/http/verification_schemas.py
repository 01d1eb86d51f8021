"""What the API says about checks of the log, and checkpoints."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from events.audit.checkpoints import KeptCheckpoint
from events.audit.findings import Code
from events.fields import Moment
from services.gateway.http.schemas import Given, Limit, Position, Problem, View

MOST_CHECKPOINTS = 100

_EXAMPLE = (
    '{"position":42,"count":42,"digest":"4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945",'
    '"time":"2026-05-04T08:30:00.000000Z","previous":""}'
)


class KeptRing(Given):
    """The keys that could sign when a checkpoint was made, and the root key's signature of them."""

    version: int
    keys: tuple[str, ...] = Field(max_length=100)
    signature: str = ""


class GivenCheckpoint(Given):
    """A checkpoint that was kept elsewhere, as `wireloom log checkpoint` writes it."""

    checkpoint: str = Field(max_length=1000, description="What was signed.", examples=[_EXAMPLE])
    signature: str = Field("", max_length=1000)
    root: str = Field("", max_length=100, description="The public root key.")
    ring: KeptRing | None = None

    def kept(self) -> KeptCheckpoint:
        """This as the checks take it."""
        return KeptCheckpoint.model_validate(self.model_dump())


class VerificationAsked(Given):
    """What a check compares the log with, beside the control plane's own checkpoints."""

    checkpoints: tuple[GivenCheckpoint, ...] = Field((), max_length=MOST_CHECKPOINTS)


class VerificationProgress(View):
    """How far a check has come."""

    type: Literal["progress"] = "progress"
    step: Literal["log", "state"] = Field(description="What is looked at: the log itself, or what follows from it.")
    position: int
    end: int


class VerificationFinding(View):
    """One thing that is not as it should be."""

    type: Literal["finding"] = "finding"
    code: Code
    position: int = Field(description="Where in the log; of several positions the first. 0 where that makes no sense.")
    aggregate_uuid: UUID | None = Field(description="Whose events are meant.")
    aggregate: str = Field(description="The same in words.", examples=["network office-mesh"])
    subject: str = Field(description="The record or checkpoint that is meant, where it is one.")
    problem: str
    expected: str = Field(description="What should be there, where that can be told.")
    meaning: str
    advice: str
    is_notice: bool = Field(description="Whether the log is in order all the same.")


class VerificationVerdict(View):
    """What a check came to."""

    type: Literal["verdict"] = "verdict"
    in_order: bool
    findings: int
    notices: int
    untold: int = Field(description="How many of those were not sent, being too many.")
    position: int = Field(description="The log's last position.")
    count: int = Field(description="How many events there are.")
    digest: str = Field(description="The running digest of the whole log.")
    checkpoints: int = Field(description="How many checkpoints counted.")
    unsigned_checkpoints: int = Field(description="How many of those nobody signed.")
    covered: int = Field(description="Up to this position the log is what the checkpoints say.")
    state_position: int | None = Field(description="Up to this position STATE was compared; null where it was not.")
    records: int = Field(description="How many records of STATE follow from the log.")
    paths: int = Field(description="How many records of PATHS were compared.")
    snapshots: int = Field(description="How many snapshots of earlier moments were compared.")
    redacted: int = Field(description="From how many events personal data was removed.")
    kept: tuple[bool, ...] = Field(
        description="Of each checkpoint that was given, whether the log holds what it held then."
    )
    root: str = Field(description="The public root key that checkpoints were checked with; empty without keys.")
    seconds: float


class VerificationBroken(View):
    """A check that could not be brought to its end."""

    type: Literal["problem"] = "problem"
    problem: Problem


VerificationLine = Annotated[
    VerificationProgress | VerificationFinding | VerificationVerdict | VerificationBroken, Field(discriminator="type")
]


class StoredCheckpoint(View):
    """What the log was at a position, signed."""

    position: int = Field(examples=[42])
    count: int = Field(description="How many events there were.", examples=[42])
    digest: str = Field(description="The running digest of the log up to there.")
    time: Moment = Field(description="When the checkpoint was made.")
    key: str = Field(description="The fingerprint of the key that signed it; empty where nobody did.")
    checkpoint: str = Field(description="What was signed.", examples=[_EXAMPLE])
    signature: str


class CheckpointPage(View):
    """Checkpoints, newest first."""

    items: tuple[StoredCheckpoint, ...]
    next: int | None = Field(description="Give it as `before` to go on; null at the end.")


class MadeCheckpoint(View):
    """A checkpoint to keep elsewhere: with the keys that it can be checked with."""

    checkpoint: str = Field(description="What was signed.", examples=[_EXAMPLE])
    signature: str
    root: str = Field(description="The public root key; empty without keys.")
    ring: KeptRing | None = Field(description="The keys that may sign, signed by the root key; null without keys.")


class CheckpointQuery(Given):
    """Which checkpoints."""

    before: Position = Field(None, description="Those before this position.")
    limit: Limit = 100
