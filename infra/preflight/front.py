"""Checks of objects that the settings name: certificates, zones of DNS, pools, buckets, mails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from infra.front import EDGE_REGION, CognitoSettings, DomainSettings
from infra.preflight.account import Account, MissingError
from infra.preflight.answers import collect
from infra.preflight.findings import Finding, State
from infra.preflight.plan import Plan


def check_domains(plan: Plan, account: Account) -> Iterator[Finding]:
    """The certificates are issued for the domains, and the zones of DNS contain them."""
    edge = plan.settings.edge
    for domain in (plan.settings.api.domain, edge.domain if edge else None):
        if domain is not None:
            certificate = _check_certificate(domain, account)
            yield from collect("certificate", domain.name, certificate)
            yield from collect("hosted zone", domain.name, _check_hosted_zone(domain, account))


def _check_certificate(domain: DomainSettings, account: Account) -> Iterator[Finding]:
    region = domain.certificate_region
    arn = domain.certificate_arn
    try:
        answer = account.call("acm", region, "describe_certificate", CertificateArn=arn)
    except MissingError:
        detail = f"{arn} does not exist in this account"
        next_step = f"aws acm request-certificate --region {region} --domain-name {domain.name}"
        yield Finding(State.WILL_FAIL, "certificate", domain.name, detail, next_step)
        return
    certificate: Mapping[str, Any] = answer["Certificate"]
    names = {certificate["DomainName"], *certificate.get("SubjectAlternativeNames", ())}
    status = certificate["Status"]
    if status != "ISSUED":
        detail = f"the certificate is {status}"
        next_step = "validate it: add the DNS record that `aws acm describe-certificate` shows"
        yield Finding(State.WILL_FAIL, "certificate", domain.name, detail, next_step)
    elif not names & {domain.name, f"*.{domain.name.partition('.')[2]}"}:
        detail = f"the certificate is for {', '.join(sorted(names))}"
        next_step = "name a certificate of the domain"
        yield Finding(State.WILL_FAIL, "certificate", domain.name, detail, next_step)
    else:
        yield Finding(State.OK, "certificate", domain.name, f"issued in {region}")


def _check_hosted_zone(domain: DomainSettings, account: Account) -> Iterator[Finding]:
    zone_id = domain.hosted_zone_id
    if zone_id is None:
        return
    if not account.exists("route53", EDGE_REGION, "get_hosted_zone", Id=zone_id):
        detail = f"the zone {zone_id} does not exist in this account"
        next_step = "correct hosted_zone_id, or remove it and add the record by hand"
        yield Finding(State.WILL_FAIL, "hosted zone", domain.name, detail, next_step)
        return
    zone = account.call("route53", EDGE_REGION, "get_hosted_zone", Id=zone_id)["HostedZone"]
    parent = domain.name.partition(".")[2]
    if zone["Name"].rstrip(".") != parent:
        detail = f"the zone {zone_id} is {zone['Name']}, but the record belongs in {parent}"
        next_step = "name the zone of the domain's parent"
        yield Finding(State.WILL_FAIL, "hosted zone", domain.name, detail, next_step)
    else:
        yield Finding(State.OK, "hosted zone", domain.name, f"{zone_id} is {parent}")


def check_user_pool(plan: Plan, account: Account) -> Iterator[Finding]:
    """An existing user pool exists."""
    authorization = plan.settings.api.authorization
    if not isinstance(authorization, CognitoSettings) or authorization.user_pool_arn is None:
        return
    arn = authorization.user_pool_arn
    _, _, _, region, _, resource = arn.split(":", 5)
    pool = resource.partition("/")[2]
    if account.exists("cognito-idp", region, "describe_user_pool", UserPoolId=pool):
        yield Finding(State.OK, "user pool", pool, "exists")
    else:
        next_step = "correct api.authorization.user_pool_arn"
        detail = f"does not exist in {region}"
        yield Finding(State.WILL_FAIL, "user pool", pool, detail, next_step)


def check_callers(plan: Plan, _account: Account) -> Iterator[Finding]:
    """The user pool that is created has a client, through which callers get tokens."""
    authorization = plan.settings.api.authorization
    if not isinstance(authorization, CognitoSettings) or authorization.user_pool_arn is not None:
        return
    file = f"infra/environments/{plan.settings.name}.toml"
    clients = [*authorization.machine_clients, *authorization.callback_urls]
    if not clients:
        detail = "the user pool has no client, so no caller gets a token"
        next_step = f"add api.authorization.machine_clients and domain_prefix to {file}"
        yield Finding(State.WARNING, "callers", plan.settings.prefix, detail, next_step)
    else:
        detail = f"{len(clients)} clients fetch tokens at {authorization.domain_prefix}"
        yield Finding(State.OK, "callers", plan.settings.prefix, detail)


def check_copy(plan: Plan, account: Account) -> Iterator[Finding]:
    """The bucket for copies of the archive keeps versions, as S3's replication requires."""
    copy = plan.settings.archive.copy_to
    if copy is None:
        return
    create = "create it first, with versions (docs/runbooks/region-lost.md, “Before it happens”)"
    try:
        answer = account.call("s3", copy.region, "get_bucket_versioning", Bucket=copy.bucket)
    except MissingError:
        detail = f"does not exist in {copy.region}"
        yield Finding(State.WILL_FAIL, "copy of the archive", copy.bucket, detail, create)
        return
    if answer.get("Status") == "Enabled":
        yield Finding(State.OK, "copy of the archive", copy.bucket, "exists, with versions")
    else:
        next_step = (
            f"aws s3api put-bucket-versioning --bucket {copy.bucket} "
            "--versioning-configuration Status=Enabled"
        )
        detail = "keeps no versions"
        yield Finding(State.WILL_FAIL, "copy of the archive", copy.bucket, detail, next_step)


def check_emails(plan: Plan, account: Account) -> Iterator[Finding]:
    """The alarms have receivers, and those have confirmed."""
    topic = f"{plan.settings.prefix}-alarms"
    emails = plan.settings.operations.emails
    if not emails:
        next_step = f"set operations.emails in infra/environments/{plan.settings.name}.toml"
        yield Finding(State.WARNING, "alarm mails", topic, "no receiver", next_step)
        return
    region = plan.settings.region
    arn = f"arn:aws:sns:{region}:{plan.account_id}:{topic}"
    if not any(name.endswith("-operations") for name in plan.deployed):
        detail = f"each of {', '.join(emails)} gets a mail to confirm after the deployment"
        yield Finding(State.OK, "alarm mails", topic, detail)
        return
    method = "list_subscriptions_by_topic"
    subscriptions = account.list("sns", region, method, "Subscriptions", TopicArn=arn)
    pending = [
        str(subscription["Endpoint"])
        for subscription in subscriptions
        if subscription["SubscriptionArn"] == "PendingConfirmation"
    ]
    if pending:
        detail = f"{', '.join(pending)} have not confirmed, and get no mail"
        next_step = "open the link in the mail of “AWS Notifications”"
        yield Finding(State.WARNING, "alarm mails", topic, detail, next_step)
    else:
        yield Finding(State.OK, "alarm mails", topic, "all receivers have confirmed")
