"""What the pages of machines make of what people type, and of addresses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from pydantic import ValidationError

from events.errors import InvalidInputError
from services.gateway.pages.enrolling import Wish
from services.gateway.pages.machines import MachineFilter
from services.gateway.pages.rendering import left

NETWORK = UUID("11111111-1111-4111-8111-111111111111")
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_the_address_of_a_list_says_only_what_is_not_as_always() -> None:
    assert MachineFilter().to() == "/machines"
    assert MachineFilter(sort="hostname", status="", search="").to(sort="-hostname") == "/machines?sort=-hostname"
    assert MachineFilter(sort="-hostname").to(sort="hostname") == "/machines"
    assert MachineFilter(search="hostname", after="x").to() == "/machines?search=hostname"
    assert MachineFilter(network=NETWORK, status="online").to(after="x") == (
        f"/machines?network={NETWORK}&status=online&after=x"
    )


def test_a_form_without_a_network_has_none() -> None:
    assert MachineFilter.model_validate({"network": "", "status": ""}).network is None
    with pytest.raises(ValidationError):
        MachineFilter.model_validate({"network": "office"})


@pytest.mark.parametrize(("text", "number"), [("1", 1), (" 25 ", 25), ("1,000", 1000), ("1000000", 1_000_000)])
def test_how_many_machines_a_token_lets_in(text: str, number: int) -> None:
    assert Wish(command_id=uuid4(), uses=text).body().uses == number


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "ten", "1000001", "9" * 60, "²", "٣"])
def test_what_is_no_number_of_machines(text: str) -> None:
    with pytest.raises(InvalidInputError, match="Give a number from 1 to 1,000,000") as caught:
        Wish(command_id=uuid4(), uses=text).body()
    assert caught.value.field == "uses"
    assert Wish(command_id=uuid4(), uses=text, unlimited=True).body().uses is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(599.5, "10 minutes"), (86_399 * 7, "7 days"), (61, "1 minute"), (0.2, "1 second"), (0, "over"), (-5, "over")],
)
def test_how_long_it_still_is(seconds: float, text: str) -> None:
    assert f">{text}</time>" in left(NOW + timedelta(seconds=seconds), NOW, "over")
    assert "<b>" not in left(NOW, NOW, "<b>")
