"""Settings of what tells operators that something is wrong."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from infra.front import Names
from infra.section import Section


class OperationsSettings(Section):
    """Alarms, and who hears of them."""

    #: Addresses that get a mail for every alarm, once they have confirmed it.
    emails: Names = ()
    #: Where the pages are that an alarm's description links to.
    runbooks_url: str = "docs/runbooks"
    #: Age of the oldest command that isn't in the archive yet; Firehose drops it after 24 hours.
    freshness_seconds: Annotated[int, Field(ge=60, le=43_200)] = 900
    #: Age of the oldest archive object that nobody has applied.
    apply_lag_seconds: Annotated[int, Field(ge=60)] = 900
    read_p99_milliseconds: Annotated[int, Field(ge=1)] = 2_000
    replica_lag_seconds: Annotated[int, Field(ge=1)] = 60
    #: A mail goes out when the month's costs come near it; no budget where absent.
    monthly_budget_dollars: Annotated[int, Field(ge=1)] | None = None
