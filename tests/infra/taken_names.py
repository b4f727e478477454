"""Answers of accounts in which a name is taken."""

from __future__ import annotations

from collections.abc import Mapping

from tests.infra.recorded import Answer

#: An answer that finds a resource, by the type of the resource.
TAKEN: Mapping[str, Mapping[str, Answer]] = {
    "AWS::ApiGateway::DomainName": {"apigateway:GetDomainName": {}},
    "AWS::CloudFront::CachePolicy": {
        "cloudfront:ListCachePolicies": {
            "CachePolicyList": {
                "MaxItems": 100,
                "Quantity": 1,
                "Items": [
                    {
                        "Type": "custom",
                        "CachePolicy": {
                            "Id": "a",
                            "LastModifiedTime": "2026-01-01T00:00:00Z",
                            "CachePolicyConfig": {"Name": "forebay-x", "MinTTL": 0},
                        },
                    }
                ],
            }
        }
    },
    "AWS::CloudFront::Function": {"cloudfront:DescribeFunction": {}},
    "AWS::CloudFront::ResponseHeadersPolicy": {
        "cloudfront:ListResponseHeadersPolicies": {
            "ResponseHeadersPolicyList": {
                "MaxItems": 100,
                "Quantity": 1,
                "Items": [
                    {
                        "Type": "custom",
                        "ResponseHeadersPolicy": {
                            "Id": "a",
                            "LastModifiedTime": "2026-01-01T00:00:00Z",
                            "ResponseHeadersPolicyConfig": {"Name": "forebay-x"},
                        },
                    }
                ],
            }
        }
    },
    "AWS::CloudFront::KeyValueStore": {
        "cloudfront:DescribeKeyValueStore": {
            "ETag": "a",
            "KeyValueStore": {
                "Name": "forebay-x",
                "Id": "a",
                "Comment": "",
                "ARN": "a",
                "LastModifiedTime": "2026-01-01T00:00:00Z",
            },
        }
    },
    "AWS::CloudWatch::Alarm": {
        "cloudwatch:DescribeAlarms": {"MetricAlarms": [{"AlarmName": "forebay-x"}]}
    },
    "AWS::CloudWatch::Dashboard": {"cloudwatch:GetDashboard": {}},
    "AWS::CodeBuild::Project": {
        "codebuild:BatchGetProjects": {"projects": [{"name": "forebay-x"}]}
    },
    "AWS::CodeDeploy::Application": {"codedeploy:GetApplication": {}},
    "AWS::Cognito::UserPoolDomain": {
        "cognito-idp:DescribeUserPoolDomain": {"DomainDescription": {"Domain": "forebay-x"}}
    },
    "AWS::DynamoDB::Table": {"dynamodb:DescribeTable": {}},
    "AWS::ElastiCache::ReplicationGroup": {"elasticache:DescribeReplicationGroups": {}},
    "AWS::ElastiCache::User": {"elasticache:DescribeUsers": {}},
    "AWS::ElastiCache::UserGroup": {"elasticache:DescribeUserGroups": {}},
    "AWS::Events::Rule": {"events:DescribeRule": {}},
    "AWS::IAM::ManagedPolicy": {"iam:GetPolicy": {}},
    "AWS::IAM::Role": {},
    "AWS::KMS::Alias": {"kms:DescribeKey": {}},
    "AWS::KinesisFirehose::DeliveryStream": {
        "firehose:DescribeDeliveryStream": {
            "DeliveryStreamDescription": {
                "DeliveryStreamName": "forebay-x",
                "DeliveryStreamARN": "a",
                "DeliveryStreamStatus": "ACTIVE",
                "DeliveryStreamType": "DirectPut",
                "VersionId": "1",
                "Destinations": [],
                "HasMoreDestinations": False,
            }
        }
    },
    "AWS::Lambda::Function": {"lambda:GetFunctionConfiguration": {}},
    "AWS::Logs::LogGroup": {
        "logs:DescribeLogGroups": {"logGroups": [{"logGroupName": "forebay-x"}]}
    },
    "AWS::RDS::DBCluster": {"rds:DescribeDBClusters": {}},
    "AWS::RDS::DBInstance": {"rds:DescribeDBInstances": {}},
    "AWS::RDS::DBProxy": {"rds:DescribeDBProxies": {}},
    "AWS::RDS::GlobalCluster": {"rds:DescribeGlobalClusters": {}},
    "AWS::S3::Bucket": {"s3:HeadBucket": {}},
    "AWS::SNS::Topic": {"sns:GetTopicAttributes": {}},
    "AWS::SQS::Queue": {"sqs:GetQueueUrl": {}},
    "AWS::SecretsManager::Secret": {
        "secretsmanager:DescribeSecret": {"DeletedDate": "2026-01-01T00:00:00Z"}
    },
    "AWS::WAFv2::WebACL": {"wafv2:ListWebACLs": {"WebACLs": [{"Name": "forebay-x"}]}},
}
