"""An environment's name suffices: the outputs of its CloudFormation stacks supply the rest."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping

import pytest

from forebay.aws.events import build_event
from local.settings import ROOT
from tests.fixtures.commands import city
from tests.fixtures.emulator import REGION, Emulator, free_port
from tests.fixtures.operating import Operator
from tests.fixtures.site import Site


@pytest.fixture(params=["service", "database"])
def deployed(request: pytest.FixtureRequest, site: Site, emulator: Emulator) -> Iterator[str]:
    """The name of an environment with the site's outputs, as those of `infra`.

    The environment's own database has a stack; an external database is an output of the service.
    """
    name = f"t{uuid.uuid4().hex[:8]}"
    outputs: dict[str, dict[str, str]] = {
        "data": {
            "ArchiveBucketName": site.bucket,
            "QueueUrl": site.queue.url,
            "DeadLetterQueueUrl": site.dead_letters.url,
        },
        "service": {},
        request.param: {"DatabaseUrl": site.database.url},
    }
    if request.param == "database":
        outputs["service"] = {"DatabaseStackName": f"forebay-{name}-database"}
    cloudformation = emulator.client("cloudformation")
    for role, value in outputs.items():
        cloudformation.create_stack(
            StackName=f"forebay-{name}-{role}", TemplateBody=template(f"{name}-{role}", value)
        )
    yield name
    for role in outputs:
        cloudformation.delete_stack(StackName=f"forebay-{name}-{role}")


def template(name: str, outputs: Mapping[str, str]) -> str:
    """Build a template with these outputs and a queue, since a stack must have a resource."""
    return json.dumps(
        {
            "Resources": {
                "Any": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": f"any-{name}"}}
            },
            "Outputs": {key: {"Value": value} for key, value in outputs.items()},
        }
    )


def somebody(endpoint: str, **more: str) -> Operator:
    """An operator with an account's credentials and no other settings."""
    settings = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_MAX_ATTEMPTS": "1",
    }
    return Operator(ROOT, "", settings | more)


def test_the_name_leads_to_archive_database_and_queues(
    site: Site, emulator: Emulator, deployed: str
) -> None:
    key = site.put(city(1, key=1))
    site.dead_letters.send([build_event(site.bucket, key)])
    operator = somebody(emulator.url)

    result = operator.done("replay", "--env", deployed, "--yes")
    assert (result["objects"], result["applied"]) == (1, 1)
    assert set(site.database.cities()) == {1}
    assert "applied" in operator.run("history", "cities", "1", "--env", deployed).out
    assert key in operator.run("dlq", "list", "--env", deployed).out
    assert operator.done("sweep", "--env", deployed, "--dry-run")["missed"] == 0


def test_an_option_and_a_variable_come_before_the_outputs(
    site: Site, emulator: Emulator, deployed: str
) -> None:
    site.put(city(1, key=1))
    operator = somebody(emulator.url, FOREBAY_ARCHIVE_BUCKET="no-such-bucket")

    assert operator.run("archive", "--env", deployed).code != 0
    assert operator.run("archive", "--env", deployed, "--source", f"s3://{site.bucket}").code == 0


def test_an_environment_that_is_not_deployed_is_named(emulator: Emulator) -> None:
    result = somebody(emulator.url).run("archive", "--env", "nowhere")

    assert result.code == 2
    assert "forebay-nowhere-data" in result.err


def test_a_cloudformation_that_does_not_answer_is_worth_another_try() -> None:
    result = somebody(f"http://127.0.0.1:{free_port()}").run("archive", "--env", "prod")

    assert result.code == 4
    assert "try again" in result.err
