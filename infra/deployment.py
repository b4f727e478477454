"""Settings of deployments: how calls move to new code."""

from __future__ import annotations

from typing import Final, Literal, get_args

from infra.section import Section

#: CodeDeploy's predefined ways to move the calls of a function to a new version, and `off`: all
#: calls move at once, and no alarm is watched (AWS CodeDeploy user guide, "Predefined deployment
#: configurations for an AWS Lambda compute platform").
Canary = Literal[
    "off",
    "Canary10Percent5Minutes",
    "Canary10Percent10Minutes",
    "Canary10Percent15Minutes",
    "Canary10Percent30Minutes",
    "Linear10PercentEvery1Minute",
    "Linear10PercentEvery2Minutes",
    "Linear10PercentEvery3Minutes",
    "Linear10PercentEvery10Minutes",
]

CanaryFunction = Literal["write", "read", "status", "firehose_consumer"]
#: The functions with calls that move in steps: those with enough calls to show a defect. `status`
#: runs the read function's code.
CANARY_FUNCTIONS: Final[tuple[CanaryFunction, ...]] = get_args(CanaryFunction)


class DeploymentSettings(Section):
    """How calls move to new code."""

    canary: Canary = "off"

    @property
    def has_canaries(self) -> bool:
        """True if calls move in steps."""
        return self.canary != "off"
