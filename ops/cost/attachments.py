"""The price of attachments: requests, claims and storage of S3."""

from __future__ import annotations

from typing import Final, Protocol

from ops.cost import prices
from ops.cost.database import Item
from ops.cost.prices import HOURS_PER_MONTH
from ops.cost.settings import Function

_GB: Final = 1e9
_DAYS_PER_MONTH: Final = HOURS_PER_MONTH / 24
#: The client's and the function's, for each upload.
_PUTS: Final = 2
#: The function looks the object up and reads the upload.
_GETS: Final = 2
_MESSAGES: Final = 3  # sent by S3, received, deleted
_CLAIM_SECONDS: Final = 0.5
#: A claimed upload is deleted, but its old version stays (infra/components/attachments.py).
_UPLOAD_DAYS: Final = 1


class Uploads(Protocol):
    """The uploads of a load."""

    @property
    def uploads(self) -> float:
        """In the month."""

    @property
    def upload_bytes(self) -> int:
        """The size of a file."""

    @property
    def months_kept(self) -> int:
        """How long the archive, and with it the objects, have been kept."""


def price_attachments(load: Uploads, imports: Function) -> Item:
    """Return the price of the uploads; their forms and downloads are requests of the API."""
    dollars = load.uploads * (
        _PUTS * prices.S3_PUT.dollars
        + _GETS * prices.S3_GET.dollars
        + _MESSAGES * prices.SQS.dollars
        + prices.LAMBDA_REQUEST.dollars
        + _CLAIM_SECONDS * imports.gigabytes * prices.LAMBDA_ARM.dollars
    )
    monthly_gigabytes = load.uploads * load.upload_bytes / _GB
    months = load.months_kept + _UPLOAD_DAYS / _DAYS_PER_MONTH
    dollars += monthly_gigabytes * months * prices.S3_STORAGE.dollars
    explained = f"{load.uploads:,.0f} uploads, {monthly_gigabytes * months:,.1f} GB"
    return Item("S3 attachments", dollars, explained)
