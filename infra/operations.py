"""Settings of the alarms and the budget."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from infra.front import Names
from infra.section import Section


class OperationsSettings(Section):
    """Alarms, and the recipients of their mails."""

    #: Addresses that get a mail for every alarm, once they have confirmed the subscription.
    emails: Names = ()
    #: The base of the addresses of runbooks in the alarms' descriptions.
    runbooks_url: str = "docs/runbooks/alarms"
    #: Age of the oldest command that isn't in the archive yet; Firehose drops it after 24 hours.
    freshness_seconds: Annotated[int, Field(ge=60, le=43_200)] = 900
    #: Age of the oldest archive object that is not applied.
    apply_lag_seconds: Annotated[int, Field(ge=60)] = 900
    read_p99_milliseconds: Annotated[int, Field(ge=1)] = 2_000
    #: Without writes, RDS reports up to 300: a smaller value would raise an alarm every night.
    replica_lag_seconds: Annotated[int, Field(gt=300)] = 360
    #: True for a project of CodeBuild in the database's network, in which `forebay remote` runs
    #: commands. The network then has three more endpoints.
    runner: bool = False
    #: A mail is sent when the month's costs approach it; None for no budget.
    monthly_budget_dollars: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _check_budget(self) -> Self:
        if self.monthly_budget_dollars is not None and not self.emails:
            raise ValueError(
                "monthly_budget_dollars requires emails, because a budget only sends e-mails"
            )
        return self
