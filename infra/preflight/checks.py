"""All checks, in the order in which they are printed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from infra.preflight import database, front, keys, names, quotas, standing
from infra.preflight.account import Account
from infra.preflight.answers import collect
from infra.preflight.findings import Finding
from infra.preflight.plan import Plan

Check = Callable[[Plan, Account], Iterator[Finding]]

#: By the name under which a call without an answer is reported.
CHECKS: Final[tuple[tuple[str, Check], ...]] = (
    ("account", standing.check_account_number),
    ("region", standing.check_region),
    ("account plan", standing.check_plan),
    ("bootstrap", standing.check_bootstrap),
    ("stack", standing.check_stacks),
    ("lambda concurrency", quotas.check_lambda),
    ("counted quotas", quotas.check_counted),
    ("firehose streams", quotas.check_streams),
    ("api", quotas.check_api),
    ("zone", database.check_zones),
    ("version", database.check_version),
    ("instance class", database.check_classes),
    ("rds quotas", quotas.check_databases),
    ("read cache", database.check_read_cache),
    ("key", keys.check_key),
    ("encryption key", keys.check_encryption),
    ("service role", standing.check_service_roles),
    ("cloudfront", standing.check_cloudfront),
    ("log policies", quotas.check_log_policies),
    ("domain", front.check_domains),
    ("user pool", front.check_user_pool),
    ("callers", front.check_callers),
    ("copy of the archive", front.check_copy),
    ("names", names.check_names),
    ("alarm mails", front.check_emails),
)


def run_checks(plan: Plan, account: Account) -> Iterator[Finding]:
    """The findings of all checks that apply to the settings.

    Raises:
        CredentialsError: no call can succeed.
    """
    for name, check in CHECKS:
        yield from collect(name, plan.settings.prefix, check(plan, account))
