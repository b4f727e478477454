"""Decimals keep every digit, written as text or as a number."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

import pytest
from pydantic import Field

from forebay.ids import IdSource
from forebay.intake.commands import CommandMaker, Origin
from forebay.intake.json_text import parse_text
from forebay.problem import ProblemError
from forebay.resource import Resource


class Invoice(Resource, path="invoices"):
    """A resource with a decimal."""

    amount: Annotated[Decimal, Field(max_digits=24, decimal_places=4)]


@pytest.mark.parametrize(
    "text", ["12345678901234567890.1234", '"12345678901234567890.1234"', "5", "0.10", "-1.5"]
)
def test_no_digit_of_a_decimal_is_lost(text: str) -> None:
    maker = CommandMaker(IdSource())
    item = parse_text(f'{{"amount":{text}}}'.encode())
    line = maker.create(Invoice.spec_, item, Origin("test"))
    assert line.command.body == {"amount": text.strip('"')}


@pytest.mark.parametrize("text", ["1.23456", "1e30", '"NaN"', '"Infinity"', '"x"', "true"])
def test_a_decimal_that_does_not_fit_the_column_is_refused(text: str) -> None:
    maker = CommandMaker(IdSource())
    item = parse_text(f'{{"amount":{text}}}'.encode())
    with pytest.raises(ProblemError):
        maker.create(Invoice.spec_, item, Origin("test"))
