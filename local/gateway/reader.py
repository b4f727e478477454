"""Read the deployed API by the AWS API, the only source of the gateway's configuration."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar, cast

import boto3
import botocore.config
import botocore.exceptions

from local.credentials import ACCESS_KEY_ID
from local.gateway.deployed import Deployed
from local.gateway.description import Described, describe, fingerprint
from local.gateway.errors import EmulatorUnreachableError, NotDeployedError

if TYPE_CHECKING:
    from mypy_boto3_apigateway import APIGatewayClient

T = TypeVar("T")

_PAGE = 500  # the largest page of GetResources and GetRestApis
_CONNECT_TIMEOUT_SECONDS = 2
_READ_TIMEOUT_SECONDS = 5


class ApiReader:
    """A client that finds a stage of an API in the emulator, by the API's id or by its name."""

    def __init__(
        self, endpoint_url: str, *, key: str, region: str, api: str, by_name: bool, stage: str
    ) -> None:
        """Make the client, without a request.

        Args:
            endpoint_url: of the emulator.
            key: the emulator's secret access key.
            region: where the API is deployed.
            api: the API's id, or with `by_name` its name; the newest API of that name is used.
            by_name: whether `api` is a name.
            stage: the stage's name.
        """
        self._client: APIGatewayClient = boto3.client(
            "apigateway",
            endpoint_url=endpoint_url,
            region_name=region,
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=key,
            config=botocore.config.Config(
                connect_timeout=_CONNECT_TIMEOUT_SECONDS,
                read_timeout=_READ_TIMEOUT_SECONDS,
                retries={"total_max_attempts": 1},
            ),
        )
        self._endpoint_url = endpoint_url
        self._api = api
        self._by_name = by_name
        self._stage = stage

    def fingerprint(self, api_id: str) -> str:
        """Return a hash that differs after every change of the stage; needs one cheap call.

        Raises:
            NotDeployedError: the API or the stage no longer exists.
            EmulatorUnreachableError: the emulator does not answer.
        """
        return fingerprint(self._get_stage(api_id))

    def read(self) -> Deployed:
        """Read the current stage.

        Raises:
            NotDeployedError: there is no such API or stage.
            EmulatorUnreachableError: the emulator does not answer.
        """
        api_id = self._find_by_name() if self._by_name else self._api
        stage = self._get_stage(api_id)
        resources = self._ask(lambda: list(self._list_resources(api_id)))
        responses = self._ask(lambda: self._client.get_gateway_responses(restApiId=api_id))
        api = self._ask(lambda: cast("Described", self._client.get_rest_api(restApiId=api_id)))
        return describe(api_id, stage, resources, cast("Any", responses).get("items", []), api=api)

    def _find_by_name(self) -> str:
        apis = self._ask(lambda: list(self._list_apis()))
        matches = [description for description in apis if description.get("name") == self._api]
        for api in sorted(
            matches, key=lambda description: str(description["createdDate"]), reverse=True
        ):
            try:
                self._get_stage(api["id"])
            except NotDeployedError:
                continue
            return str(api["id"])
        names = ", ".join(sorted({str(description.get("name")) for description in apis})) or "none"
        raise NotDeployedError(
            f"the emulator at {self._endpoint_url} has no REST API named {self._api!r} with a "
            f"stage {self._stage!r} (APIs there: {names}); deploy it first"
        )

    def _list_apis(self) -> Iterator[Described]:
        paginator = self._client.get_paginator("get_rest_apis")
        for page in paginator.paginate(PaginationConfig={"PageSize": _PAGE}):
            yield from cast("Any", page)["items"]

    def _list_resources(self, api_id: str) -> Iterator[Described]:
        paginator = self._client.get_paginator("get_resources")
        pages = paginator.paginate(
            restApiId=api_id, embed=["methods"], PaginationConfig={"PageSize": _PAGE}
        )
        for page in pages:
            yield from cast("Any", page)["items"]

    def _get_stage(self, api_id: str) -> Described:
        return self._ask(
            lambda: cast(
                "Described",
                self._client.get_stage(restApiId=api_id, stageName=self._stage),
            )
        )

    def _ask(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except botocore.exceptions.ClientError as exc:
            if exc.response["Error"]["Code"] == "NotFoundException":
                raise NotDeployedError(
                    f"the emulator at {self._endpoint_url} has no stage {self._stage!r} of the "
                    f"REST API {self._api!r}; deploy it first"
                ) from exc
            raise EmulatorUnreachableError(
                f"the emulator at {self._endpoint_url} refused to describe the API: {exc}"
            ) from exc
        except botocore.exceptions.BotoCoreError as exc:
            raise EmulatorUnreachableError(
                f"the emulator at {self._endpoint_url} does not respond; start it first"
            ) from exc
