"""An AWS account with recorded answers: every call goes through botocore's service models.

botocore checks the parameters of each call by the service's model, and this account checks the
recorded answer by it too, as `botocore.stub.Stubber` does; unlike the stubber, it has no order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import botocore.session
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.validate import validate_parameters

#: Returns the answer to a call; its argument contains the call's parameters as they are sent.
Answer = Mapping[str, Any] | Callable[[Mapping[str, Any]], Any]


#: One for all accounts, because the models of the services take long to load.
_SESSION = botocore.session.Session()


class Refusal(Exception):  # noqa: N818 - an answer
    """An answer that is an error."""

    def __init__(self, code: str, status: int = 400) -> None:
        super().__init__(code)
        self.code = code
        self.status = status


class RecordedAccount:
    """Answers by service and operation; a call without one fails the test."""

    def __init__(self, answers: Mapping[str, Answer | Refusal]) -> None:
        self.answers = dict(answers)
        #: The calls in their order, as `service:Operation region`.
        self.calls: list[str] = []

    def connect(self, service: str, region: str) -> Any:
        client = _SESSION.create_client(
            service, region_name=region, aws_access_key_id="key", aws_secret_access_key="secret"
        )

        def answer(model: Any, context: Mapping[str, Any], **_: Any) -> Any:
            self.calls.append(f"{service}:{model.name} {region}")
            return self._answer(f"{service}:{model.name}", region, model, context)

        def keep(params: Mapping[str, Any], context: dict[str, Any], **_: Any) -> None:
            context["sent"] = params

        client.meta.events.register_first("provide-client-params.*.*", keep)
        client.meta.events.register_first("before-call.*.*", answer)
        return client

    def _answer(self, name: str, region: str, model: Any, context: Mapping[str, Any]) -> Any:
        recorded = self.answers.get(f"{name} {region}", self.answers.get(name))
        assert recorded is not None, f"no answer is recorded for {name} in {region}"
        sent = context["sent"]
        try:
            if isinstance(recorded, Refusal):
                raise recorded
            body = recorded(sent) if callable(recorded) else recorded
        except Refusal as refusal:
            return _respond(refusal.status), {
                "Error": {"Code": refusal.code, "Message": f"recorded for {name}"},
                "ResponseMetadata": {"HTTPStatusCode": refusal.status},
            }
        if model.output_shape is not None:
            validate_parameters(body, model.output_shape)
        return _respond(200), {**body, "ResponseMetadata": {"HTTPStatusCode": 200}}


def _respond(status: int) -> AWSResponse:
    return AWSResponse("https://recorded.invalid", status, HTTPHeaders(), None)


def without_credentials() -> Callable[[str, str], Any]:
    """Connect as a machine without credentials."""
    session = botocore.session.Session()
    session.get_component("credential_provider").providers.clear()

    def connect(service: str, region: str) -> Any:
        return session.create_client(service, region_name=region)

    return connect
