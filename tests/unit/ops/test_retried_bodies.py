"""A retry validates the body that it sends again as a write does."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import Field

from forebay.resource import Key, Resource
from ops.rejections import planning


class Fixed(Resource, path="fixed"):
    """A resource with rejected commands that an operator fixes with `rejections retry --fix`."""

    number: Annotated[int, Field(ge=0), Key()]
    day: dt.date
    moments: list[dt.datetime] = Field(default=[])
    price: Annotated[Decimal, Field(max_digits=10, decimal_places=2)] = Decimal(0)


@pytest.mark.parametrize(
    "body",
    [
        {"day": "1704067200"},
        {"day": "2026-02-28", "moments": ["20240131120000"]},
        {"day": "2026-02-28", "price": "1_0"},
    ],
)
def test_text_that_means_something_else_is_not_sent_again(body: dict[str, Any]) -> None:
    with pytest.raises(planning._NotReadyError, match=r"#/\w+(/0)?: Input is no"):
        planning._validate_body(Fixed.spec_, 1, body)


def test_a_body_is_kept_as_it_was_archived() -> None:
    body = {"day": "2026-02-28", "moments": ["2026-02-28T10:00:00+02:00"], "price": "1E+2"}
    assert planning._validate_body(Fixed.spec_, 1, body) == body
