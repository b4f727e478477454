"""The permissions of operators: what the commands of `forebay` need, and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from forebay.archive.layout import AUDIT_PREFIX, COMMANDS_PREFIX, DECISIONS_PREFIX
from infra.components.archive import ONLY_CREATE, Archive
from infra.components.attachments import AttachmentsBucket
from infra.components.encryption import Keys, allow_reading, allow_writing
from infra.components.findings import accept, accept_objects_below
from infra.components.queueing import ArchiveEvents

#: Commands create amendments, decisions of replays, and decisions of operators.
_WRITTEN_PREFIXES: Final = (COMMANDS_PREFIX, DECISIONS_PREFIX, AUDIT_PREFIX)


class OperatorPolicies(Construct):
    """Two policies, for an administrator to attach to the operators' role.

    `<prefix>-operator` is for every command; `<prefix>-rebuild` adds the login as the tables'
    owner, for `forebay rebuild`. Neither is attached to a role here. The second policy is absent if
    the database has no IAM logins.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name_prefix: str,
        stacks: Sequence[str],
        archive: Archive,
        streams: Sequence[str],
        queues: Sequence[ArchiveEvents],
        logins: Sequence[str],
        owner_logins: Sequence[str],
        read_cache: Sequence[str] = (),
        attachments: AttachmentsBucket | None = None,
        keys: Keys | None = None,
    ) -> None:
        """Create the policies.

        Args:
            scope: the stack.
            construct_id: of the construct.
            name_prefix: of the environment.
            stacks: the names of the stacks with the outputs that `--env` reads.
            archive: the bucket.
            streams: the ARNs of the delivery streams.
            queues: the queues of events.
            logins: the resources of `rds-db:connect` for all commands.
            owner_logins: those for `forebay rebuild`.
            read_cache: the resources of `elasticache:Connect`; empty without a read cache.
            attachments: the bucket that `forebay verify` lists; None for none.
            keys: the customer managed keys of archive and queues.
        """
        super().__init__(scope, construct_id)
        stack_arns = self._format_stack_arns(stacks)
        policy = iam.ManagedPolicy(
            self,
            "Operator",
            managed_policy_name=f"{name_prefix}-operator",
            description="Commands of forebay",
            statements=[
                *_use_archive(archive),
                *_use_queues(queues),
                _allow("cloudformation:DescribeStacks", on=stack_arns),
                _allow("cloudwatch:GetMetricData", on=["*"]),
                _allow("firehose:DescribeDeliveryStream", on=streams),
                *_log_in(logins),
                *([_allow("s3:ListBucket", on=[attachments.arn])] if attachments else []),
                *([_allow("elasticache:Connect", on=read_cache)] if read_cache else []),
                *allow_reading(keys or Keys()),
                *allow_writing(keys or Keys()),
            ],
        )
        accept(policy, {"AwsSolutions-IAM5[Resource::*]": "CloudWatch's metrics have no ARN."})
        for pattern in (
            *(archive.objects(prefix) for prefix in ("", *_WRITTEN_PREFIXES)),
            *stack_arns,
        ):
            accept_objects_below(policy, pattern)
        if owner_logins:
            iam.ManagedPolicy(
                self,
                "Rebuild",
                managed_policy_name=f"{name_prefix}-rebuild",
                description="forebay rebuild",
                statements=_log_in(owner_logins),
            )

    def _format_stack_arns(self, names: Sequence[str]) -> list[str]:
        stack = cdk.Stack.of(self)
        return [
            stack.format_arn(service="cloudformation", resource="stack", resource_name=f"{name}/*")
            for name in names
        ]


def _use_archive(archive: Archive) -> list[iam.PolicyStatement]:
    return [
        # The runbook for a lost notification of the bucket reads it.
        _allow("s3:ListBucket", "s3:GetBucketNotification", on=[archive.arn]),
        _allow("s3:GetObject", on=[archive.objects("")]),
        _allow(
            "s3:PutObject",
            on=[archive.objects(prefix) for prefix in _WRITTEN_PREFIXES],
            where=ONLY_CREATE,
        ),
    ]


def _use_queues(queues: Sequence[ArchiveEvents]) -> list[iam.PolicyStatement]:
    """Allow to fill the queues, and to move dead letters out of theirs."""
    return [
        _allow(
            "sqs:GetQueueAttributes",
            "sqs:SendMessage",
            on=[events.queue.queue_arn for events in queues],
        ),
        _allow(
            "sqs:ChangeMessageVisibility",
            "sqs:DeleteMessage",
            "sqs:GetQueueAttributes",
            "sqs:ReceiveMessage",
            on=[events.dead_letters.queue_arn for events in queues],
        ),
    ]


def _log_in(arns: Sequence[str]) -> list[iam.PolicyStatement]:
    return [_allow("rds-db:connect", on=list(dict.fromkeys(arns)))] if arns else []


def _allow(
    *actions: str,
    on: Sequence[str],
    where: Mapping[str, Mapping[str, str]] | None = None,
) -> iam.PolicyStatement:
    return iam.PolicyStatement(actions=list(actions), resources=list(on), conditions=where)
