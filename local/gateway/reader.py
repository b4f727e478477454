"""Read the deployed API by the AWS API, the only source of the gateway's configuration."""

from typing import Any

import boto3
import botocore.config
import botocore.exceptions

from local.credentials import ACCESS_KEY_ID
from local.gateway.deployed import Deployed
from local.gateway.description import describe
from local.gateway.errors import EmulatorUnreachableError, NotDeployedError
from local.settings import REGION

_PAGE = 500  # the largest page of GetResources
_CONFIG = botocore.config.Config(
    connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1}
)


def read_stage(endpoint_url: str, *, key: str, api_id: str, stage: str) -> Deployed:
    """Read a stage from the emulator with the secret access key `key`.

    Raises:
        NotDeployedError: there is no such API or stage.
        EmulatorUnreachableError: the emulator does not answer.
    """
    client: Any = boto3.client(
        "apigateway",
        endpoint_url=endpoint_url,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=key,
        config=_CONFIG,
    )
    try:
        description = client.get_stage(restApiId=api_id, stageName=stage)
        pages = client.get_paginator("get_resources").paginate(
            restApiId=api_id, embed=["methods"], PaginationConfig={"PageSize": _PAGE}
        )
        resources = [item for page in pages for item in page["items"]]
        responses = client.get_gateway_responses(restApiId=api_id).get("items", [])
        api = client.get_rest_api(restApiId=api_id)
    except client.exceptions.NotFoundException as exc:
        raise NotDeployedError(
            f"the emulator at {endpoint_url} has no stage {stage!r} of the "
            f"REST API {api_id!r}; deploy it first"
        ) from exc
    except botocore.exceptions.ClientError as exc:
        raise EmulatorUnreachableError(
            f"the emulator at {endpoint_url} refused to describe the API: {exc}"
        ) from exc
    except botocore.exceptions.BotoCoreError as exc:
        raise EmulatorUnreachableError(
            f"the emulator at {endpoint_url} does not respond; start it first"
        ) from exc
    return describe(api_id, description, resources, responses, api=api)
