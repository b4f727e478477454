"""Settings of what tells operators that something is wrong."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from infra.front import Names
from infra.section import Section


class OperationsSettings(Section):
    """Alarms, and who hears of them."""

    #: Addresses that get a mail for every alarm, once they have confirmed it.
    emails: Names = ()
    #: Where the pages are that an alarm's description links to.
    runbooks_url: str = "docs/runbooks/alarms"
    #: Age of the oldest command that isn't in the archive yet; Firehose drops it after 24 hours.
    freshness_seconds: Annotated[int, Field(ge=60, le=43_200)] = 900
    #: Age of the oldest archive object that nobody has applied.
    apply_lag_seconds: Annotated[int, Field(ge=60)] = 900
    read_p99_milliseconds: Annotated[int, Field(ge=1)] = 2_000
    #: RDS counts up to 300 while nobody writes, so less than that would ring every night.
    replica_lag_seconds: Annotated[int, Field(gt=300)] = 360
    #: A mail goes out when the month's costs come near it; no budget where absent.
    monthly_budget_dollars: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _somebody_hears_of_the_budget(self) -> Self:
        if self.monthly_budget_dollars is not None and not self.emails:
            raise ValueError("monthly_budget_dollars needs emails: a budget only sends mails")
        return self
