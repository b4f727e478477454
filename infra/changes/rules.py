"""CloudFormation's rules for the resources of this app: replacements, names, data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: The properties that CloudFormation can't change in place: another value replaces the resource.
#: Properties that no template of this app sets are left out. Source: `createOnlyProperties` of
#: AWS's resource schemas (CloudFormation CLI user guide, "Resource type schema"), which the
#: Template Reference describes as "Update requires: Replacement".
CREATE_ONLY: Final[Mapping[str, tuple[str, ...]]] = {
    "AWS::ApiGateway::Account": (),
    "AWS::ApiGateway::ApiKey": ("GenerateDistinctId", "Name", "Value"),
    "AWS::ApiGateway::Authorizer": ("RestApiId",),
    "AWS::ApiGateway::BasePathMapping": ("BasePath", "DomainName"),
    "AWS::ApiGateway::Deployment": ("RestApiId",),
    "AWS::ApiGateway::DomainName": ("DomainName",),
    "AWS::ApiGateway::GatewayResponse": ("ResponseType", "RestApiId"),
    "AWS::ApiGateway::Method": ("HttpMethod", "ResourceId", "RestApiId"),
    "AWS::ApiGateway::Resource": ("ParentId", "PathPart", "RestApiId"),
    "AWS::ApiGateway::RestApi": (),
    "AWS::ApiGateway::Stage": ("RestApiId", "StageName"),
    "AWS::ApiGateway::UsagePlan": (),
    "AWS::ApiGateway::UsagePlanKey": ("KeyId", "KeyType", "UsagePlanId"),
    "AWS::Budgets::Budget": ("NotificationsWithSubscribers",),
    "AWS::CloudFront::CachePolicy": (),
    "AWS::CloudFront::Distribution": (),
    "AWS::CloudFront::Function": ("Name",),
    "AWS::CloudFront::KeyValueStore": ("Name",),
    "AWS::CloudFront::ResponseHeadersPolicy": (),
    "AWS::CloudWatch::Alarm": ("AlarmName",),
    "AWS::CloudWatch::Dashboard": ("DashboardName",),
    "AWS::CodeBuild::Project": ("Name",),
    "AWS::CodeDeploy::Application": ("ApplicationName", "ComputePlatform"),
    "AWS::CodeDeploy::DeploymentGroup": ("ApplicationName", "DeploymentGroupName"),
    "AWS::Cognito::UserPool": (),
    "AWS::Cognito::UserPoolClient": ("GenerateSecret", "UserPoolId"),
    "AWS::Cognito::UserPoolDomain": ("Domain", "UserPoolId"),
    "AWS::Cognito::UserPoolResourceServer": ("Identifier", "UserPoolId"),
    # The first two may not change in an existing key; Forebay's never do.
    "AWS::DynamoDB::Table": ("AttributeDefinitions", "KeySchema", "TableName"),
    "AWS::EC2::FlowLog": (
        "DeliverLogsPermissionArn",
        "LogDestinationType",
        "LogGroupName",
        "ResourceId",
        "ResourceType",
        "TrafficType",
    ),
    "AWS::EC2::RouteTable": ("VpcId",),
    "AWS::EC2::SecurityGroup": ("GroupDescription", "GroupName", "VpcId"),
    "AWS::EC2::SecurityGroupEgress": (
        "CidrIp",
        "DestinationSecurityGroupId",
        "FromPort",
        "GroupId",
        "IpProtocol",
        "ToPort",
    ),
    "AWS::EC2::SecurityGroupIngress": (
        "CidrIp",
        "FromPort",
        "GroupId",
        "IpProtocol",
        "SourceSecurityGroupId",
        "ToPort",
    ),
    "AWS::EC2::Subnet": ("AvailabilityZone", "AvailabilityZoneId", "CidrBlock", "VpcId"),
    "AWS::EC2::SubnetRouteTableAssociation": ("RouteTableId", "SubnetId"),
    "AWS::EC2::VPC": ("CidrBlock",),
    "AWS::EC2::VPCEndpoint": ("ServiceName", "VpcEndpointType", "VpcId"),
    "AWS::ElastiCache::ParameterGroup": ("CacheParameterGroupFamily",),
    "AWS::ElastiCache::ReplicationGroup": (
        "AtRestEncryptionEnabled",
        "CacheSubnetGroupName",
        "KmsKeyId",
        "Port",
        "ReplicationGroupId",
    ),
    "AWS::ElastiCache::SubnetGroup": (),
    "AWS::ElastiCache::User": ("UserId", "UserName"),
    "AWS::ElastiCache::UserGroup": ("UserGroupId",),
    "AWS::Events::Rule": ("Name",),
    "AWS::IAM::ManagedPolicy": ("Description", "ManagedPolicyName", "Path"),
    "AWS::IAM::Policy": (),
    "AWS::IAM::Role": ("Path", "RoleName"),
    "AWS::KMS::Alias": ("AliasName",),
    "AWS::KMS::Key": (),
    "AWS::KinesisFirehose::DeliveryStream": ("DeliveryStreamName", "DeliveryStreamType"),
    "AWS::Lambda::Alias": ("FunctionName", "Name"),
    "AWS::Lambda::EventSourceMapping": ("EventSourceArn",),
    "AWS::Lambda::Function": ("FunctionName", "PackageType"),
    "AWS::Lambda::Permission": (
        "Action",
        "FunctionName",
        "Principal",
        "SourceAccount",
        "SourceArn",
    ),
    "AWS::Lambda::Version": ("Description", "FunctionName", "ProvisionedConcurrencyConfig"),
    "AWS::Logs::LogGroup": ("LogGroupName",),
    "AWS::Logs::LogStream": ("LogGroupName", "LogStreamName"),
    "AWS::RDS::DBCluster": (
        "DatabaseName",
        "DBClusterIdentifier",
        "DBSubnetGroupName",
        "GlobalClusterIdentifier",
        "KmsKeyId",
        "MasterUsername",
        "StorageEncrypted",
    ),
    "AWS::RDS::DBClusterParameterGroup": ("Description", "Family"),
    "AWS::RDS::DBInstance": (
        "DBClusterIdentifier",
        "DBInstanceIdentifier",
        "DBName",
        "DBSubnetGroupName",
        "KmsKeyId",
        "MasterUsername",
        "PerformanceInsightsKMSKeyId",
        "SourceDBInstanceIdentifier",
        "StorageEncrypted",
    ),
    "AWS::RDS::DBParameterGroup": ("Description", "Family"),
    "AWS::RDS::DBProxy": ("DBProxyName", "EngineFamily", "VpcSubnetIds"),
    "AWS::RDS::DBProxyTargetGroup": ("DBProxyName", "TargetGroupName"),
    "AWS::RDS::DBSubnetGroup": ("DBSubnetGroupName",),
    "AWS::RDS::GlobalCluster": ("GlobalClusterIdentifier", "SourceDBClusterIdentifier"),
    "AWS::Route53::RecordSet": ("HostedZoneId", "Name"),
    "AWS::S3::Bucket": ("BucketName",),
    "AWS::S3::BucketPolicy": ("Bucket",),
    "AWS::SNS::Subscription": ("Endpoint", "Protocol", "TopicArn"),
    "AWS::SNS::Topic": ("TopicName",),
    "AWS::SNS::TopicPolicy": (),
    "AWS::SQS::Queue": ("QueueName",),
    "AWS::SQS::QueuePolicy": (),
    "AWS::SecretsManager::Secret": ("Name",),
    "AWS::WAFv2::LoggingConfiguration": ("ResourceArn",),
    "AWS::WAFv2::WebACL": ("Name", "Scope"),
    "Custom::Trigger": ("ServiceToken",),
}

#: The properties that together must differ from those of all other resources of the type; a dot
#: leads into a property. CloudFormation creates first and deletes last, so a replacement needs
#: another name too ("CloudFormation cannot update a stack when a custom-named resource requires
#: replacing", user guide, troubleshooting).
NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "AWS::ApiGateway::DomainName": ("DomainName",),
    "AWS::Budgets::Budget": ("Budget.BudgetName",),
    "AWS::CloudFront::CachePolicy": ("CachePolicyConfig.Name",),
    "AWS::CloudFront::Function": ("Name",),
    "AWS::CloudFront::KeyValueStore": ("Name",),
    "AWS::CloudFront::ResponseHeadersPolicy": ("ResponseHeadersPolicyConfig.Name",),
    "AWS::CloudWatch::Alarm": ("AlarmName",),
    "AWS::CloudWatch::Dashboard": ("DashboardName",),
    "AWS::CodeBuild::Project": ("Name",),
    "AWS::CodeDeploy::Application": ("ApplicationName",),
    "AWS::CodeDeploy::DeploymentGroup": ("ApplicationName", "DeploymentGroupName"),
    "AWS::Cognito::UserPoolDomain": ("Domain",),
    "AWS::Cognito::UserPoolResourceServer": ("UserPoolId", "Identifier"),
    "AWS::DynamoDB::Table": ("TableName",),
    "AWS::ElastiCache::ReplicationGroup": ("ReplicationGroupId",),
    "AWS::ElastiCache::User": ("UserId",),
    "AWS::ElastiCache::UserGroup": ("UserGroupId",),
    "AWS::Events::Rule": ("Name",),
    "AWS::IAM::ManagedPolicy": ("ManagedPolicyName",),
    "AWS::IAM::Role": ("RoleName",),
    "AWS::KMS::Alias": ("AliasName",),
    "AWS::KinesisFirehose::DeliveryStream": ("DeliveryStreamName",),
    "AWS::Lambda::Alias": ("FunctionName", "Name"),
    "AWS::Lambda::Function": ("FunctionName",),
    "AWS::Logs::LogGroup": ("LogGroupName",),
    "AWS::Logs::LogStream": ("LogGroupName", "LogStreamName"),
    "AWS::RDS::DBCluster": ("DBClusterIdentifier",),
    "AWS::RDS::DBInstance": ("DBInstanceIdentifier",),
    "AWS::RDS::DBProxy": ("DBProxyName",),
    "AWS::RDS::GlobalCluster": ("GlobalClusterIdentifier",),
    "AWS::Route53::RecordSet": ("HostedZoneId", "Name", "Type"),
    "AWS::S3::Bucket": ("BucketName",),
    "AWS::SNS::Topic": ("TopicName",),
    "AWS::SQS::Queue": ("QueueName",),
    "AWS::SecretsManager::Secret": ("Name",),
    "AWS::WAFv2::WebACL": ("Name", "Scope"),
}

#: Properties that no second resource of the type may have in common with the first.
SINGLE: Final[Mapping[str, tuple[str, ...]]] = {
    # One prefix domain (Amazon Cognito, quotas: "domains per user pool").
    "AWS::Cognito::UserPoolDomain": ("UserPoolId",),
    "AWS::S3::BucketPolicy": ("Bucket",),
    "AWS::WAFv2::LoggingConfiguration": ("ResourceArn",),
}

#: What callers or data depend on: a replacement loses it, whatever its deletion policy keeps.
HELD: Final[Mapping[str, str]] = {
    "AWS::ApiGateway::ApiKey": "the key that callers send",
    "AWS::ApiGateway::RestApi": "the address that callers use",
    "AWS::Cognito::UserPool": "the callers' accounts",
    "AWS::DynamoDB::Table": "the records of requests that may be repeated",
    "AWS::KMS::Key": "the permissions to read what it has encrypted",
    "AWS::KinesisFirehose::DeliveryStream": "accepted commands that are not in the archive yet",
    "AWS::RDS::DBCluster": "the tables",
    "AWS::RDS::DBInstance": "the tables",
    "AWS::RDS::GlobalCluster": "the link to the other regions",
    "AWS::S3::Bucket": "the archive",
    "AWS::SQS::Queue": "events of objects that are not applied yet",
}

#: What must not be removed even if its deletion policy keeps it: other resources would lose it.
NEEDED: Final = frozenset({"AWS::KMS::Key"})

#: Changes that the service refuses, although CloudFormation has the property without replacement:
#: the property, and its values before and after. (API Gateway developer guide, "Change a public or
#: private API endpoint type": a private API can't become an edge-optimized one.)
REFUSED: Final[Mapping[str, tuple[str, object, object]]] = {
    "AWS::ApiGateway::RestApi": ("EndpointConfiguration.Types", ["PRIVATE"], ["EDGE"]),
}

#: Properties that the resource keeps although the template no longer has them (aws/aws-cdk#21840).
STICKY: Final[Mapping[str, tuple[str, ...]]] = {"AWS::ApiGateway::RestApi": ("Policy",)}

#: The properties by which one document defines an API, and the types of the parts that it defines.
DEFINITION: Final = ("Body", "BodyS3Location")
DEFINED: Final = frozenset(
    {
        "AWS::ApiGateway::Authorizer",
        "AWS::ApiGateway::GatewayResponse",
        "AWS::ApiGateway::Method",
        "AWS::ApiGateway::Resource",
    }
)

#: Deletion policies that keep the resource, and so its name (Template Reference,
#: "DeletionPolicy attribute").
KEEPING: Final = frozenset({"Retain", "RetainExceptOnCreate"})

#: Resources that servers and functions are in. They are not moved to a replacement: RDS moves no
#: server between subnet groups of one network ("You cannot move DB instance …",
#: hashicorp/terraform-provider-aws#512), and takes no subnet out of a group while a server is in it
#: (aws/aws-cdk#26135). While network interfaces of functions are in them, AWS does not delete them:
#: after three attempts CloudFormation abandons them (AWS re:Post, "Why is my CloudFormation
#: stack stuck in the … CLEANUP_IN_PROGRESS state?").
PLACES: Final = frozenset({"AWS::EC2::SecurityGroup", "AWS::EC2::Subnet", "AWS::EC2::VPC"})
